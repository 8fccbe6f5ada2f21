"""A deadline of a run's code: when it is, that it has passed, and that it is over, on record."""

import asyncio
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import copy_context

from crew.call.attempt import Attempt
from crew.call.gate import Order
from crew.call.record import fingerprint_of
from crew.clock import wall_clock
from crew.errors import Fenced, StoreError
from crew.event import CallCancelled, CallCompleted, CallStarted
from crew.run.calls import RunCalls

_SHORTEST_PACE = 0.25
_NOTES = 8
"""How often it is noted that a run is driven while it is in a block that counts that time."""
_CLEAN = Variables()
"""Its clock is no timer of the step's code."""


class Deadline:
    """Breaks a block of a step's code off at a time of the wall clock.

    That it has passed is an event, and has its place among the ends of calls: whatever else came
    before or after it does so, too, when the step is entered again.

    Args:
        run: the run's calls.
        attempt: in which the block is.
        path: its place.
        strike: breaks the block off.
    """

    def __init__(
        self, run: RunCalls, attempt: Attempt, path: str, strike: Callable[[], None]
    ) -> None:
        self._run = run
        self._attempt = attempt
        self._path = path
        self._strike = strike
        self._variables = copy_context()
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.Future[None] | None = None
        self._lasts = True

    def begin(self, seconds: float, *, driven: bool) -> None:
        """Set it, unless it is on record; then it is as it was.

        Args:
            seconds: from now on.
            driven: whether time in which nobody drives the run does not count.

        Raises:
            Diverged: something else is on record at its path.
        """
        run, path, self._lasts = self._run, self._path, not driven
        fingerprint = fingerprint_of("timeout", None)
        record = run.lookup.recorded(path, "deadline", fingerprint)
        live = run.lookup.rules.live
        if record is None and live:
            until = wall_clock() + seconds
            data = {"until": until, "driven": driven, "fingerprint": fingerprint}
            run.append(CallStarted(path, "deadline", data))
            self._set(until, driven=driven)
        elif record is not None and record.state == "completed":
            self._wait_for_turn(run.lookup.order_of(path))
        elif record is not None and record.state == "started" and live:
            self._set(record.data["until"], driven=driven)

    def _set(self, until: float, *, driven: bool) -> None:
        loop = asyncio.get_running_loop()
        seconds = max(0.0, until - wall_clock())
        self._timer = loop.call_later(seconds, self._passes, context=_CLEAN)
        self._attempt.deadlines += 1
        pace = max(_SHORTEST_PACE, seconds / _NOTES) if driven else None
        self._run.waits.set(self._path, until, pace=pace)

    def _passes(self) -> None:
        """Record that its time has come."""
        if self._attempt.is_over or self._run.end is not None:
            return
        try:
            self._run.append(CallCompleted(self._path, "deadline", {}))
        except (Fenced, StoreError):
            return  # the run is stopped for it
        self._wait_for_turn(self._run.lookup.order_of(self._path))
        self._unset()

    def _wait_for_turn(self, order: Order) -> None:
        self._attempt.deadlines += 1
        self._turn = self._attempt.gate.call(order, self._has_turn, self._variables)

    def _has_turn(self) -> None:
        if self._turn is not None:  # else the block ended just before
            self._strike()

    def end(self) -> None:
        """Note that the block has ended, so that it is not broken off any more."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            self._attempt.deadlines -= 1
        if self._timer is None:
            return
        self._unset()
        # The end of what has a record of its own tells that its deadline is over.
        if self._lasts and self._run.end is None and not self._attempt.is_over:
            self._run.append(CallCancelled(self._path, "deadline"))

    def _unset(self) -> None:
        assert self._timer is not None
        self._timer.cancel()
        self._timer = None
        self._attempt.deadlines -= 1
        self._run.waits.over(self._path)
