"""The attempts of steps that make calls: one of each step, and the acts that it left behind."""

import asyncio
from collections.abc import Callable

from crew.call.attempt import Attempt
from crew.call.gate import BEHIND_ACTS, LAST
from crew.errors import Diverged
from crew.event import CallKind, CallUnknown, RunEvent
from crew.fold.calls import Records
from crew.fold.paths import step_of

_OF_EACH_ATTEMPT: frozenset[CallKind] = frozenset({"effect", "ask"})
"""Calls that further attempts of a step find again, at a path without their number."""
FORGOTTEN_SECONDS = 1.0
"""How long a new act waits for an older one that the code may still ask for."""
_LOOK_SECONDS = 0.01


class Attempts:
    """Knows which attempt a call is of, and lets none make calls that is over.

    Args:
        run_id: whose attempts these are.
        records: what is on record of the run's calls.
        offered: what another run recorded that may answer them.
        append: appends one event, and carries out what follows from it.
    """

    def __init__(
        self,
        run_id: str,
        records: Records,
        offered: Records,
        append: Callable[[RunEvent], None],
    ) -> None:
        self._run_id = run_id
        self._records = records
        self._offered = offered
        self._append = append
        self._attempts: dict[str, Attempt] = {}
        self._within: dict[str, Attempt] = {}
        """Those of tools that hold the run, by the paths of their calls."""

    def enter(self, attempt: Attempt) -> None:
        """Take the calls of an attempt that begins now, in the place of an earlier one."""
        step = attempt.step
        self._attempts[step] = attempt
        known = self._records.beneath(step)
        attempt.is_reentered = bool(known or self._offered.beneath(step))
        if known:
            attempt.forgotten = self._records.acts(step, attempt.path)

    def leave(self, attempt: Attempt) -> None:
        """Take no more calls of an attempt; acts that are under way are unknown from here on."""
        attempt.close()
        if self._attempts.get(attempt.step) is attempt:
            del self._attempts[attempt.step]
        for path in attempt.acting:
            record = self._records.get(path)
            if record is not None and record.state == "started":
                self._append(CallUnknown(path, record.call))

    def enter_within(self, attempt: Attempt) -> None:
        """Take the calls of a tool that holds the run; its step's attempt answers for its acts."""
        beneath = f"{attempt.path}/"
        known = self._records.beneath(step_of(attempt.path))
        attempt.is_reentered = any(path.startswith(beneath) for path in known)
        self._within[attempt.path] = attempt

    def leave_within(self, attempt: Attempt) -> None:
        """Take no more calls of such a tool."""
        attempt.close()
        if self._within.get(attempt.path) is attempt:
            del self._within[attempt.path]

    def around(self, path: str, call: CallKind) -> Attempt:
        """Return the attempt whose code waits for a call: that of a tool, or of the step.

        Raises:
            CancelledError: it is over.
        """
        attempt = self.of(path, call)
        above = path if self._within else ""
        while above:
            above = above.rpartition("/")[0]
            if (within := self._within.get(above)) is not None:
                return within
        return attempt

    def of(self, path: str, call: CallKind) -> Attempt:
        """Return the attempt that a call is of.

        Raises:
            CancelledError: it is over.
        """
        first = path.partition("/")[0]
        attempt = self._attempts.get(first)
        if attempt is not None and attempt.path == first:
            return attempt  # the step's first one, as nearly all are
        attempt = self._attempts.get(step_of(path))
        if attempt is None or (
            call not in _OF_EACH_ATTEMPT and path.partition("/")[0] != attempt.path
        ):
            raise asyncio.CancelledError
        return attempt

    async def after_forgotten(self, attempt: Attempt, path: str, instead: str) -> None:
        """Return when each act on record was asked for, so that a new one stands behind them.

        `instead` says what may have been asked for in the place of one, for the error.

        Raises:
            Diverged: the code has nothing left to do that could lead to one of them.
        """
        attempt.held += 1
        try:
            await self._until_asked(attempt, path, instead)
        except asyncio.CancelledError:
            attempt.cut_off = instead
            raise
        finally:
            attempt.held -= 1

    async def after_new_acts(self, attempt: Attempt) -> None:
        """Return when no new act waits behind one on record, so that another new call may begin.

        Unchanged code asks for what is on record without anything new.
        """
        await attempt.turn(BEHIND_ACTS)
        while attempt.held and attempt.forgotten:
            await asyncio.sleep(_LOOK_SECONDS)
            await attempt.turn(BEHIND_ACTS)

    async def _until_asked(self, attempt: Attempt, path: str, instead: str) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + FORGOTTEN_SECONDS
        while True:
            await attempt.gate.turn(LAST)
            left = [known for known in attempt.forgotten if not known.startswith(f"{path}/")]
            if not left:
                return
            if attempt.others_wait() or loop.time() >= until:
                raise self._forgotten(attempt, left[0], instead)
            await asyncio.sleep(_LOOK_SECONDS)

    def require_asked(self, attempt: Attempt) -> None:
        """Refuse the end of an attempt that may have asked for an act by another name.

        That act waited behind those on record, as each new one does, and was cancelled there.

        Raises:
            Diverged: one of those on record was not asked for.
        """
        if attempt.cut_off and attempt.forgotten:
            raise self._forgotten(attempt, next(iter(attempt.forgotten)), attempt.cut_off)

    def _forgotten(self, attempt: Attempt, path: str, instead: str) -> Diverged:
        recorded, record = attempt.forgotten[path], self._records.get(path)
        given = "" if record is None else record.given
        return Diverged(run=self._run_id, path=path, recorded=recorded, asked=instead, given=given)
