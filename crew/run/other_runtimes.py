"""What the runtimes that share a store tell each other, so that none waits for its next look.

A notice is a hint. Nobody waits for one, it may be lost or come twice, and whoever gets none finds
by looking what it was about. Each runtime has a name; what it sends is one of:

- `here`: it has come, whether it drives runs, and of which workflows it takes some.
- `take`: a run is there for you to drive, or there is something for it in its inbox.
- `adopt`: a run was started in your name.
- `look`: if you drive this run, there is something in its inbox.
- `follow`: if you drive this run, let me know when it has events after an offset, or its end.
- `grown`: a run that you follow has grown, or is driven here from now on.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context as Variables
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

from crew.define import define
from crew.graph import Workflow
from crew.journal import RunRow
from crew.journal.datagrams import DatagramSocket
from crew.message import Json
from crew.run.followers import Followers

Notice: TypeAlias = Sequence[Json]
Reason = Literal["look", "take", "adopt"]
REASONS: tuple[Reason, ...] = get_args(Reason)
Send: TypeAlias = Callable[[Sequence[Notice]], bool]
"""Sends notices to another runtime; False if it is not there any more."""

MOST_NOTICES = 500
"""Notices in one datagram."""
MOST_KEPT = 1024
"""Runs that nobody took yet, of which others are told when they come."""

logger = logging.getLogger(__name__)


class Listener(Protocol):
    """What is done with what others send."""

    followers: Followers

    def serves(self) -> list[tuple[str, str]] | None:
        """Return names and versions of the workflows it takes runs of; None: it drives none."""
        ...

    def attend(self, number: int, why: Reason) -> None:
        """See to a run soon: take or adopt it, or look at its inbox if it is driven here."""
        ...


@define
class _Other:
    """Another runtime, and what it wrote of itself."""

    send: Send
    drives: bool = False
    serves: frozenset[tuple[str, str]] = frozenset()


class OtherRuntimes:
    """The other runtimes.

    Args:
        listener: this one.
        name: its own.
    """

    def __init__(self, listener: Listener, name: str) -> None:
        self.name = name
        self._listener = listener
        self._socket: DatagramSocket | None = None
        self._others: dict[str, _Other] = {}
        self._queued: dict[str, list[Notice]] = {}
        self._flushing: asyncio.Handle | None = None
        self._untaken: OrderedDict[int, tuple[str, str]] = OrderedDict()
        """Runs for which nobody was there, by their numbers, and their workflows."""

    def open(self, sockets: Path | None) -> None:
        """Receive from others of this machine from now on, whose sockets are in a folder."""
        followers = self._listener.followers
        followers.ask, followers.tell = self.follow, self._grown
        if sockets is None:
            return
        try:
            self._socket = DatagramSocket(sockets, self.name, self._received)
        except OSError as error:
            hint = "what other processes write is found by looking for it"
            logger.warning("socket.missing", extra={"error": str(error), "hint": hint})
            return
        for name in self._socket.others():
            self._meet(name)

    def close(self) -> None:
        """Send what is still to be sent, and receive nothing more."""
        self._flush()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._others.clear()

    def introduce(self) -> None:
        """Send what this runtime is, since it has changed."""
        self._notify(self._others, self._here())

    def only_host(self, workflow: Workflow) -> str | None:
        """Return the one that takes runs of a workflow, if it is the only one."""
        kind = (workflow.name, workflow.version)
        hosts = [name for name, other in self._others.items() if kind in other.serves]
        return hosts[0] if len(hosts) == 1 else None

    def knows(self, name: str | None) -> bool:
        """Return whether another one can be reached."""
        return name in self._others

    def offer(self, row: RunRow, to: str | None = None) -> None:
        """Have a run driven that nobody drives: by the one that it names, or by one of the others.

        Args:
            row: the run.
            to: the one that is to drive it, if it matters.
        """
        if row.owner is not None and self.knows(row.owner):
            self._notify((row.owner,), ("adopt", row.number))
        elif to is None:
            self._offer(row.number, (row.workflow, row.version))
        elif self.knows(to):
            self._notify((to,), ("take", row.number, row.workflow, row.version))

    def post(self, row: RunRow) -> None:
        """Let whoever drives a run look at its inbox."""
        self._notify(self._drivers(), ("look", row.number))

    def follow(self, number: int, after: int, to_end: bool) -> None:
        """Ask for a notice when a run has events after an offset, or its end."""
        self._notify(self._drivers(), ("follow", number, after, to_end))

    def taken(self, number: int) -> None:
        """Let those who follow a run know that it is driven here from now on."""
        self._notify(self._others, ("grown", number))

    def receive(self, name: str, notices: Sequence[Notice], send: Send) -> None:
        """Act upon notices of another one, which `send` reaches."""
        if name not in self._others:
            self._others[name] = _Other(send)
            self._notify((name,), self._here())
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
                self._notify((name,), ("take", number, *workflow))
                self._others[name] = self._others.pop(name)
                return
        self._untaken[number] = workflow
        if len(self._untaken) > MOST_KEPT:
            self._untaken.popitem(last=False)

    def _grown(self, name: str, number: int) -> None:
        self._notify((name,), ("grown", number))

    def _drivers(self) -> list[str]:
        return [name for name, other in self._others.items() if other.drives]

    def _here(self) -> Notice:
        serves = self._listener.serves()
        return ("here", serves is not None, serves or ())

    def _notify(self, names: Iterable[str], notice: Notice) -> None:
        """Send a notice once the event loop has turned, with whatever else there is by then."""
        for name in names:
            self._queued.setdefault(name, []).append(notice)
        if self._queued and self._flushing is None:
            loop = asyncio.get_running_loop()
            self._flushing = loop.call_soon(self._flush, context=Variables())

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        queued, self._queued = self._queued, dict[str, list[Notice]]()
        for name, notices in queued.items():
            other = self._others.get(name)
            if other is None or not other.send(notices):
                self.lose(name)
                self._offer_again(notices)

    def _offer_again(self, notices: Sequence[Notice]) -> None:
        """Offer to others what reached nobody."""
        for notice in notices:
            match notice:
                case ("take", int(number), str(name), str(version)):
                    self._offer(number, (name, version))

    def _meet(self, name: str) -> None:
        """Know one of this machine, which may be dead."""
        self.receive(name, (), self._sender(name))

    def _sender(self, name: str) -> Send:
        def send(notices: Sequence[Notice]) -> bool:
            assert self._socket is not None
            send_to = self._socket.send
            parts = range(0, len(notices), MOST_NOTICES)
            return all(
                send_to(name, json.dumps(notices[at : at + MOST_NOTICES]).encode()) for at in parts
            )

        return send

    def _received(self, name: str, data: bytes) -> None:
        """Act upon a datagram, which may be anybody's of this user."""
        try:
            notices = json.loads(data)
            assert isinstance(notices, list)
        except (ValueError, AssertionError):
            logger.warning("socket.garbage", extra={"socket": name})
            return
        self.receive(name, notices, self._sender(name))
