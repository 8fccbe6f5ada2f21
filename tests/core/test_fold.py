"""What events come to, reducer by reducer."""

from types import SimpleNamespace

import pytest

import crew.fold
from crew.event import Event
from crew.fold import (
    Acts,
    Agents,
    Answer,
    Costs,
    Deadlines,
    Ending,
    Origin,
    Questions,
    QuestionsAsked,
    Records,
    Remarks,
    Results,
    Spans,
    Steps,
    Tally,
    Text,
    WorkUnderWay,
    fold,
    folded,
    is_newer,
    progress_line,
    typed_of,
)
from crew.fold.past import Past
from crew.fold.paths import places_around
from crew.fold.spoken import Spoken

ERROR = {"type": "E", "message": "no"}
TAKEN = ("run.taken", "", {"host": "h", "pid": 7, "epoch": 2})


def journal(*events) -> list[Event]:
    """Events by their kinds, and their paths and data where they matter; a second apart."""
    padded = [(*event, "", {})[:3] if len(event) != 2 else (*event, {}) for event in events]
    return [Event(n, kind, path, data, float(n)) for n, (kind, path, data) in enumerate(padded, 1)]


def asked(path: str):
    return "ask.opened", path, {"key": path, "question": f"{path}?", "schema": {"type": "string"}}


def test_events_of_a_newer_release_are_passed_over():
    events = journal(("step.paused", "a"), ("step.started", "a"))
    assert [is_newer(event) for event in events] == [True, False]
    assert list(folded(events, Steps()).all) == ["a"]


@pytest.mark.parametrize("end", ["ask.answered", "ask.failed", "ask.cancelled"])
def test_a_question_is_open_until_it_has_an_end(end):
    data = {"value": "x"} if end == "ask.answered" else {"error": ERROR}
    events = journal(
        asked("a"), asked("b"), ("ask.refused", "a", {"reason": "no"}), (end, "b", data)
    )
    assert list(folded(events, Questions()).open) == ["a"]


def test_what_became_of_an_answer_is_told_by_the_events_of_its_question():
    events = journal(asked("a"), ("ask.refused", "a", {"reason": "no text"}))
    assert folded(events, Answer("a")).reason == "no text"
    assert folded(journal(("ask.cancelled", "a")), Answer("a")).state == "closed"
    answered = folded(journal(("ask.answered", "a", {"value": 1})), Answer("a"))
    assert (answered.state, answered.value) == ("answered", 1)
    assert folded(journal(("ask.answered", "b", {"value": 1})), Answer("a")).state == "open"


def test_text_is_taken_back_at_a_place_and_beneath_it():
    texts = [("text.emitted", path, {"text": path}) for path in ("a", "a/b", "ab", "c")]
    text = folded(journal(*texts, ("text.discarded", "a")), Text())
    assert str(text) == "abc"
    assert text.void == {1, 2}


def test_a_run_stands_as_its_newest_event_says():
    parked = ("run.parked", "a", {"reason": "diverged", "detail": "d"})
    ending = Ending()
    fold(journal(parked), ending)
    assert (ending.kind, ending.is_final) == ("parked", False)
    fold(journal(TAKEN), ending)
    assert (ending.kind, ending.parked) == ("open", None)
    fold(journal(("run.cancelled", "", {"usage": {"calls": 2}})), ending)
    assert (ending.kind, ending.is_final, ending.usage) == ("cancelled", True, {"calls": 2})


def test_a_run_knows_what_it_was_started_with_and_where_it_was_forked():
    started = {"workflow": "w", "version": "1", "input": 3, "metadata": {"a": 1}}
    events = journal(("run.started", "", started), ("run.forked", "", {"run": "r0", "at": 1}))
    origin = folded(events, Origin())
    assert (origin.workflow, origin.input, origin.metadata, origin.at) == ("w", 3, {"a": 1}, 1.0)
    assert (origin.forked.run, origin.forked_at) == ("r0", 2)


def test_all_that_was_asked_is_told_and_to_others_for_whom_it_waits():
    to_eva = ("ask.opened", "b", {"key": "b", "question": "Refund?", "to": "eva"})
    events = journal(asked("a"), ("ask.answered", "a", {"value": "x"}), to_eva)
    first, second = folded(events, QuestionsAsked()).all
    assert (first.question, first.to, first.offset) == ("a?", None, 1)
    assert (second.question, second.waiting_for) == ("Refund?", "waiting for eva")


def test_a_call_takes_until_its_end_or_until_now():
    events = journal(("step.started", "a"), ("effect.started", "a/b"), ("effect.completed", "a/b"))
    steps = folded(events, Steps()).all
    assert (steps["a/b"].seconds_by(9.0), steps["a"].seconds_by(9.0)) == (1.0, 8.0)
    assert steps["a"].seconds_by(0.0) == 0.0


def test_a_request_that_broke_off_counts_for_the_call_that_is_made_again():
    lost = {"lost": {"input_tokens": 5, "output_tokens": 2}}
    started = [("model.started", "m"), ("model.started", "m", lost)]
    assert folded(journal(*started), Steps()).all["m"].tokens == 7


def test_what_a_fork_stands_on_is_reused_and_what_comes_later_is_its_own():
    forked = ("run.forked", "", {"run": "r0", "at": 2})
    events = journal(("step.started", "a"), ("step.completed", "a"), forked, ("step.started", "b"))
    assert [it.is_reused for it in folded(events, Steps()).all.values()] == [True, False]


def test_what_a_cancelled_step_was_doing_ends_with_it():
    events = journal(("step.started", "a"), ("model.started", "a/m"), ("step.cancelled", "a"))
    steps = folded(events[:2], Steps())
    assert [it.path for it in steps.under_way()] == ["a", "a/m"]
    failed = Event(3, "step.failed", "a", {"error": ERROR, "attempt": 1, "final": True}, 3.0)
    fold([failed], steps)
    assert [(it.state, it.ended) for it in steps.all.values()] == [
        ("failed", 3.0),
        ("cancelled", 3.0),
    ]


def test_calls_have_the_states_that_their_events_say():
    events = journal(
        ("tool.started", "a"),
        ("tool.unknown", "a"),
        ("effect.started", "b"),
        ("effect.failed", "b", {"error": ERROR}),
        ("agent.started", "c", {"agent": "x", "host": "h", "pid": 7}),
        ("agent.started", "c", {"agent": "x", "host": "h", "pid": 8}),
        ("function.completed", "d"),
    )
    steps = folded(events, Steps())
    assert [it.state for it in steps.all.values()] == ["unknown", "failed", "again", "completed"]
    assert steps.all["c"].place == ("h", 8)
    assert [start.pid for start in folded(events, Agents()).starts] == [7, 8]


def test_an_act_is_unknown_until_its_end_is_known():
    effect = ("effect.started", "a", {"function": "pay", "unknown": "ask", "idempotency_key": "k"})
    unknown = [effect, ("effect.unknown", "a"), ("effect.cancelled", "a")]
    (act,) = folded(journal(*unknown), Acts()).unknown.values()
    assert (act.function, act.policy, act.key) == ("pay", "ask", "k")
    assert not folded(journal(*unknown, ("effect.completed", "a")), Acts()).unknown


def test_a_tool_that_only_reads_is_no_act():
    tools = [("tool.started", name, {"tool": name, "effect": name}) for name in ("read", "once")]
    assert folded(journal(*tools), Acts()).acting == ["once"]


def test_a_call_that_is_made_twice_is_counted():
    model = ("model.started", "a/m")
    tally = folded(journal(model, TAKEN, TAKEN, model, ("model.completed", "a/m"), model), Tally())
    assert (tally.recorded, tally.in_flight, tally.repeated, tally.taken) == (1, 1, 1, 1)
    assert folded(journal(model, ("model.cancelled", "a/m"), model), Tally()).in_flight == 0


def test_a_fork_did_not_pay_for_what_its_base_did():
    model = ("model.completed", "m", {"usage": {"calls": 1, "input_tokens": 2, "output_tokens": 3}})
    cost = folded(journal(model, ("run.forked", "", {"run": "r", "at": 1}), model), Costs()).cost
    assert (cost.calls, cost.tokens, cost.all_calls, cost.all_tokens) == (1, 5, 2, 10)


def test_a_deadline_that_counts_driven_time_is_put_off_by_a_gap():
    events = journal(
        ("deadline.started", "s/a", {"until": 5.0, "driven": True}),
        ("deadline.started", "s/b", {"until": 5.0, "driven": False}),
        ("deadline.started", "s/c", {"until": 5.0, "driven": True}),
        ("deadline.passed", "s/c"),
        ("run.taken", "", {**TAKEN[2], "gap": 2.0}),
    )
    deadlines = folded(events, Deadlines())
    assert {path: deadlines.until(path) for path in deadlines} == {"s/a": 7.0, "s/b": 5.0}
    again = Deadlines()
    again.load(deadlines.to_data())
    assert again == deadlines
    again.drop("s")
    assert not list(again)
    fold(journal(("run.forked", "", {"run": "r", "at": 1})), deadlines)
    assert not list(deadlines)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (("step.started", "a"), "▸ a\n"),
        (
            ("step.failed", "a", {"error": ERROR, "attempt": 1, "final": False}),
            "✗ a: no; trying again\n",
        ),
        (("agent.started", "a/w", {"agent": "w"}), "  w\n"),
        (("tool.started", "a/t", {"tool": "t", "arguments": {"x": 1}}), '  t {"x": 1}\n'),
        (("tool.started", "a/t", {"tool": "t", "arguments": "y" * 200}), f'  t "{"y" * 119}…\n'),
        (("child.started", "a/c"), "▸ a/c (a run of its own)\n"),
        (("model.failed", "a/m", {"error": ERROR}), "  ✗ a/m: no\n"),
        (("progress.made", "a", {"text": "half"}), "  half\n"),
        (("run.driven",), ""),
        (TAKEN, ""),
    ],
)
def test_a_line_says_what_happens(event, line):
    (only,) = journal(event)
    assert progress_line(typed_of(only), only.offset) == line


def test_a_take_over_is_told_from_the_first_take():
    events = journal(("run.driven",), TAKEN, TAKEN)
    assert [progress_line(typed_of(event), event.offset) for event in events][1:] == [
        "",
        "  another worker goes on with this run\n",
    ]
    remarks = Remarks()
    lines = [remarks.apply(typed_of(event), event.offset, event.at) for event in events]
    assert lines == ["", "driven by process 7 on h", "taken over by process 7 on h"]


def test_a_screen_is_told_of_progress_and_questions():
    remarks = Remarks()
    told = journal(("progress.made", "a/x", {"text": "half"}), asked("q"))
    lines = [remarks.apply(typed_of(event), event.offset, event.at) for event in told]
    assert lines == ["a: half", "asks: q? (crew answer RUN q VALUE)"]
    assert remarks.progress == "half"


@pytest.mark.parametrize(
    "reducer",
    [Acts, Agents, Costs, Deadlines, Origin, Past, Questions, Records, Results, Steps, Tally, Text],
)
def test_what_is_none_of_its_concern_leaves_a_reducer_as_it_is(reducer):
    awaited = ("quorum.awaited", "q", {"scope": 1, "until": 2.0})
    folding = folded(journal(("run.driven",), awaited), reducer())
    fresh = reducer()
    assert folding == fresh or folding.to_data() == fresh.to_data()


def test_a_cancelled_call_and_the_end_of_a_run_end_what_is_under_way():
    agent = ("agent.started", "a/w", {"agent": "w"})
    started = [("step.started", "a"), agent, ("step.started", "b")]
    steps = folded(journal(*started, ("agent.cancelled", "a/w"), ("step.completed", "b")), Steps())
    assert [it.state for it in steps.all.values()] == ["running", "cancelled", "completed"]
    fold(journal(("run.cancelled",)), steps)
    assert not list(steps.under_way())


def test_the_past_of_a_run_tells_which_steps_ended_and_what_fired_early():
    failed = {"error": ERROR, "attempt": 2, "final": True}
    over = {"error": {"type": "BudgetExceeded", "message": "over"}}
    events = journal(
        ("step.completed", "a~2", {"output": 1}),
        ("quorum.reached", "q", {"scope": 1}),
        ("step.failed", "b~2", failed),
        ("run.failed", "", over),
    )
    past = folded(events, Past())
    assert (past.ended, past.quorums) == ({"a", "b"}, {"q": {"a"}})
    assert past.is_out_of_time


def test_a_record_says_what_its_call_was_given():
    tool = {"tool": "t", "arguments": {"x": 1}, "fingerprint": "f"}
    ended = [("tool.unknown", "s/t"), ("value.completed", "s/v")]
    records = folded(journal(("tool.started", "s/t", tool), *ended), Records())
    assert (records.get("s/t").state, records.get("s/t").given) == ("unknown", "{'x': 1}")
    assert records.get("s/v").given == ""


def happened(*events) -> list[object]:
    """What follows from events of one run, as metrics and spans are made of it."""
    row = SimpleNamespace(id="r", created_at=0.0)
    under_way, found = WorkUnderWay(row), list[object]()
    for event in journal(*events):
        typed = typed_of(event)
        found.append(under_way.follow(event.at, typed))
        found += under_way.more(event.at, typed)
    return [item for item in found if item is not None]


def test_work_is_paired_from_its_start_to_its_end():
    model = ("model.started", "s/w/m", {"model": "big"})
    agent = ("agent.started", "s/w", {"agent": "w"})
    text = ("text.emitted", "s/w/m", {"text": "x", "streamed": True})
    first, unknown, outer = happened(
        ("step.started", "s"), agent, model, model, text, text, ("model.unknown", "s/w/m"),
        ("agent.cancelled", "s/w"), asked("s/q"), ("ask.answered", "s/q", {"value": 1}),
        ("tool.completed", "t"),
    )  # fmt: skip
    assert first == ("big", 2.0)
    assert (unknown.outcome, unknown.parent, unknown.seconds) == ("unknown", "s/w", 4.0)
    assert (outer.outcome, outer.parent) == ("cancelled", "s")


def test_a_refusal_is_told_once_and_a_parked_run_as_trouble():
    refused = {"error": {"type": "BudgetExceeded", "message": "over"}}
    agent = [("agent.started", "s/w", {"agent": "w"}), ("agent.failed", "s/w", refused)]
    failed = ("step.failed", "s", {**refused, "attempt": 1, "final": True})
    parked = ("run.parked", "s", {"reason": "diverged", "detail": "d"})
    found = happened(*agent, failed, parked, ("run.failed", "", refused))
    kinds = [type(item).__name__ for item in found]
    assert kinds == ["Work", "Refusal", "Trouble", "Trouble", "Work", "Refusal"]
    assert found[3].facts == {"reason": "diverged", "path": "s"}


def test_what_was_reported_before_is_known_alone():
    under_way = WorkUnderWay(SimpleNamespace(id="r", created_at=0.0))
    inner = [("agent.started", "w", {"agent": "w"}), ("tool.started", "w/t"), asked("q")]
    for event in journal(*inner, ("agent.cancelled", "w")):
        under_way.know(event.at, typed_of(event))
    assert under_way.asks == {"q"}
    (late,) = journal(("tool.completed", "w/t"))
    assert under_way.follow(9.0, typed_of(late)) is None


def test_places_around_a_call_are_those_that_it_lies_within_and_what_these_are_tries_at():
    assert list(places_around("a~2/b~3/c")) == ["a~2/b~3", "a~2/b", "a~2", "a"]


def test_fold_has_what_it_names_and_nothing_else():
    assert crew.fold.Spans is not None
    with pytest.raises(AttributeError, match="no attribute 'Spam'"):
        getattr(crew.fold, "Spam")  # noqa: B009


def test_what_is_tried_again_within_a_second_attempt_is_within_that():
    events = journal(
        ("step.started", "a"),
        ("step.started", "a~2"),
        ("agent.started", "a~2/b", {"agent": "b"}),
        ("model.started", "a~2/b~3/model.0"),
    )
    (first, second) = folded(events, Spans()).tree("flow").children
    assert (first.path, first.children) == ("a", ())
    assert [each.path for each in second] == ["a~2", "a~2/b", "a~2/b~3/model.0"]


def test_what_is_said_to_tools_is_told_of_one_agent_alone():
    call = {"role": "assistant", "tool_calls": [{"id": "1", "name": "look", "arguments": {}}]}
    said = {"messages": [{"role": "user", "content": "hello"}, call]}
    events = journal(
        ("step.started", "a"),
        ("agent.started", "a/b", {"agent": "b"}),
        ("agent.completed", "a/b", said),
        ("agent.started", "a/c", {"agent": "c"}),
        ("agent.completed", "a/c", said),
    )
    assert folded(events, Spoken("b")).messages == [call]
