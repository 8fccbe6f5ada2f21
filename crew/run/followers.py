"""Those who follow runs: each waits until there is more of one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from crew.errors import RuntimeLeft, StoreError
from crew.event import ENDS
from crew.journal import StoredEvent

_Tail = asyncio.Future[Sequence[StoredEvent] | None]
"""What somebody who follows a run waits for: events just written, or None after a while."""


class Followers:
    """Wakes those who follow runs, by the runs' numbers.

    Args:
        lost: what made this process let go of runs that nobody else has.
        durable: gives up to which offset a run is on disk that is driven here, or was; else 0.
        drives: says whether a run is driven here, or about to be.
    """

    def __init__(
        self,
        lost: Mapping[int, StoreError],
        durable: Callable[[int], int],
        drives: Callable[[int], bool],
    ) -> None:
        self.is_open = False
        """Whether there is somebody who wakes them."""
        self.ask: Callable[[int, int, bool], None] = _nobody
        """Asks other processes to tell when a run has events after an offset, or only its end."""
        self.tell: Callable[[str, int], None] = _nobody
        """Tells another process, by its name, that a run has grown."""
        self.raise_lost: Callable[[int], Awaitable[None]] | None = None
        """Raises what made another process of this fleet let a run go, if there is one."""
        self._lost = lost
        self._durable = durable
        self._drives = drives
        self._tails: dict[int, dict[_Tail, bool]] = {}
        """Those who wait, by the runs' numbers, each with whether only the end concerns them."""
        self._afar: dict[int, dict[str, bool]] = {}
        """Likewise other processes, by their names, for runs that are driven here."""

    async def grown(
        self, number: int, after: int, *, to_end: bool = False
    ) -> Sequence[StoredEvent]:
        """Return when a run may have events after offset `after`; raise what ended its driver.

        They are returned if this process has just written them.

        Args:
            number: the run's.
            after: what is known of it.
            to_end: whether what this process writes concerns nobody but for the end.

        Raises:
            StoreError: the store failed while this process drove the run.
            RuntimeLeft: the runtime was left, or is while somebody waits.
        """
        if (error := self._lost.get(number)) is not None:
            raise error
        if not self.is_open:
            raise RuntimeLeft
        if self._durable(number) > after:
            return ()  # it grew since somebody looked
        future: _Tail = asyncio.get_running_loop().create_future()
        self._tails.setdefault(number, {})[future] = to_end
        if not self._drives(number):
            self.ask(number, after, to_end)
        try:
            written = await future
            if written is None and self.raise_lost is not None:
                await self.raise_lost(number)
            return written or ()
        finally:
            waiting = self._tails.get(number, {})
            waiting.pop(future, None)
            if not waiting:
                self._tails.pop(number, None)

    def follow_afar(self, name: str, number: int, after: int, *, to_end: bool) -> None:
        """Tell another process, once, when a run that is driven here has events after an offset.

        Nothing comes of it where the run is not driven here: whoever takes it says so.
        """
        drives = self._drives(number)
        if self._durable(number) > after and not (to_end and drives):
            self.tell(name, number)
        elif drives:
            waiting = self._afar.setdefault(number, {})
            waiting[name] = waiting.get(name, True) and to_end

    def committed(self, grown: Mapping[int, Sequence[StoredEvent]]) -> None:
        """Hand on what this process has just written."""
        for number, events in grown.items():
            self._wake(number, events)

    def wake(self, *numbers: int) -> None:
        """Let those who follow these runs look at them again."""
        for number in numbers:
            self._wake(number, ())

    def wake_all(self) -> None:
        """Let all of this process look again: another one has written something."""
        for number in self._tails:
            self._wake_here(number, ())

    def remind(self) -> None:
        """Let all look again after a while, also whether other processes let their runs go."""
        for number in self._tails:
            self._wake_here(number, None)

    def end(self) -> None:
        """Tell those who follow a run that nobody will wake them any more."""
        self.is_open = False
        for number in list(self._afar):
            self._wake_afar(number, ())
        for future in [future for waiting in self._tails.values() for future in waiting]:
            with suppress(asyncio.InvalidStateError):  # one that was just woken looks by itself
                future.set_exception(RuntimeLeft())

    def _wake(self, number: int, written: Sequence[StoredEvent]) -> None:
        self._wake_here(number, written)
        if self._afar:
            self._wake_afar(number, written)

    def _wake_here(self, number: int, written: Sequence[StoredEvent] | None) -> None:
        if (waiting := self._tails.get(number)) is None:
            return
        is_more = bool(written) and written[-1].kind not in ENDS
        for future, to_end in waiting.items():
            if not future.done() and not (to_end and is_more):
                future.set_result(written)

    def _wake_afar(self, number: int, written: Sequence[StoredEvent]) -> None:
        if (waiting := self._afar.get(number)) is None:
            return
        is_more = bool(written) and written[-1].kind not in ENDS
        for name in [name for name, to_end in waiting.items() if not (to_end and is_more)]:
            del waiting[name]
            self.tell(name, number)
        if not waiting:
            del self._afar[number]


def _nobody(*_: object) -> None:
    """There are no other processes."""
