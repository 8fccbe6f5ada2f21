"""What the runtimes that share a store tell each other, so that none waits for its next look.

A notice is a hint. Nobody waits for one, it may be lost or come twice, and whoever gets none finds
by looking what it was about. Each runtime has a name; what it says is one of:

- `here`: it has come, whether it drives runs, and of which workflows it takes some.
- `take`: a run is there for you to drive, or there is something for it in its inbox.
- `adopt`: a run was started in your name.
- `look`: if you drive this run, there is something in its inbox.
- `follow`: if you drive this run, say when it has events after an offset, or its end.
- `grown`: a run that you follow has grown, or is driven here from now on.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context as Variables
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

from crew.graph import Workflow
from crew.journal import RunRow
from crew.journal.bell import Bell
from crew.message import Json
from crew.run.followers import Followers

Notice: TypeAlias = Sequence[Json]
Reason = Literal["look", "take", "adopt"]
REASONS: tuple[Reason, ...] = get_args(Reason)
Say: TypeAlias = Callable[[Sequence[Notice]], bool]
"""Says something to another runtime; False if it is not there any more."""

MOST_SAID = 500
"""Notices in one datagram."""
MOST_KEPT = 1024
"""Runs that nobody took yet, of which others are told when they come."""

logger = logging.getLogger(__name__)


class Listener(Protocol):
    """What is done with what is heard."""

    followers: Followers

    def serves(self) -> list[tuple[str, str]] | None:
        """Return names and versions of the workflows it takes runs of; None: it drives none."""
        ...

    def attend(self, number: int, why: Reason) -> None:
        """See to a run soon: take or adopt it, or look at its inbox if it is driven here."""
        ...


@dataclass(slots=True)
class _Other:
    """Another runtime, and what it said of itself."""

    say: Say
    drives: bool = False
    serves: frozenset[tuple[str, str]] = frozenset()


class Elsewhere:
    """The other runtimes.

    Args:
        listener: this one.
        name: its own.
    """

    def __init__(self, listener: Listener, name: str) -> None:
        self.name = name
        self._listener = listener
        self._bell: Bell | None = None
        self._others: dict[str, _Other] = {}
        self._said: dict[str, list[Notice]] = {}
        self._saying: asyncio.Handle | None = None
        self._untaken: OrderedDict[int, tuple[str, str]] = OrderedDict()
        """Runs for which nobody was there, by their numbers, and their workflows."""

    def open(self, bells: Path | None) -> None:
        """Hear others of this machine from now on; they are in a folder, if there can be any."""
        followers = self._listener.followers
        followers.ask, followers.tell = self.follow, self._grown
        if bells is None:
            return
        try:
            self._bell = Bell(bells, self.name, self._heard)
        except OSError as error:
            hint = "what other processes write is found by looking for it"
            logger.warning("bell.missing", extra={"error": str(error), "hint": hint})
            return
        for name in self._bell.others():
            self._meet(name)

    def close(self) -> None:
        """Say what is still to be said, and hear nothing more."""
        self._say_all()
        if self._bell is not None:
            self._bell.close()
            self._bell = None
        self._others.clear()

    def introduce(self) -> None:
        """Say what this runtime is, since it has changed."""
        self._tell(self._others, self._here())

    def only_host(self, workflow: Workflow) -> str | None:
        """Return the one that takes runs of a workflow, if it is the only one."""
        kind = (workflow.name, workflow.version)
        hosts = [name for name, other in self._others.items() if kind in other.serves]
        return hosts[0] if len(hosts) == 1 else None

    def knows(self, name: str | None) -> bool:
        """Return whether another one can be told things."""
        return name in self._others

    def offer(self, row: RunRow, to: str | None = None) -> None:
        """Have a run driven that nobody drives: by the one that it names, or by one of the others.

        Args:
            row: the run.
            to: the one that is to drive it, if it matters.
        """
        if row.owner is not None and self.knows(row.owner):
            self._tell((row.owner,), ("adopt", row.number))
        elif to is None:
            self._offer(row.number, (row.workflow, row.version))
        elif self.knows(to):
            self._tell((to,), ("take", row.number, row.workflow, row.version))

    def post(self, row: RunRow) -> None:
        """Let whoever drives a run look at its inbox."""
        self._tell(self._drivers(), ("look", row.number))

    def follow(self, number: int, after: int, to_end: bool) -> None:
        """Ask to be told when a run has events after an offset, or its end."""
        self._tell(self._drivers(), ("follow", number, after, to_end))

    def taken(self, number: int) -> None:
        """Let those who follow a run know that it is driven here from now on."""
        self._tell(self._others, ("grown", number))

    def hear(self, name: str, notices: Sequence[Notice], say: Say) -> None:
        """Act upon what another one said, which hears what one has to `say`."""
        if name not in self._others:
            self._others[name] = _Other(say)
            self._tell((name,), self._here())
        for notice in notices:
            self._act(name, notice)

    def lose(self, name: str) -> None:
        """Forget another one, which is gone."""
        self._others.pop(name, None)

    def _act(self, name: str, notice: Notice) -> None:
        listener = self._listener
        match notice:
            case ["here", bool(drives), [*serves]]:
                self._know(self._others[name], drives, serves)
            case ["take", int(number), _, _]:
                listener.attend(number, "take")
            case ["look" | "adopt" as why, int(number)]:
                listener.attend(number, why)
            case ["follow", int(number), int(after), bool(to_end)]:
                listener.followers.follow_afar(name, number, after, to_end=to_end)
            case ["grown", int(number)]:
                listener.followers.wake(number)
            case _:
                logger.warning("notice.unknown", extra={"notice": repr(notice)[:100]})

    def _know(self, other: _Other, drives: bool, serves: Iterable[Sequence[str]]) -> None:
        is_new = drives and not other.drives
        other.drives = drives
        other.serves = frozenset((name, version) for name, version in serves)
        for number, workflow in list(self._untaken.items()):
            if workflow in other.serves:
                del self._untaken[number]
                self._offer(number, workflow)
        if is_new:
            self._listener.followers.wake_all()  # they ask it, too

    def _offer(self, number: int, workflow: tuple[str, str]) -> None:
        """Choose one in turn: if all of them tried to take a run, all but one would in vain."""
        for name, other in self._others.items():
            if workflow in other.serves:
                self._tell((name,), ("take", number, *workflow))
                self._others[name] = self._others.pop(name)
                return
        self._untaken[number] = workflow
        if len(self._untaken) > MOST_KEPT:
            self._untaken.popitem(last=False)

    def _grown(self, name: str, number: int) -> None:
        self._tell((name,), ("grown", number))

    def _drivers(self) -> list[str]:
        return [name for name, other in self._others.items() if other.drives]

    def _here(self) -> Notice:
        serves = self._listener.serves()
        return ("here", serves is not None, serves or ())

    def _tell(self, names: Iterable[str], notice: Notice) -> None:
        """Say something once the event loop has turned, with whatever else is said till then."""
        for name in names:
            self._said.setdefault(name, []).append(notice)
        if self._said and self._saying is None:
            loop = asyncio.get_running_loop()
            self._saying = loop.call_soon(self._say_all, context=Variables())

    def _say_all(self) -> None:
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None
        said = self._said
        self._said = {}
        for name, notices in said.items():
            other = self._others.get(name)
            if other is None or not other.say(notices):
                self.lose(name)
                self._offer_again(notices)

    def _offer_again(self, notices: Sequence[Notice]) -> None:
        """Offer to others what was said to nobody."""
        for notice in notices:
            match notice:
                case ("take", int(number), str(name), str(version)):
                    self._offer(number, (name, version))

    def _meet(self, name: str) -> None:
        """Know one of this machine, which may be dead."""
        self.hear(name, (), self._ringing(name))

    def _ringing(self, name: str) -> Say:
        def say(notices: Sequence[Notice]) -> bool:
            assert self._bell is not None
            ring = self._bell.ring
            parts = range(0, len(notices), MOST_SAID)
            return all(
                ring(name, json.dumps(notices[at : at + MOST_SAID]).encode()) for at in parts
            )

        return say

    def _heard(self, name: str, said: bytes) -> None:
        """Act upon a datagram, which may be anybody's of this user."""
        try:
            notices = json.loads(said)
            assert isinstance(notices, list)
        except (ValueError, AssertionError):
            logger.warning("bell.garbage", extra={"bell": name})
            return
        self.hear(name, notices, self._ringing(name))
