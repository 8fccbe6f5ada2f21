"""What `crew show` draws of a run: the tree of its steps and calls."""

import io

from rich.console import Console

from crew.event import Event
from serving.commands.screen import Progress


def drawn(*events: tuple[str, str]) -> list[str]:
    progress = Progress()
    for second, (kind, path) in enumerate(events, 1):
        error = {"error": {"message": "no"}} if kind.endswith("failed") else {}
        progress.add(Event(second, kind, path, error, at=float(second)))
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        console.print(progress.tree("run"))
    return [line.strip("│├└─ ") for line in captured.get().splitlines()][1:]


AGENT = [("step.started", "a[0]"), ("agent.started", "a[0]/=b"), ("model.started", "a[0]/=b/m")]


def test_cancelled_call_is_no_failure():
    assert drawn(*AGENT, ("model.completed", "a[0]/=b/m"), ("agent.cancelled", "a[0]/=b"))[1:] == [
        "∅ =b · 3.0 s",
        "✓ m · 1.0 s",
    ]


def test_what_a_cancelled_agent_was_doing_has_ended_with_it():
    assert drawn(*AGENT, ("agent.cancelled", "a[0]/=b"))[1:] == ["∅ =b · 2.0 s", "∅ m · 1.0 s"]


def test_nothing_is_under_way_in_a_run_that_has_ended():
    assert drawn(*AGENT, ("run.completed", "")) == [
        "∅ a[0] · 3.0 s",
        "∅ =b · 2.0 s",
        "∅ m · 1.0 s",
    ]


def test_text_that_was_taken_back_is_not_shown():
    progress = Progress()
    told = [
        ("text.emitted", "a", "bad"),
        ("text.emitted", "b", "kept"),
        ("text.discarded", "a", ""),
    ]
    for offset, (kind, path, text) in enumerate(told, 1):
        progress.add(Event(offset, kind, path, {"text": text} if text else {}))
    assert progress.text == "kept"


def test_a_call_that_is_made_again_after_a_crash_is_marked():
    events = [*AGENT, ("model.started", "a[0]/=b/m")]
    assert drawn(*events)[-1].startswith("↻ m")
