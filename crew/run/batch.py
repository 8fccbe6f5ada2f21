"""Many runs of one workflow: started as there is room, each followed to its end."""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
)
from dataclasses import field
from typing import Any, Generic, Literal, NamedTuple, Self

from typing_extensions import TypeVar

from crew.define import define, frozen
from crew.errors import CrewError, InputInvalid, RunCancelled, RunFailed, RuntimeLeft
from crew.fold import Ending, in_currency
from crew.journal import RunStatus
from crew.run.handle import Home, Run
from crew.value import text_of

Out = TypeVar("Out", default=Any, covariant=True)

LOOK_SECONDS = 0.25
"""How often it is seen whether runs wait, so that others may take their places."""

MOST_SHOWN = 50
"""How many outcomes a notebook's table has."""
MOST_CHARACTERS = 200

Keys = str | Callable[[Any], str] | Iterable[str] | None
"""One for each input, or what makes them: a function of the input, or a name to number them by."""
Keyed = tuple[Any, str | None]


@frozen
class Outcome(Generic[Out]):
    """What became of one input of a batch.

    `index` is its place among the inputs, from 0. `refused`: no run was accepted, and `error` says
    why. `usage` is by unit, as that of a run.
    """

    index: int
    key: str | None
    status: RunStatus | Literal["refused"]
    run: Run[Out] | None = None
    output: Out | None = None
    error: CrewError | None = None
    usage: dict[str, float] = field(default_factory=dict)


class Line(NamedTuple):
    """What a table says of one input."""

    index: int
    key: str
    status: str
    said: str
    usage: dict[str, float] = {}  # noqa: RUF012  nobody changes it


@define
class _Entry(Generic[Out]):
    """One input whose run was accepted, or refused."""

    line: Line
    """What a table says of it."""
    run: Run[Out] | None = None
    refusal: CrewError | None = None


class Batch(Generic[Out]):
    """The runs of many inputs; iterated, each run as it ends. Awaited, it returns once they begin.

    Its runs are started while the runtime is open, whether anybody looks or not. One that waits,
    for a person or a time, gives its place to the next.

    Args:
        home: the runtime.
        start: accepts a run of an input, under a key.
        inputs: with their keys.
        at_once: how many runs are at work at once.
    """

    def __init__(
        self,
        home: Home,
        start: Callable[[Any, str | None], Awaitable[Run[Out]]],
        inputs: AsyncIterator[Keyed],
        at_once: int,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """How many have ended, by their status; `refused` are those that were not accepted."""
        self._home = home
        self._start = start
        self._places = asyncio.Semaphore(at_once)
        self._entries: dict[int, _Entry[Out]] = {}
        self._ended: list[Run[Out]] = []
        self._usage: Counter[str] = Counter()
        self._under_way: set[int] = set()
        self._lost: BaseException | None = None
        """Why one is not followed any more."""
        self._news = asyncio.Event()
        self._feeding = home.spawn(self._feed(inputs))
        self._feeding.add_done_callback(lambda _: self._tell())

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        return f"<batch: {counts or 'none ended'}, {self.under_way} under way>"

    def __await__(self) -> Generator[Any, None, Self]:
        return self._begun().__await__()

    async def _begun(self) -> Self:
        """Return when the first runs are accepted, or there are none."""
        while not (self._entries or self._is_over()):
            await self._news.wait()
        return self

    @property
    def usage(self) -> dict[str, float]:
        """What those cost that have ended, by unit; see `Run.usage`."""
        return in_currency(dict(self._usage))

    @property
    def under_way(self) -> int:
        """How many are being started, or have not ended; those that wait, too."""
        return len(self._under_way)

    async def __aiter__(self) -> AsyncIterator[Run[Out]]:
        """Yield each run once it has ended, also one that failed.

        Raises:
            RuntimeLeft: the runtime was left before the last one ended.
        """
        place = 0
        while True:
            while place < len(self._ended):
                yield self._ended[place]
                place += 1
            if self._is_over():
                return
            await self._news.wait()

    async def results(self) -> list[Outcome[Out]]:
        """Wait for all, and return what became of each input, in their order.

        It raises for none of them; those that failed say so in their outcome.

        Raises:
            RuntimeLeft: the runtime was left before the last one ended.
        """
        await self._all_ended()
        return [await self._outcome(index) for index in sorted(self._entries)]

    def _repr_html_(self) -> str:
        """Draw how it stands, for a notebook: its counts and cost, and its first outcomes."""
        from crew.notebook.tables import batch_table  # only where there is a notebook

        shown = [self._entries[index].line for index in sorted(self._entries)[: MOST_SHOWN + 1]]
        return batch_table(self.counts, self.under_way, self.usage, shown, most=MOST_SHOWN)

    def _ipython_display_(self) -> None:
        """Draw it in a notebook's cell, until all have ended."""
        from crew.notebook.display import Cell, is_live

        cell = Cell(repr(self), self._repr_html_)
        cell.show()
        if is_live() and (self._under_way or not self._feeding.done()):
            self._home.spawn(cell.keep_drawn(self._all_ended()))

    async def _all_ended(self) -> None:
        while not self._is_over():
            await self._news.wait()

    def _is_over(self) -> bool:
        """Return whether all have ended.

        Raises:
            RuntimeLeft: they never will here.
            Exception: what the inputs raised as they were read.
        """
        if not self._feeding.done():
            return False
        if self._feeding.cancelled():
            raise RuntimeLeft
        self._feeding.result()
        if self._lost is not None:
            raise self._lost
        return not self._under_way

    async def _feed(self, inputs: AsyncIterator[Keyed]) -> None:
        index = 0
        async for value, key in inputs:
            await self._places.acquire()
            # Not waited for: starts that come together share a commit.
            self._under_way.add(index)
            task = self._home.spawn(self._go(index, value, key))
            task.add_done_callback(functools.partial(self._over, index))
            index += 1

    def _over(self, index: int, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(index)
        if task.cancelled():
            self._lost = RuntimeLeft()
        elif (error := task.exception()) is not None:
            self._lost = error
        self._tell()

    async def _go(self, index: int, value: object, key: str | None) -> None:
        """Start a run, and follow it to its end."""
        async with _Place(self._places) as place:
            try:
                run = await self._start(value, key)
            except CrewError as error:
                line = Line(index, key or "", "refused", str(error))
                self._entries[index] = _Entry(line, refusal=error)
                self.counts["refused"] += 1
                return
            line = Line(index, key or "", "running", "")
            entry = self._entries[index] = _Entry(line, run)
            self._tell()
            await _ended(run, place)
        ending = await run.ending()
        if index <= MOST_SHOWN:
            entry.line = _line(entry.line, ending)
        self.counts[ending.kind] += 1
        self._usage.update(ending.usage or {})
        self._ended.append(run)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _outcome(self, index: int) -> Outcome[Out]:
        entry = self._entries[index]
        if entry.run is None:
            key = entry.line.key or None
            return Outcome(index, key, "refused", error=entry.refusal)
        return await outcome_of(entry.run, index)


async def outcome_of(run: Run[Out], index: int = 0) -> Outcome[Out]:
    """Return what became of a run that has ended."""
    status, usage, key = await run.status(), await run.usage(), run.key
    try:
        output = await run.result()
    except (RunFailed, RunCancelled) as error:
        return Outcome(index, key, status, run, error=error, usage=usage)
    return Outcome(index, key, status, run, output, usage=usage)


def _line(line: Line, ending: Ending) -> Line:
    """Return what a table says of a run that has ended."""
    error = ending.error
    said = text_of(ending.output) if error is None else f"{error.type}: {error.message}"
    usage = in_currency(ending.usage or {})
    return line._replace(status=ending.kind, said=said[:MOST_CHARACTERS], usage=usage)


async def keyed(inputs: Iterable[Any] | AsyncIterable[Any], keys: Keys) -> AsyncIterator[Keyed]:
    """Yield inputs with their keys.

    Raises:
        InputInvalid: there are more inputs than keys, or fewer.
    """
    given = None if keys is None or isinstance(keys, str) or callable(keys) else iter(keys)
    count = 0
    async for value in _each(inputs):
        if given is not None:
            yield value, _next_of(given, count)
        elif callable(keys):
            yield value, keys(value)
        else:
            yield value, None if keys is None else f"{keys}:{count}"
        count += 1
    if given is not None and next(given, None) is not None:
        raise _other_number(count)


def _next_of(keys: Any, count: int) -> str:
    key: str | None = next(keys, None)
    if key is None:
        raise _other_number(count)
    return key


def _other_number(count: int) -> InputInvalid:
    return InputInvalid(
        message=f"input and key {count} of a batch do not match: there is one without the other; "
        "give as many keys as inputs, or a function that makes the key of an input"
    )


async def _each(inputs: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(inputs, AsyncIterable):
        async for value in inputs:
            yield value
        return
    for value in inputs:
        yield value


class _Place:
    """A place among those that are at work at once, given back once."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._is_held = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.leave()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody may wait for it."""
        return self._is_held and self._places.locked()

    def leave(self) -> None:
        if self._is_held:
            self._is_held = False
            self._places.release()


async def _ended(run: Run[Any], place: _Place) -> None:
    """Return when a run has ended, however it did; one that waits leaves its place."""
    end = asyncio.ensure_future(run.completed())
    try:
        while not (await asyncio.wait({end}, timeout=LOOK_SECONDS))[0]:
            if place.is_wanted and await run.status() == "waiting":
                place.leave()
        with contextlib.suppress(RunFailed, RunCancelled):
            await end
    finally:
        end.cancel()
