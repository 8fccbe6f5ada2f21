"""Events as they are stored."""

from typing import Any

import pytest

from crew.errors import NewerEvent
from crew.event import (
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallStarted,
    CallUnknown,
    Failure,
    QuorumAwaited,
    RunForked,
    RunStarted,
    StepCompleted,
    StepFailed,
    from_data,
    is_known,
    to_data,
)

FAILURE = Failure("ValueError", "no", "a[0]", "a trace", {"class": ["builtins", "ValueError"]})


@pytest.mark.parametrize("kind", ["step.paused", "model.paused", "nothing"])
def test_a_kind_that_this_release_does_not_know_is_named(kind):
    assert not is_known(kind)
    with pytest.raises(NewerEvent, match=f"of the unknown kind '{kind}'") as raised:
        from_data(kind, "a[0]", {})
    assert raised.value.path == "a[0]"


@pytest.mark.parametrize(
    "event",
    [
        RunStarted("w", "1", None, budget=5, budget_calls=2, budget_seconds=1.5),
        RunForked("r1", 3, live=False, reuse=True, effects=False, before=2, budget=4),
        StepCompleted("a[0]", {"n": 1}, {"total": 2}),
        StepCompleted("a[0]", None),
        StepFailed("a[0]", FAILURE, 2, final=False, until=7.5),
        QuorumAwaited("a", 3, 7.5),
        CallStarted("a[0]/f", "model", {"model": "m"}),
        CallCompleted("a[0]/f", "function", {"result": 1}),
        CallFailed("a[0]/f", "model", FAILURE, {"input_tokens": 3}, 2),
        CallFailed("a[0]/f", "model", FAILURE),
        CallUnknown("a[0]/f", "effect"),
        CallCancelled("a[0]/f", "child", by_end=True),
        CallCancelled("a[0]/f", "child"),
    ],
    ids=lambda event: event.kind,
)
def test_an_event_is_what_it_was_when_it_is_read(event: Any):
    assert is_known(event.kind)
    read = from_data(event.kind, getattr(event, "path", ""), to_data(event))
    assert read == event
    assert to_data(read) == to_data(event)
