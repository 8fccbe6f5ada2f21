"""Calls of one step at once: each in a task of its own, whose place does not depend on the others.

As many tasks as are wanted at once, not one for each call: a task that waits for its turn costs as
much memory as one at work.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NoReturn, TypeVar

from crew.call.lineage import Scope, entered
from crew.clock import steady_clock

T = TypeVar("T")

Placed = tuple[Scope, Coroutine[Any, Any, T]]
"""A coroutine, and the scope that its task is to have."""

SLICE_SECONDS = 0.005
"""How long tasks are started before others have their turn at the event loop."""


async def all_at_once(work: Iterable[Placed[T]], starting: AbstractContextManager[None]) -> list[T]:
    """Run coroutines at once; return their results in order.

    Args:
        work: makes each as it is asked for.
        starting: a block in which they are started.

    Raises:
        Exception: as of `together`.
    """
    tasks = list[asyncio.Task[T]]()
    now = steady_clock()
    began = now()
    try:
        async with asyncio.TaskGroup() as group:
            with starting:
                for scope, coroutine in work:
                    with entered(scope):
                        tasks.append(group.create_task(coroutine))
                    if now() - began > SLICE_SECONDS:
                        await asyncio.sleep(0)
                        began = now()
    except BaseExceptionGroup as errors:
        _raise_first(errors)
    return [task.result() for task in tasks]


async def few_at_once(work: Iterable[Placed[T]], limit: int, scope: Scope) -> list[T]:
    """Run coroutines, `limit` of them at once; return their results in order.

    Args:
        work: makes each as it is asked for.
        limit: how many coroutines and tasks there are at any time.
        scope: that of the tasks that start the others, in which nothing is called.

    Raises:
        Exception: as of `together`.
    """
    left, results = iter(work), list[Any]()

    async def one_by_one() -> None:
        for placed, coroutine in left:
            place = len(results)
            results.append(None)
            with entered(placed):
                task = asyncio.create_task(coroutine)
            results[place] = await task

    def starters() -> Iterator[Coroutine[Any, Any, None]]:
        for _ in range(limit):
            scope.is_placed = True
            with entered(scope):
                yield one_by_one()

    await together(starters())
    return results


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once, each in a task of its own; return their results in order.

    Raises:
        Exception: the first error of one of them, as it is, so that it can be caught by its class;
            the others are cancelled.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
    except BaseExceptionGroup as errors:
        _raise_first(errors)
    return [task.result() for task in tasks]


def _raise_first(errors: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise the first error of a group as it is."""
    first = errors.exceptions[0]
    raise first from first.__cause__
