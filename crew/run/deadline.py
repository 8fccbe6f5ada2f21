"""A deadline of a run's code: when it is, that it has passed, and that it is over, on record."""

import asyncio
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import copy_context

from crew.call.attempt import Attempt
from crew.call.gate import Order, overdue
from crew.call.record import fingerprint_of
from crew.clock import wall_clock
from crew.errors import Fenced, StoreError
from crew.event import CallCancelled, CallCompleted, CallStarted
from crew.journal import Busy
from crew.run.calls import RunCalls

AGAIN_SECONDS = 0.5
"""How soon the store is asked again that could not say what was posted in time."""
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
        self._until = 0.0
        self._is_in_force = False
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
            self._hold()
            self._at(run.lookup.order_of(path), self._strike)
        elif record is not None and record.state == "started" and live:
            self._set(run.deadlines.until(path), driven=driven)

    def _set(self, until: float, *, driven: bool) -> None:
        self._hold()
        self._until, seconds = until, until - wall_clock()
        pace = max(_SHORTEST_PACE, seconds / _NOTES) if driven else None
        self._run.waits.set(self._path, until, pace=pace)
        if seconds > 0:
            self._pass_in(seconds)
        else:
            self._at(overdue(until), self._passes)

    def _pass_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self._passes, context=_CLEAN)

    def _hold(self) -> None:
        self._is_in_force = True
        self._attempt.deadlines += 1

    def _at(self, order: Order, function: Callable[[], None]) -> None:
        """Call a function in its turn, unless the block ends before."""
        self._turn = self._attempt.gate.call(
            order, lambda: self._is_in_force and function(), self._variables
        )

    def _passes(self) -> None:
        """Record that its time has come, once what was posted before has been taken."""
        try:
            came = self._run.hand_out(before=self._until)
        except (StoreError, Busy):
            self._pass_in(AGAIN_SECONDS)
            return
        if came:
            self._at(overdue(self._until), self._passes)
        else:
            self._pass()

    def _pass(self) -> None:
        """Record that its time has come, and break the block off when that has its turn."""
        if self._attempt.is_over or self._run.end is not None:
            self._run.waits.over(self._path)
            return
        try:
            self._run.append(CallCompleted(self._path, "deadline", {}))
        except (Fenced, StoreError):
            return  # the run is stopped for it
        self._at(self._run.lookup.order_of(self._path), self._strike)
        self._run.waits.over(self._path)

    def end(self) -> None:
        """Note that the block has ended, so that it is not broken off any more."""
        if not self._is_in_force:
            return
        self._is_in_force = False
        self._attempt.deadlines -= 1
        for pending in (self._timer, self._turn):
            if pending is not None:
                pending.cancel()
        self._run.waits.over(self._path)
        record = self._run.records.get(self._path)
        if record is None or record.state != "started" or not self._lasts:
            return  # it has passed; or its block has a record of its own, whose end tells that
        if self._run.end is None and not self._attempt.is_over:
            self._run.append(CallCancelled(self._path, "deadline"))
