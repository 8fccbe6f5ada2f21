"""A block of a step's code that ends at a time which is on record."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Protocol

from crew.errors import BudgetExceeded, GraphError, StepTimeout


class Timing(Protocol):
    """What a block with a deadline needs of the driver of its run."""

    async def deadline(
        self, path: str, seconds: float, strike: Callable[[], None], *, driven: bool
    ) -> Callable[[], None]:
        """Record when the block at `path` is to be broken off, or find that on record.

        Args:
            path: the block's.
            seconds: from now on.
            strike: called when what is on record as its passing has its turn.
            driven: whether time in which nobody drives the run does not count.

        Returns:
            What is to be called once the block has ended.
        """
        ...


class Deadline:
    """A block that is broken off with a TimeoutError; reads as `async with ctx.timeout(5)`.

    What is awaited in it is cancelled then, as by `asyncio.timeout`. But when that happens is on
    record: it comes on time for a run that is out of memory, and at the same place on a replay.

    Args:
        driver: journals it.
        path: its place.
        seconds: from when it is entered.
    """

    driven = False
    """Whether time in which nobody drives the run does not count."""

    def __init__(self, driver: Timing, path: str, seconds: float) -> None:
        if not math.isfinite(seconds):
            raise GraphError(message=f"a timeout is a number of seconds, not {seconds}")
        self._driver = driver
        self._path = path
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._end = await self._driver.deadline(
            self._path, self._seconds, self._strike, driven=self.driven
        )

    def _strike(self) -> None:
        self._timeout.reschedule(asyncio.get_running_loop().time())

    async def __aexit__(self, *exc: Any) -> None:
        self._end()
        try:
            await self._timeout.__aexit__(*exc)
        except TimeoutError as error:
            raise self._passed() from error

    def _passed(self) -> Exception:
        return TimeoutError(f"the {self._seconds} s of {self._path} are over")


class Limit(Deadline):
    """What a call or a step may take at most, of the time in which its run is driven.

    Args:
        driver: journals it.
        path: the call's, or the step's.
        seconds: for one attempt.
        what: takes so long, for the StepTimeout that is raised.
    """

    driven = True

    def __init__(self, driver: Timing, path: str, seconds: float, what: str) -> None:
        super().__init__(driver, within(path), seconds)
        self._what = what

    def _passed(self) -> Exception:
        message = f"{self._what} took longer than its timeout of {self._seconds} s"
        return StepTimeout(message=message)


class Allotted(Deadline):
    """What a budget allows of the wall clock for whatever is called in the block.

    Args:
        driver: journals it.
        path: the call's that has the budget.
        seconds: from when it is entered.
    """

    def __init__(self, driver: Timing, path: str, seconds: float) -> None:
        super().__init__(driver, f"{path}/:budget", seconds)
        self._call = path

    def _passed(self) -> Exception:
        return BudgetExceeded(path=self._call, needed=1, left=0, unit="seconds")


def within(path: str) -> str:
    """Return the path of the deadline of a call; no call that is made within it has such a name."""
    return f"{path}/:timeout"
