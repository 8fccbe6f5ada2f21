"""Where a call is in the program: the lineage of its asyncio task, and its position in it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

_WAITS_FOR_TASKS = frozenset({"TaskGroup.__aexit__", "_wait", "wait_for"})
"""Coroutines of asyncio that wait for tasks by a future of their own."""


class Branches:
    """The asyncio tasks of one step, and which of them wait for the world outside."""

    def __init__(self) -> None:
        self.changed: Callable[[], None] = _nothing
        """Called when a task ends."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: set[asyncio.Task[Any] | None] = set()

    def add(self, task: "asyncio.Task[Any]") -> None:
        """Watch a task of the step until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        self.changed()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block in which the current task waits for the world outside."""
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)

    def all_wait(self, root: "asyncio.Task[Any]") -> bool:
        """Return whether no task of the step, whose first one is `root`, can go on by itself.

        Each waits for the world outside, or for others of them. One that waits for anything else,
        such as a socket of the user's own, is taken to be at work.
        """
        tasks = {root, *self._tasks}
        return all(task in self._waiting or _awaits_some_of(tasks, task) for task in tasks)


def _nothing() -> None:
    """Nobody wants to know."""


def _awaits_some_of(tasks: "set[asyncio.Task[Any]]", task: "asyncio.Task[Any]") -> bool:
    awaiting: Any = task.get_coro()
    name = ""
    while (inner := getattr(awaiting, "cr_await", None)) is not None:
        name = getattr(awaiting, "__qualname__", "")
        awaiting = inner
    # A task, or what gather() gives, is awaited through an iterator; the task knows what it is.
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None:
        return False
    if waiter in tasks:
        return True
    children = getattr(waiter, "_children", None)
    if children is not None:
        return all(child.done() or child in tasks for child in children)
    return name in _WAITS_FOR_TASKS


@dataclass(slots=True)
class Scope:
    """Where the calls of one asyncio task get their paths.

    `step` is the step's path without its attempt; `prefix` ends with the task's lineage.
    """

    context: object
    step: str
    prefix: str
    branches: Branches
    counts: dict[str, int] = field(default_factory=dict)
    tasks: int = 0

    def next(self, name: str) -> str:
        """Return the path of the next call of this name in this task."""
        position = self.counts.get(name, 0)
        self.counts[name] = position + 1
        return f"{self.prefix}/{name}.{position}" if position else f"{self.prefix}/{name}"

    def child(self, part: str) -> "Scope":
        return Scope(self.context, self.step, f"{self.prefix}/{part}", self.branches)

    def within(self, path: str) -> "Scope":
        """Return the scope of what happens inside the call at `path`."""
        return Scope(self.context, self.step, path, self.branches)


SCOPE: ContextVar[Scope | None] = ContextVar("crew_scope", default=None)


def task_factory(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    *,
    context: Variables | None = None,
    **options: Any,
) -> asyncio.Task[T]:
    """Make a task that knows its place among its parent's; for `loop.set_task_factory`."""
    scope = SCOPE.get() if context is None else context.get(SCOPE)
    if scope is not None:
        context = copy_context() if context is None else context
        context.run(SCOPE.set, scope.child(f"t{scope.tasks}"))
        scope.tasks += 1
    task = asyncio.Task(coroutine, loop=loop, context=context, **options)
    if scope is not None:
        scope.branches.add(task)
    return task


class entered:  # noqa: N801  reads as `with entered(scope)`
    """A block in which calls get their paths in `scope`."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = SCOPE.set(self._scope)

    def __exit__(self, *exc: object) -> None:
        SCOPE.reset(self._token)
