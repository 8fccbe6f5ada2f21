"""Workflows that can be run: graphs, and plain async functions."""

import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Unpack, overload

from typing_extensions import TypeVar

from crew.call.context import Context
from crew.call.invoke import run_sync
from crew.graph import Workflow
from crew.graph.node import read_node
from crew.message import Json
from crew.run.runtime import Runtime
from crew.run.tenant import StartOptions

In = TypeVar("In", default=Any)
Out = TypeVar("Out", default=Any)
D = TypeVar("D")
Needed = TypeVar("Needed", contravariant=True)


class Graph(Workflow[In, Out]):
    """A workflow of nodes; see `Workflow` for its arguments."""

    @overload
    async def run(self: "Graph[None, Out]", /, **start: Unpack[StartOptions]) -> Out: ...
    @overload
    async def run(
        self,
        input: In | Mapping[str, Json],
        **start: Unpack[StartOptions],
    ) -> Out: ...
    async def run(self, input: Any = None, **start: Any) -> Any:  # noqa: A002  fixed name
        """Run it once, in a runtime made from the settings, and return its output.

        Args:
            input: a value of the input type.
            start: what `Runtime.start` takes besides: thread, key, budget, when_busy.
        """
        async with Runtime(workflows=[self]) as runtime:
            run = await runtime.start(self, input, **start)
            return await run.result()

    @overload
    def run_sync(self: "Graph[None, Out]", /, **start: Unpack[StartOptions]) -> Out: ...
    @overload
    def run_sync(
        self,
        input: In | Mapping[str, Json],
        **start: Unpack[StartOptions],
    ) -> Out: ...
    def run_sync(self, input: Any = None, **start: Any) -> Any:  # noqa: A002  fixed name
        """Run it once from a script; see `run`."""
        return run_sync(self.run(input, **start), f"{self.name}.run(…)")


class PlainWorkflow(Graph[In, Out]):
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


class Maker(Protocol[Needed]):
    """What makes a function a workflow whose context has such dependencies."""

    @overload
    def __call__(
        self, function: Callable[[Context[Needed], In], Awaitable[Out]], /
    ) -> PlainWorkflow[In, Out]: ...
    @overload
    def __call__(
        self, function: Callable[[Context[Needed]], Awaitable[Out]], /
    ) -> PlainWorkflow[None, Out]: ...
    @overload
    def __call__(self, function: Callable[[In], Awaitable[Out]], /) -> PlainWorkflow[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[], Awaitable[Out]], /) -> PlainWorkflow[None, Out]: ...


@overload
def workflow(
    function: Callable[[Context[Any], In], Awaitable[Out]], /
) -> PlainWorkflow[In, Out]: ...
@overload
def workflow(function: Callable[[Context[Any]], Awaitable[Out]], /) -> PlainWorkflow[None, Out]: ...
@overload
def workflow(function: Callable[[In], Awaitable[Out]], /) -> PlainWorkflow[In, Out]: ...
@overload
def workflow(function: Callable[[], Awaitable[Out]], /) -> PlainWorkflow[None, Out]: ...
@overload
def workflow(*, name: str | None = None, version: str = "1", deps: None = None) -> Maker[Any]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    version: str = "1",
    deps: Callable[[], AbstractAsyncContextManager[D]],
) -> Maker[D]: ...
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

    def make(function: Callable[..., Any]) -> PlainWorkflow[Any, Any]:
        return PlainWorkflow(function, name or function.__name__, version, frame, deps)

    return make if function is None else make(function)
