"""A run that waits for a person to choose: what it asks for, what is unknown, the ways on."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from crew.config import Settings, load_settings
from crew.errors import Unrecorded
from crew.event import Event, RunForked, RunParked, from_data, is_known
from crew.run import Run
from serving.gallery import bundled_names

_POLICIES = {
    "fail": "on resume its step fails",
    "retry": "on resume it is repeated",
    "ask": "on resume a person is asked whether it happened",
    "once": "it is never repeated: on resume its agent fails",
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way on: what it does, and the command line."""

    what: str
    command: str


@dataclass(frozen=True, slots=True)
class Parked:
    """Why a run is parked; the sides are empty where nothing differs."""

    reason: str
    path: str
    detail: str
    recorded: str
    asked: str
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """An effect that may have happened; `policy` is what the code declared for that."""

    path: str
    function: str
    policy: str
    key: str

    @property
    def means(self) -> str:
        return _POLICIES[self.policy]


async def to_rest(run: Run, *, since: int, after: int = 0) -> AsyncIterator[Event]:
    """Yield a run's events until it ends, or is parked by an event after offset `since`."""
    async for event in run.events(after):
        yield event
        if event.kind == RunParked.kind and event.offset > since:
            return


def parked(run: str, events: Sequence[Event], settings: Settings) -> Parked | None:
    """Return why a run is parked, and the ways on; None if it is not."""
    if not is_known(events[-1].kind):
        return None
    last = from_data(events[-1].kind, events[-1].path, events[-1].data)
    if not isinstance(last, RunParked):
        return None
    forked = _fork_of(events)
    workflow = events[0].data["workflow"]
    resume = command("resume", run, settings=settings, workflow=workflow)
    fork = command("fork", run, settings=settings, workflow=workflow)
    if last.reason == "poisoned":
        ways = _when_poisoned(resume, fork)
    elif forked is not None and last.reason == Unrecorded.parked_as:
        if forked.overrides:
            words = ("fork", forked.run, "--with", "model=NAME")
            fork = command(*words, settings=settings, workflow=workflow)
        ways = _when_held_back(resume, fork)
    else:
        ways = _when_diverged(resume, fork, events[0].data.get("code", ""))
    cancel = Way("give it up", command("cancel", run, settings=settings))
    recorded = last.recorded + _given(events, last.path)
    return Parked(last.reason, last.path, last.detail, recorded, last.asked, (*ways, cancel))


def lines_of(held: Parked) -> list[str]:
    """Return what a person reads of a parked run."""
    lines = [f"parked ({held.reason})" + (f" at {held.path}" if held.path else "")]
    if held.asked:
        lines += [f"  recorded: {held.recorded}", f"  asked:    {held.asked}"]
    else:
        lines.append(f"  {held.detail}")
    lines.append("choose one:")
    for way in held.ways:
        lines += [f"  {way.what}:", f"    {way.command}"]
    return lines


def unknown_effects(events: Sequence[Event]) -> list[Unknown]:
    """Return the effects and acting tools of which nobody can tell whether they happened."""
    started: dict[str, Unknown] = {}
    unknown: dict[str, Unknown] = {}
    for event in events:
        call, _, phase = event.kind.partition(".")
        if call not in ("effect", "tool"):
            continue
        if phase == "started":
            data = event.data
            name = data.get("function") or data.get("tool") or "?"
            policy = data.get("unknown", "once")
            key = data.get("idempotency_key", "")
            started[event.path] = Unknown(event.path, name, policy, key)
        elif phase == "unknown" and event.path in started:
            unknown[event.path] = started[event.path]
        elif phase != "cancelled":  # that its caller was cancelled does not tell what it did
            unknown.pop(event.path, None)
    return list(unknown.values())


def command(*words: str, settings: Settings, workflow: str = "") -> str:
    """Return a command line to copy; what the settings in force say already is left out."""
    if workflow and workflow not in bundled_names():
        words = (*words, "--workflow", "FILE.py")
    if settings.store != load_settings().store:
        words = (*words, "--store", settings.store)
    return " ".join(["crew", *words])


def _fork_of(events: Sequence[Event]) -> RunForked | None:
    for event in reversed(events):
        if event.kind == RunForked.kind:
            forked = from_data(event.kind, event.path, event.data)
            assert isinstance(forked, RunForked)
            return forked
    return None


def _given(events: Sequence[Event], path: str) -> str:
    """Return what the recorded call at a path was given, where its record says so."""
    for event in events:
        if event.path == path and event.kind.endswith((".started", ".opened")):
            for name in ("input", "arguments", "question"):
                if name in event.data:
                    return f" with {event.data[name]!r:.200}"
    return ""


def _when_diverged(resume: str, fork: str, code: str) -> tuple[Way, ...]:
    old = f"go on with the old code: put back what it began with (code {code}), then"
    new = "go on with this code, in a new run from the point where they part"
    return Way(old, resume), Way(new, fork)


def _when_poisoned(resume: str, fork: str) -> tuple[Way, ...]:
    again = "do it again in a new run, from its records"
    return Way("drive it once more, here", resume), Way(again, fork)


def _when_held_back(resume: str, fork: str) -> tuple[Way, ...]:
    new = "make the call, in a new run from this point"
    recorded = "go on with code that asks for recorded calls alone"
    return Way(new, fork), Way(recorded, resume)
