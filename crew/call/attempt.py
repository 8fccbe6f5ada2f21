"""One attempt of a step: the tasks it owns, the order in which they go on, and its end."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context as Variables
from typing import Any, NoReturn, Protocol

from crew.call.gate import Gate, Order
from crew.call.lineage import SCOPE, Scope
from crew.call.thread_view import ThreadView
from crew.call.timers import owners

logger = logging.getLogger(__name__)

_HINT = "a step's tasks end with it; open a connection pool by the workflow's deps=, not in a step"
STOP_SECONDS = 1.2
"""How long the tasks of an attempt may take to end once they were cancelled: a second for effects
that are under way, and a moment for what follows."""

_MANY_TASKS = 64
"""Of so many tasks each is not looked at."""
_MOST_KEPT = 64
"""So many tasks are kept, or twice as many as there were at work, before ended ones are dropped."""
_WAITED_FOR: dict[str, Callable[[dict[str, Any]], Iterable[Any]]] = {
    "TaskGroup.__aexit__": lambda names: names["self"]._tasks,  # noqa: SLF001  nowhere else
    "_wait": lambda names: names["fs"],
    "wait_for": lambda names: (names["fut"],),
}
"""Coroutines of asyncio that wait for others by a future of their own, and for which."""


_CLEAN = Variables()
"""That a task has ended is noted by no task of the step."""


class Entered(Protocol):
    """Code that is at work for a task of an attempt, in attempts of its own."""

    def all_wait(self) -> bool: ...
    def has_timer(self) -> bool: ...
    def close(self) -> None: ...


class Attempt:
    """The asyncio tasks of one attempt of a step, from its first one to the end of the last.

    Args:
        path: the step's, with the attempt's number from the second on: `look_up[2]~2`.
        step: the same without that number.
    """

    __slots__ = (
        "_agents",
        "_gate",
        "_is_watched",
        "_kept",
        "_refused",
        "_resting",
        "_root",
        "_stopping",
        "_tasks",
        "_waiting",
        "acting",
        "changed",
        "cut_off",
        "deadlines",
        "entered",
        "forgotten",
        "held",
        "is_over",
        "is_reentered",
        "outer",
        "path",
        "step",
        "thread",
    )

    def __init__(self, path: str, step: str) -> None:
        self.path, self.step = path, step
        self.changed: Callable[[], None] = _nothing
        """Called when a task ends, once one of them waits for the world outside."""
        self.is_over = False
        """Whether nothing of it may be written any more."""
        self.forgotten: dict[str, str] = {}
        """What acts are on record of this attempt that its code has not asked for, by path."""
        self.held = 0
        """How many new calls wait behind those."""
        self.cut_off = ""
        """The last act that was cancelled while it waited behind those."""
        self.acting: set[str] = set()
        """The acts that it began, by path."""
        self.deadlines = 0
        """How many blocks of its code are to be broken off when their time has come."""
        self.is_reentered = False
        """Whether something of it was on record when it began."""
        self.entered: dict[str, Entered] = {}
        """The tools that hold the run of agents at work for it, by the paths of their calls."""
        self.thread: ThreadView | None = None
        """The state of the run's thread, once somebody has looked at it or changed it."""
        self.outer: Attempt | None = None
        """Of a tool that holds the run: the attempt in which its agent is called."""
        self._gate: Gate | None = None
        self._root: asyncio.Task[Any] | None = None
        self._tasks: dict[asyncio.Task[Any], Scope] = {}
        self._kept = _MOST_KEPT
        self._is_watched = False
        self._waiting: dict[str, asyncio.Task[Any] | None] = {}
        """What waits for the world outside, by the paths of the calls that do."""
        self._agents: dict[str, asyncio.Task[Any] | None] = {}
        """The tasks that wait for agents, by the paths of their calls."""
        self._resting: dict[str, frozenset[str]] = {}
        """Of agents in whose task nothing goes on: by what calls it would."""
        self._refused: list[asyncio.Future[None]] = []
        self._stopping: set[asyncio.Task[Any]] = set()

    @property
    def scope(self) -> Scope:
        """Where the calls of the step's own function get their paths, if it begins now."""
        path, step = self.path, self.step
        return Scope(self, path, path if path == step else step)

    @property
    def gate(self) -> Gate:
        """Where its tasks wait for their turn; most attempts have one task, and need none."""
        if self._gate is None:
            self._gate = Gate(is_own=self._is_own, is_ready=self._is_ready, name=self.path)
            if self.is_over:
                self._gate.open()
        return self._gate

    def begin(self, task: "asyncio.Task[Any]") -> None:
        """Take a task for the one in which the step's function runs."""
        self._root = task

    def leave_root(self) -> None:
        """Note that its function has ended."""
        self._root = None

    @property
    def has_tasks(self) -> bool:
        """Whether tasks are left that have not ended."""
        return bool(self._tasks and self._at_work())

    def task_names(self) -> list[str]:
        """Return the names of the functions that its tasks run, without a repetition."""
        return sorted({getattr(t.get_coro(), "__qualname__", "?") for t in self._at_work()})

    def add(self, task: "asyncio.Task[Any]", scope: Scope) -> None:
        """Own a task until it ends."""
        if self.is_over:
            task.cancel()
            return
        self._tasks[task] = scope
        if self._is_watched:
            task.add_done_callback(self._ended, context=_CLEAN)
        if len(self._tasks) > self._kept:
            self._kept = max(_MOST_KEPT, 2 * len(self._at_work()))

    def _at_work(self) -> "dict[asyncio.Task[Any], Scope]":
        """Return the tasks that have not ended, and keep no others."""
        # A callback at the end of each would cost as much as the task.
        if self._tasks:
            self._tasks = {task: scope for task, scope in self._tasks.items() if not task.done()}
        return self._tasks

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self.changed()

    @property
    def is_alone(self) -> bool:
        """Whether the step's function is all that is at work, so that nothing is out of order."""
        if self.deadlines:
            return False
        tasks = self._tasks
        while tasks and next(reversed(tasks)).done():
            tasks.popitem()
        return not tasks

    @contextmanager
    def starting(self, started: asyncio.Event) -> Iterator[None]:
        """A block in which many tasks are started: until its end none goes on with what came.

        The event loop may turn meanwhile; entered again, all of them ask for what is on record.
        """
        gate = self.gate
        gate.held += 1
        try:
            yield
        finally:
            gate.held -= 1
            started.set()

    async def turn(self, order: Order, swallows: int = 0) -> None:
        """Return when what came at `order` may be handed to the current task; see `Gate.turn`."""
        if not self.is_alone:
            await self.gate.turn(order, swallows)

    @contextmanager
    def waiting(self, path: str) -> Iterator[None]:
        """A block in which the current task waits for the world outside, by the call at `path`."""
        if not self._is_watched:
            self._is_watched = True
            for other in self._at_work():
                other.add_done_callback(self._ended, context=_CLEAN)
        self._waiting[path] = asyncio.current_task()
        try:
            yield
        finally:
            del self._waiting[path]

    def performs(self, path: str) -> None:
        """Note that the current task waits for an agent, called at `path`."""
        self._agents[path] = asyncio.current_task()

    def performed(self, path: str) -> None:
        """Note that it waits for it no longer."""
        del self._agents[path]
        self._resting.pop(path, None)

    def rest(self, agent: str, calls: Iterable[str]) -> None:
        """Note that an agent goes on by the ends of some calls alone, which wait as tasks do."""
        if agent in self._agents:
            self._resting[agent] = frozenset(calls)

    def _at_rest(self) -> "Iterable[asyncio.Task[Any] | None]":
        """Yield the tasks that wait for agents which go on when somebody answers."""
        for agent, calls in self._resting.items():
            if calls <= self._waiting.keys():
                yield self._agents[agent]
        for agent, inner in self.entered.items():
            if inner.all_wait():
                yield self._agents[agent]

    def all_wait(self) -> bool:
        """Return whether no task of the step can go on by itself.

        Each waits for the world outside, or for others of them. One that waits for anything else,
        such as a socket of the user's own, is taken to be at work; so is a step that is ending.
        """
        if self._root is None or self.gate.tasks or not self._rest_waits(set()):
            return False
        # What one of them waits for may have come, and be about to wake it.
        ready = getattr(asyncio.get_running_loop(), "_ready", ())
        return not any(self._is_own(handle._context) for handle in tuple(ready))  # noqa: SLF001

    def others_wait(self) -> bool:
        """Return whether that holds for all but the current task, or they wait for their turn."""
        return self._rest_waits({asyncio.current_task(), *self.gate.tasks})

    def _rest_waits(self, known: "set[asyncio.Task[Any] | None]") -> bool:
        tasks = {*self._at_work()} if self._root is None else {self._root, *self._at_work()}
        known = known | {*self._waiting.values(), *self._at_rest()}
        return all(task in known or _awaits_some_of(tasks, task) for task in tasks)

    def cancel(self) -> None:
        """Cancel everything at once, the step's own function too."""
        if self._root is not None and self._root is not asyncio.current_task():
            self._root.cancel()
        self._cancel_tasks(self._at_work())

    def _cancel_tasks(self, tasks: "Iterable[asyncio.Task[Any]]") -> None:
        for task in {*tasks} - self._stopping:
            self._stopping.add(task)
            task.cancel()

    async def stop(self, call: str = "") -> None:
        """End what the step's function left: cancel it, and wait `STOP_SECONDS` for its end.

        What takes longer is left to itself; once the step is over, it can write nothing any more.

        Args:
            call: the path of one whose attempt failed; what that alone left is ended.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + STOP_SECONDS
        while (tasks := self._left_by(call)) and (left := until - loop.time()) > 0:
            self._cancel_tasks(tasks)
            await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    async def end(self) -> None:
        """End the tasks that its function has left, which has ended itself."""
        self.leave_root()
        if self.has_tasks:
            facts = {"step": self.path, "tasks": self.task_names(), "hint": _HINT}
            logger.warning("step.tasks_left", extra=facts)
            await self.stop()

    def _left_by(self, call: str) -> "set[asyncio.Task[Any]]":
        tasks = self._at_work()
        if not call:
            return {*tasks}
        return {task for task, scope in tasks.items() if scope.prefix.startswith(f"{call}/")}

    async def until_closed(self) -> NoReturn:
        """Wait for the end of the attempt, or the cancel that comes before it.

        Raises:
            CancelledError: always.
        """
        if not self.is_over:
            future = asyncio.get_running_loop().create_future()
            self._refused.append(future)
            await future
        raise asyncio.CancelledError

    def close(self) -> None:
        """Let nothing be written from here on."""
        self.is_over = True
        if self._gate is not None:
            self._gate.open()
            self._gate = None  # who asks yet gets one that is open
        for future in self._refused:
            future.cancel()
        if self._tasks:
            self._cancel_tasks(self._at_work())
        for inner in self.entered.values():
            inner.close()

    def has_timer(self) -> bool:
        """Whether a timer of the event loop is running that code of the step set.

        One that sets such a timer, as by `asyncio.timeout`, goes on by itself some time.
        """
        if any(owner is self for owner in owners(asyncio.get_running_loop())):
            return True
        return any(inner.has_timer() for inner in self.entered.values())

    def _is_own(self, variables: Variables) -> bool:
        scope = variables.get(SCOPE)
        return type(scope) is Scope and scope.owner is self

    def _is_ready(self) -> bool:
        tasks = [self._root, *self._tasks] if len(self._tasks) < _MANY_TASKS else ()
        waiters = [getattr(task, "_fut_waiter", None) for task in tasks if task is not None]
        return any(waiter is None or waiter.done() for waiter in waiters)


def _nothing() -> None:
    """Nobody wants to know."""


def _awaits_some_of(tasks: "set[asyncio.Task[Any]]", task: "asyncio.Task[Any]") -> bool:
    awaiting: Any = task.get_coro()
    last: Any = None
    while (inner := getattr(awaiting, "cr_await", None)) is not None:
        last, awaiting = awaiting, inner
    # A task, or what gather() gives, is awaited through an iterator; the task knows what it is.
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None:
        return False
    if waiter in tasks:
        return True
    children = getattr(waiter, "_children", None)
    if children is None:
        waited_for = _WAITED_FOR.get(getattr(last, "__qualname__", ""))
        if waited_for is None:
            return False
        children = waited_for(last.cr_frame.f_locals)
    pending = [child for child in children if not child.done()]
    return bool(pending) and tasks.issuperset(pending)
