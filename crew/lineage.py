"""Where a call is in the program: the lineage of its asyncio task, and its position in it."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Scope:
    """Where the calls of one asyncio task get their paths.

    `step` is the step's path without its attempt; `prefix` ends with the task's lineage.
    """

    context: object
    step: str
    prefix: str
    counts: dict[str, int] = field(default_factory=dict)
    tasks: int = 0

    def next(self, name: str) -> str:
        """Return the path of the next call of this name in this task."""
        position = self.counts.get(name, 0)
        self.counts[name] = position + 1
        return f"{self.prefix}/{name}.{position}" if position else f"{self.prefix}/{name}"

    def child(self, part: str) -> "Scope":
        return Scope(self.context, self.step, f"{self.prefix}/{part}")


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
    return asyncio.Task(coroutine, loop=loop, context=context, **options)


@contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Make `scope` the one in which calls get their paths."""
    token = SCOPE.set(scope)
    try:
        yield
    finally:
        SCOPE.reset(token)
