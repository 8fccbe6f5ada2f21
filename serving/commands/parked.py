"""A run that waits for a person to choose: what it asks for, what is unknown, the ways on."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from crew.config import Settings, load_settings
from crew.errors import EFFECTS_REFUSED, Unrecorded
from crew.fold import Act, Acts, Ending, Event, Origin, fold, folded, is_newer, is_parking
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


async def to_rest(run: Run, *, since: int, after: int = 0) -> AsyncIterator[Event]:
    """Yield a run's events until it ends, or is parked by an event after offset `since`."""
    async for event in run.events(after):
        yield event
        if is_parking(event) and event.offset > since:
            return


def parked(run: str, events: Sequence[Event], settings: Settings) -> Parked | None:
    """Return why a run is parked, and the ways on; None if it is not."""
    if is_newer(events[-1]):
        return None
    origin, ending = Origin(), Ending()
    fold(events, origin, ending)
    if (last := ending.parked) is None:
        return None
    forked, workflow = origin.forked, origin.workflow
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
        ways = _when_diverged(resume, fork, origin.code)
    cancel = Way("give it up", command("cancel", run, settings=settings))
    recorded = last.recorded + (f" with {last.given}" if last.given else "")
    asked = last.asked + (EFFECTS_REFUSED if last.effects_refused else "")
    return Parked(last.reason, last.path, last.detail, recorded, asked, (*ways, cancel))


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


def unknown_effects(events: Sequence[Event]) -> list[Act]:
    """Return the effects and acting tools of which nobody can tell whether they happened."""
    return list(folded(events, Acts()).unknown.values())


def meaning_of(effect: Act) -> str:
    """Return what becomes of an unknown effect, as its code declared."""
    return _POLICIES[effect.policy]


def command(*words: str, settings: Settings, workflow: str = "") -> str:
    """Return a command line to copy; what the settings in force say already is left out."""
    if workflow and workflow not in bundled_names():
        words = (*words, "--workflow", "FILE.py")
    if settings.store != load_settings().store:
        words = (*words, "--store", settings.store)
    return " ".join(["crew", *words])


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
