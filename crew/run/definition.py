"""Workflows that can be run: graphs, and plain async functions."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, overload

from crew.errors import CrewError
from crew.graph import Workflow
from crew.graph.node import read_node
from crew.run.runtime import Runtime


class Graph(Workflow):
    """A workflow of nodes; see `Workflow` for its arguments."""

    async def run(self, input: Any = None, **start: Any) -> Any:  # noqa: A002  fixed name
        """Run it once, in a runtime made from the settings, and return its output.

        Args:
            input: a value of the input type.
            start: what `Runtime.start` takes besides: thread, key, budget, when_busy.
        """
        async with Runtime(workflows=[self]) as runtime:
            run = await runtime.start(self, input, **start)
            return await run.result()

    def run_sync(self, input: Any = None, **start: Any) -> Any:  # noqa: A002  fixed name
        """Run it once from a script; see `run`."""
        return run_sync(self.run(input, **start), f"{self.name}.run(…)")


class PlainWorkflow(Graph):
    """A workflow that is one async function: one step with many calls."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        version: str,
        frame: Any,
        deps: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        node = read_node(name, function, name=None, frame=frame)
        output = node.output.annotation
        super().__init__(name, input=node.parameter, output=output, version=version, deps=deps)
        self.nodes[node.name] = node
        self.plain = True
        self.function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__


@overload
def workflow(function: Callable[..., Any]) -> PlainWorkflow: ...
@overload
def workflow(
    *,
    name: str | None = None,
    version: str = "1",
    deps: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
) -> Callable[[Callable[..., Any]], PlainWorkflow]: ...
def workflow(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    version: str = "1",
    deps: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
) -> Any:
    """Make an async function a workflow, with the promises of a graph.

    `@workflow` or `@workflow(name=…, version="1", deps=…)`; the function takes a context and one
    value. For the arguments see `crew.graph.Workflow`.

    Raises:
        GraphError: the signature cannot be a workflow's.
    """
    frame = sys._getframe(1)  # noqa: SLF001  local classes resolve where they are defined

    def make(function: Callable[..., Any]) -> PlainWorkflow:
        return PlainWorkflow(function, name or function.__name__, version, frame, deps)

    return make if function is None else make(function)


def run_sync(work: Coroutine[Any, Any, Any], advice: str) -> Any:
    """Run a coroutine to its end from a thread without an event loop.

    Raises:
        CrewError: there is a running loop, as in a notebook; the message says to use `await`.
    """
    if not _in_a_loop():
        return asyncio.run(work)
    work.close()
    raise CrewError(
        message=f"run_sync() cannot run inside a running event loop (a notebook has one); "
        f"write `await {advice}` instead"
    )


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
