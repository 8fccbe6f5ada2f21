"""What a run waits for in the world outside: answers of people, and times."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NoReturn

from crew.call.attempt import Attempt
from crew.errors import CrewError, Diverged
from crew.message import Json
from crew.value import Codec


class Waits:
    """The branches of a run that wait for the world outside, by the paths of their calls.

    Args:
        changed: called when a branch starts or stops waiting.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.until: dict[str, float | None] = {}
        """Until when each waits, in unix seconds, if that is known."""
        self.driven: dict[str, float] = {}
        """For those that count only driven time: how often that is noted, in seconds."""
        self.driven_changed: Callable[[], None] = changed
        """Called when one of these begins or ends."""
        self.doomed: dict[str, Diverged] = {}
        """Those that only a cancel can end which is on record, with what it is if none comes."""
        self.resuming = 0
        """How many branches have their answer, and are about to go on."""
        self._changed = changed
        self._answers: dict[str, tuple[Codec, asyncio.Future[Json]]] = {}

    @contextmanager
    def waiting(
        self, path: str, until: float | None, attempt: Attempt | None = None
    ) -> Iterator[None]:
        """A block in which the branch at `path` waits."""
        self.until[path] = until
        try:
            with nullcontext() if attempt is None else attempt.waiting(path):
                self._changed()
                yield
        finally:
            self.over(path)

    def set(self, path: str, until: float, *, pace: float | None) -> None:
        """Note that the block at `path` is broken off at a time, whatever it does till then.

        `pace` is how often it is to be noted that the run is driven, in seconds, if that counts.
        """
        self.until[path] = until
        if pace is not None:
            self.driven[path] = pace
            self.driven_changed()
        self._changed()

    def over(self, path: str) -> None:
        """Note that nothing waits at `path` any more."""
        self.until.pop(path, None)
        if self.driven.pop(path, None) is not None:
            self.driven_changed()
        self._changed()

    def let_go(self) -> None:
        """Tell nobody any more what begins to wait, or ends."""
        self._changed = self.driven_changed = _nothing

    async def until_cancelled(self, path: str, error: Diverged, attempt: Attempt) -> NoReturn:
        """Wait for the cancel of the call at `path`; if none can come, the run is stopped."""
        self.doomed[path] = error
        try:
            with self.waiting(path, None, attempt):
                while True:  # nobody sets that future
                    await asyncio.get_running_loop().create_future()
        finally:
            self.doomed.pop(path, None)

    @property
    def is_asking(self) -> bool:
        """Whether a question is open that an answer may have come to."""
        return bool(self._answers)

    def due(self) -> float | None:
        """Return when the first of the waits ends by itself, in unix seconds."""
        times = [until for until in self.until.values() if until is not None]
        return min(times, default=None)

    def review(self) -> None:
        """Say that what a branch waits for may be all that is left of it."""
        self._changed()

    async def answer(self, path: str, codec: Codec, attempt: Attempt) -> Json:
        """Wait for an answer to the question at `path`, and return it once it is recorded."""
        while (older := self._answers.get(path)) is not None:
            older[1].cancel()  # that of an agent whose host is gone
            await asyncio.sleep(0)
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[path] = (codec, future)
        with self.waiting(path, None, attempt):
            try:
                return await future
            finally:
                self._answers.pop(path, None)
                self.resuming -= future.done() and not future.cancelled()

    def problem_of(self, path: str, value: Json) -> str | None:
        """Return why `value` does not answer the question at `path`: "" if it does.

        None says that no such question is open here.
        """
        waiting = self._answers.get(path)
        if waiting is None:
            return None
        try:
            waiting[0].taken(value)
        except CrewError as error:
            return str(error)
        return ""

    def answered(self, path: str, value: Json) -> None:
        """Let whoever asked at `path` go on with an answer that is recorded."""
        _, future = self._answers.pop(path)
        if not future.done():  # else whoever asked was cancelled, as by a timeout of its own
            future.set_result(value)
            self.resuming += 1
            self._changed()


def _nothing() -> None:
    """Nobody wants to know."""
