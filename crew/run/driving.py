"""The time in which a run is driven, put on record while something of it counts that alone."""

import asyncio
from collections.abc import Callable
from contextvars import Context as Variables

from crew.errors import Fenced, StoreError
from crew.event import RunDriven
from crew.run.calls import RunCalls


class Driving:
    """Notes now and then that a run is driven, so that whoever takes it over knows till when.

    Args:
        run: the run's calls, some of which may take so long, and no longer.
        is_waiting: says whether the run waits; then it needs nobody to drive it.
    """

    def __init__(self, run: RunCalls, is_waiting: Callable[[], bool]) -> None:
        self._run = run
        self._is_waiting = is_waiting
        self._timer: asyncio.TimerHandle | None = None
        self._variables = Variables()

    @property
    def counts(self) -> bool:
        """Whether something of the run counts the time in which it is driven."""
        return bool(self._run.waits.driven) and not self._is_waiting()

    def update(self) -> None:
        """Note it from now on, or no more."""
        if not self._run.waits.driven or self._run.end is not None:
            self._stop()
            return
        loop, pace = asyncio.get_running_loop(), min(self._run.waits.driven.values())
        if self._timer is not None:
            if self._timer.when() <= loop.time() + pace:
                return
            self._timer.cancel()
        self._timer = loop.call_later(pace, self._note, context=self._variables)

    def _note(self) -> None:
        self._timer = None
        if self.counts:
            try:
                self._run.append(RunDriven())
            except (Fenced, StoreError):
                return  # the run is stopped for it
        self.update()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
