"""What the Responses API tells of a run is a fold of its events, and of nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from crew.event import Event
from serving.responses.fold import PLACES, ResponseFold

ERROR = {"type": "E", "message": "no"}
TAKEN = ("run.taken", "", {"host": "h", "pid": 1, "epoch": 1})
API_EVENT: TypeAdapter = TypeAdapter(ResponseStreamEvent)


def journal(*events) -> list[Event]:
    """Events of one run, each given as its kind, and its path and data where they matter."""
    started = ("run.started", "", {"workflow": "flow", "version": "1", "thread": "t"})
    padded = [(kind, *rest, "", {})[:3] for kind, *rest in (started, TAKEN, *events)]
    return [Event(n, kind, path, data, 100.0 + n) for n, (kind, path, data) in enumerate(padded, 1)]


def said(path: str, text: str):
    return "text.emitted", path, {"text": text}


def asked(path: str, question: str):
    return "ask.opened", path, {"key": path, "question": question, "schema": {"type": "boolean"}}


def done(output="done"):
    return "run.completed", "", {"output": output, "usage": {"input_tokens": 3, "calls": 1}}


def take(events, after: int = 0) -> tuple[ResponseFold, list[dict]]:
    fold = ResponseFold(run="r1", id="resp_r1", is_mine=lambda to: to is None, after=after)
    told = [item for event in events for item in fold.take(event)]
    for item in told:
        API_EVENT.validate_python(item)
    Response.model_validate(fold.response())
    return fold, told


def kinds(told) -> list[str]:
    return [item["type"].removeprefix("response.") for item in told]


def texts(fold: ResponseFold) -> list[str]:
    output = fold.response()["output"]
    return [item["content"][0]["text"] for item in output if item["type"] == "message"]


def test_text_is_told_as_one_message():
    fold, told = take(journal(said("a", "one "), said("a", "two"), done()))

    assert kinds(told) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert texts(fold) == ["one two"]


def test_numbers_say_which_event_of_the_journal_was_told():
    _, told = take(journal(said("a", "one"), done()))

    assert [divmod(item["sequence_number"], PLACES) for item in told] == [
        (1, 0),
        (2, 0),
        *((3, place) for place in range(3)),
        *((4, place) for place in range(4)),
    ]


def test_run_that_emitted_nothing_is_told_by_its_output():
    fold, _ = take(journal(done({"text": "all of it"})))

    assert texts(fold) == ["all of it"]


def test_run_that_was_asked_for_json_is_told_by_its_output_alone():
    events = journal(said("a", "thinking aloud"), ("text.discarded", "a"), done({"text": "x"}))
    events[0].data["metadata"] = {"response": {"format": {"type": "json_object"}}}
    fold, _ = take(events)

    assert texts(fold) == ['{"text":"x"}']
    assert fold.response()["text"] == {"format": {"type": "json_object"}}


def test_progress_is_a_reasoning_summary_until_the_answer_begins():
    progress = ("progress.made", "a", {"text": "thinking"})
    fold, told = take(journal(("step.started", "a"), progress, said("a", "x"), progress, done()))
    [reasoning, message] = fold.response()["output"]

    assert reasoning["summary"] == [{"type": "summary_text", "text": "▸ a\n  thinking\n"}]
    assert message["content"][0]["text"] == "x"
    assert kinds(told).count("reasoning_summary_text.delta") == 2


def test_text_that_is_taken_back_closes_its_item_and_a_new_one_begins_with_the_rest():
    events = journal(
        said("a/model.0", "bad "),
        said("b", "kept "),
        ("text.discarded", "a"),
        said("a", "good"),
        done(),
    )
    fold, told = take(events)
    closed = [item["item"] for item in told if item["type"] == "response.output_item.done"]

    assert [(item["status"], item["content"][0]["text"]) for item in closed] == [
        ("incomplete", "bad kept "),
        ("completed", "kept good"),
    ]
    assert texts(fold) == ["kept good"]


def test_text_beside_the_path_that_is_taken_back_stays():
    fold, _ = take(journal(said("ab", "kept"), ("text.discarded", "a"), done()))

    assert texts(fold) == ["kept"]


def test_what_stays_keeps_its_order_across_a_question():
    taken = ("text.discarded", "a")
    events = journal(said("a", "x"), said("c", "y"), asked("q", "?"), said("c", "z"), taken, done())

    assert texts(take(events)[0]) == ["?", "yz"]


def test_everything_taken_back_leaves_the_output_to_tell():
    fold, _ = take(journal(said("a", "bad"), ("text.discarded", "a"), done("good")))

    assert texts(fold) == ["good"]


def test_question_is_a_message_of_its_own_that_names_its_key():
    fold, _ = take(journal(said("a", "Look: "), asked("a/refund", "Refund?")))
    asks = fold.response()["output"][1]["crew"]["questions"]

    assert texts(fold) == ["Look: ", "Refund?"]
    assert (asks[0]["key"], asks[0]["question"]) == ("a/refund", "Refund?")
    assert fold.response()["status"] == "in_progress"


def test_run_that_waits_for_a_person_completes_the_response_for_now():
    fold, told = take(journal(asked("a", "Refund?")))
    pause = fold.pause({})
    API_EVENT.validate_python(pause)

    assert pause["response"]["status"] == "completed"
    assert pause["response"]["crew"]["status"] == "waiting"
    assert told[-1]["sequence_number"] < pause["sequence_number"] == 3 * PLACES + 63


def test_answer_begins_a_response_that_holds_what_came_behind_it():
    events = journal(said("a", "Look: "), asked("a", "Refund?"), ("ask.answered", "a"), done("ok"))
    fold, told = take(events, after=4)

    assert kinds(told)[:2] == ["created", "in_progress"]
    assert texts(fold) == ["ok"]
    assert fold.response()["previous_response_id"] == "resp_r1"


def test_question_that_is_still_open_is_asked_again_behind_an_answer():
    events = journal(asked("a", "First?"), asked("b", "Second?"), ("ask.answered", "a"))
    fold, _ = take(events, after=4)

    assert texts(fold) == ["Second?"]


def test_answer_that_is_none_has_its_question_asked_again():
    refused = ("ask.refused", "a", {"reason": "no boolean"})
    fold, _ = take(journal(asked("a", "Refund?"), refused), after=3)

    assert texts(fold) == ["Refund?"]


@pytest.mark.parametrize(
    ("end", "status", "kind"),
    [
        (("run.failed", "", {"error": {"type": "E", "message": "no"}}), "failed", "failed"),
        (("run.cancelled",), "cancelled", "incomplete"),
    ],
)
def test_end_without_an_answer_is_told(end, status, kind):
    fold, told = take(journal(said("a", "half"), end))
    response = fold.response()

    assert (response["status"], kinds(told)[-1]) == (status, kind)
    assert response["output"][0]["status"] == "incomplete"
    assert (response["error"] or {}).get("message") == ("E: no" if status == "failed" else None)


def test_parked_run_is_incomplete_and_says_why():
    fold, _ = take(journal(("run.parked", "a", {"reason": "diverged", "detail": "x is not y"})))
    response = fold.pause({})["response"]

    assert response["status"] == "incomplete"
    assert "diverged: x is not y" in response["error"]["message"]


def test_turn_that_waits_for_an_earlier_one_is_queued():
    fold, told = take(journal()[:1])

    assert fold.response()["status"] == "queued"
    assert kinds(told) == ["created"]


PATHS = st.sampled_from(["a", "a/b", "a/b/c", "ab", "c"])
HAPPENINGS = st.one_of(
    st.builds(said, PATHS, st.text(max_size=5)),
    st.builds(asked, PATHS, st.text(max_size=5)),
    st.tuples(st.sampled_from(["text.discarded", "ask.answered", "step.started"]), PATHS),
    st.tuples(st.just("ask.failed"), PATHS, st.just({"error": ERROR})),
    st.tuples(st.just("ask.refused"), PATHS, st.just({"reason": "no bool"})),
    st.tuples(st.just("run.parked"), PATHS, st.just({"reason": "diverged", "detail": "no"})),
)
ENDINGS = st.sampled_from([done(), ("run.failed", "", {"error": ERROR}), ("run.cancelled",)])
JOURNALS = st.builds(
    lambda middle, end: journal(*middle, end), st.lists(HAPPENINGS, max_size=20), ENDINGS
)


def answer_of(events) -> str:
    """The answer as a reader of the journal puts it together."""
    pieces: list[tuple[str, str]] = []
    for event in events:
        if event.kind == "text.emitted":
            pieces.append((event.path, event.data["text"]))
        if event.kind == "text.discarded":
            gone = event.path
            pieces = [(p, t) for p, t in pieces if p != gone and not p.startswith(f"{gone}/")]
    return "".join(text for _, text in pieces)


@settings(max_examples=150, deadline=None)
@given(JOURNALS, st.data())
def test_cut_anywhere_the_stream_goes_on_with_exactly_the_rest(events, data):
    _, whole = take(events)
    numbers = [item["sequence_number"] for item in whole]
    last = data.draw(st.sampled_from(numbers))
    first = [item for item in whole if item["sequence_number"] <= last]
    _, again = take(events)

    assert numbers == sorted(set(numbers))
    assert first + [item for item in again if item["sequence_number"] > last] == whole


@settings(max_examples=150, deadline=None)
@given(JOURNALS)
def test_response_holds_the_text_that_was_not_taken_back(events):
    fold, _ = take(events)
    output = [item for item in fold.response()["output"] if item["type"] == "message"]
    answer = "".join(item["content"][0]["text"] for item in output if "crew" not in item)
    expected = answer_of(events)
    ends_well = events[-1].kind == "run.completed"

    assert answer == (expected or ("done" if ends_well else ""))


@settings(max_examples=150, deadline=None)
@given(JOURNALS)
def test_every_item_that_is_opened_is_closed_once_with_the_text_of_its_deltas(events):
    _, told = take(events)
    deltas: dict[int, str] = {}
    for item in told:
        if item["type"].endswith("text.delta"):
            place = item["output_index"]
            deltas[place] = deltas.get(place, "") + item["delta"]
    ended = {i["output_index"]: i["text"] for i in told if i["type"].endswith("text.done")}

    assert deltas == ended
    assert kinds(told).count("output_item.added") == kinds(told).count("output_item.done")


@settings(max_examples=150, deadline=None)
@given(JOURNALS)
def test_official_client_puts_together_whatever_comes(events):
    fold, told = take(events)
    client = ResponseStreamState(input_tools=omit, text_format=omit)
    for item in told:
        client.handle_event(API_EVENT.validate_python(item))

    final = client._completed_response
    assert (final is not None) == (fold.status == "completed")
    if final is not None:
        assert [item.id for item in final.output] == [i["id"] for i in fold.response()["output"]]
