"""What events come to, reducer by reducer."""

import pytest

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
    Remarks,
    Steps,
    Tally,
    Text,
    fold,
    folded,
    is_newer,
    progress_line,
    typed_of,
)

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
