"""What the parts of a driver reach it by, until it is let go of."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from crew.errors import Diverged, Fenced
from crew.event import RunEvent


class Held(Protocol):
    """A driver, as its parts know it."""

    run_id: str

    def append(self, event: RunEvent) -> None: ...
    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> object: ...
    def stop(self, error: Exception) -> None: ...
    def stuck(self, error: Diverged) -> None: ...
    def update(self) -> None: ...
    def rests(self) -> None: ...


class Reins:
    """Hands on what the parts of a driver want of it.

    Once it is let go of nothing refers to itself in a circle, so that all of it is freed there and
    then: circles would lie until the garbage collector comes, and a process has many runs.
    """

    __slots__ = ("_driver", "_run")

    def __init__(self, driver: Held) -> None:
        self._driver: Held | None = driver
        self._run = driver.run_id

    def let_go(self) -> None:
        """Reach nobody any more."""
        self._driver = None

    def append(self, event: RunEvent) -> None:
        """Append an event, and carry out what follows from it.

        Raises:
            Fenced: the run is not driven here any more.
        """
        if self._driver is None:
            raise Fenced(run=self._run)
        self._driver.append(event)

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task of the driver."""
        if self._driver is not None:
            self._driver.spawn(work)

    def stop(self, error: Exception) -> None:
        """Stop driving, for an error that is of the run and not of a call in it."""
        if self._driver is not None:
            self._driver.stop(error)

    def stuck(self, error: Diverged) -> None:
        """Say that nothing can go on any more."""
        if self._driver is not None:
            self._driver.stuck(error)

    def changed(self) -> None:
        """Say that something began to wait, or goes on."""
        if self._driver is not None:
            self._driver.update()

    def rests(self) -> None:
        """Say that the run begins to wait."""
        if self._driver is not None:
            self._driver.rests()
