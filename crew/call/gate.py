"""The order in which a step's code gets what it waits for: that of the journal.

What several tasks of a step wait for is handed to them one at a time: of what was asked for, that
which came first, once nothing of the step is ready to run. Code that is entered again after a
crash, with everything at hand at once, thus goes on in the order in which it went on live.

Source: deterministic replay of message order, as in "Optimistic recovery in distributed systems"
(Strom and Yemini, 1985).
"""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context as Variables
from heapq import heappop, heappush
from itertools import count
from typing import Any

logger = logging.getLogger(__name__)

_Task = asyncio.Task[Any] | None

Order = int
"""What comes first: offsets of the run's journal, then of what it stands on, then the rest."""

_OFFERED: Order = 1 << 60
"""Behind every offset of this run's own."""

LAST: Order = 2 << 60
"""After everything that is on record."""

BEHIND_ACTS: Order = LAST + 1
"""After what is on record, and the acts that are new."""

REST: Order = 3 << 60
"""When a step has nothing left to do by itself."""

MOST_PASSES = 1000
"""How often a step that keeps itself busy is looked at before it gets the next thing anyhow."""
_QUIET_PASSES = 8
"""How many passes without an own task that is ready count as quiet, where no loop tells."""
_MANY_READY = 256
"""Of so many ready handles each is not looked at: in the next pass, all of them have run."""

_CLEAN = Variables()
"""The gate's own callbacks belong to no step."""


def offered(offset: int) -> Order:
    """Return the order of what the journal that a run stands on holds at `offset`."""
    return _OFFERED + offset


def overdue(until: float) -> Order:
    """Return the order of what was to pass at `until` (unix seconds), while nobody was there.

    It is behind all that is on record, the earliest first.
    """
    return BEHIND_ACTS + 1 + int(until * 1000)


class Gate:
    """Lets the tasks of one step go on, one at a time.

    Args:
        is_own: says whether a context of variables is that of a task of the step.
        is_ready: says whether a task of the step could go on by itself; asked where the event loop
            does not show what is ready.
        name: of the step, for a warning.
    """

    def __init__(
        self, *, is_own: Callable[[Variables], bool], is_ready: Callable[[], bool], name: str
    ) -> None:
        self._is_own = is_own
        self._is_ready = is_ready
        self._name = name
        self._queue: list[tuple[Order, int, asyncio.Future[None], _Task]] = []
        self._numbers = count()
        self._looking = False
        self._handle: asyncio.Handle | None = None
        self._passes = 0
        self._quiet = 0
        self._warned = False
        self._is_open = False
        self.held = 0
        """How many hold it: nobody goes on while somebody does."""

    @property
    def tasks(self) -> set[_Task]:
        """The tasks that wait here; None for a function that is to be called."""
        return {task for _, _, future, task in self._queue if not future.done()}

    async def turn(self, order: Order, swallows: int = 0) -> None:
        """Return when it is this one's turn; a cancel that comes meanwhile is raised then.

        Args:
            order: says whose turn it is.
            swallows: of the cancels that come so many are not raised.

        Raises:
            CancelledError: the task was cancelled.
        """
        if self._is_open:
            return
        cancelled: asyncio.CancelledError | None = None
        while True:
            future = self._queued(order, asyncio.current_task())
            try:
                await future
                break
            except asyncio.CancelledError as error:
                if swallows <= 0:
                    cancelled = error
                swallows -= 1
                # The end of a call that was cancelled has its place in the order, too; what has
                # not begun yet has none.
                if self._is_open or not future.cancelled() or order >= LAST:
                    break
        if cancelled is not None:
            raise cancelled

    def call(
        self, order: Order, function: Callable[[], object], variables: Variables
    ) -> asyncio.Future[None]:
        """Call a function of the step's own when it is its turn, unless the future is cancelled.

        It is run with the `variables` of a task of the step.
        """
        future = self._queued(order, None)
        future.add_done_callback(lambda _: future.cancelled() or function(), context=variables)
        return future

    def _queued(self, order: Order, task: _Task) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        heappush(self._queue, (order, next(self._numbers), future, task))
        if not self._looking:
            self._looking = True
            self._look_soon(loop)
        return future

    def open(self) -> None:
        """Let everybody through from now on: the step is over."""
        self._is_open = True
        while self._queue:
            _, _, future, _ = heappop(self._queue)
            future.cancel()

    def _look(self) -> None:
        """Let the first one go on, unless something of the step is still going on by itself."""
        queue = self._queue
        while queue and queue[0][2].done():
            heappop(queue)
        loop = asyncio.get_running_loop()
        if queue and not self.held and not self._is_busy(loop):
            self._passes = self._quiet = 0
            heappop(queue)[2].set_result(None)
        self._looking = bool(queue)
        if queue:
            self._look_soon(loop)

    def _look_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again when what is ready now has run."""
        ready = getattr(loop, "_ready", None)
        if ready is None:
            loop.call_soon(self._look, context=_CLEAN)
            return
        # One handle for all looks: making one costs more than a look.
        if self._handle is None:
            self._handle = asyncio.Handle(self._look, (), loop, _CLEAN)
        ready.append(self._handle)

    def _is_busy(self, loop: asyncio.AbstractEventLoop) -> bool:
        ready = getattr(loop, "_ready", None)
        if ready is not None and not ready:
            return False
        self._passes += 1
        if self._passes > MOST_PASSES:
            self._warn()
            return False
        if ready is not None and len(ready) <= _MANY_READY:
            # A copy: threads add to it. Each handle knows the variables it is run with.
            return any(self._is_own(handle._context) for handle in ready.copy())  # noqa: SLF001
        self._quiet = 0 if self._is_ready() else self._quiet + 1
        return self._quiet < _QUIET_PASSES

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("step.never_at_rest", extra={"step": self._name, "passes": MOST_PASSES})
