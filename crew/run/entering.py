"""Tools that hold the run: entered like nodes, for an agent, where the run is driven.

Such a tool is code of a step's own that a model calls. Its calls are journalled beneath the call of
the tool, in an attempt of its own: they have their own order, and end with it. The agent may work
in another process; the tool does not.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any, Protocol, cast

from crew.call.attempt import STOP_SECONDS, Attempt
from crew.call.context import Context
from crew.call.driven import Driven
from crew.call.invoke import is_asked_to_stop, not_an_exception
from crew.call.lineage import entered
from crew.call.record import MAX_DEPTH, Performer
from crew.content import result_data
from crew.define import frozen
from crew.errors import (
    CrewError,
    Diverged,
    Fenced,
    NotAnException,
    OutputInvalid,
    StoreError,
    ToolError,
)
from crew.failure import message_of
from crew.message import Json
from crew.run.attempts import Attempts
from crew.value import Codec, is_big

__all__ = ["EnteredTools"]

_OF_RUNS = (Diverged, Fenced, StoreError, NotAnException)
"""What the code of a tool may raise that is not to be taken for an error of its run."""


class HoldingTool(Protocol):
    """What is needed of a tool that holds the run; `crew.tool.Tool` may be one."""

    @property
    def function(self) -> Callable[..., Any]: ...

    @property
    def codec(self) -> Codec: ...

    async def enter(self, context: Context, arguments: dict[str, Json]) -> Any: ...


class WithTools(Protocol):
    """An agent that has tools."""

    @property
    def tools(self) -> Mapping[str, HoldingTool]: ...


@frozen
class _Entered:
    """A tool that was entered."""

    task: "asyncio.Task[dict[str, Json]]"
    attempt: Attempt


class EnteredTools:
    """The tools that one agent's call is in.

    Args:
        agent: whose tools these are.
        outer: the attempt in which the agent is called.
        attempts: those of the run.
        inside: gives what the context of a tool needs, for the attempt of its own.
        depth: how many tools that hold the run are around these.
    """

    def __init__(
        self,
        agent: Performer,
        outer: Attempt,
        attempts: Attempts,
        inside: Callable[[Attempt], Driven],
        depth: int,
    ) -> None:
        self._tools = cast("WithTools", agent).tools
        self._outer = outer
        self._of_run = attempts
        self._inside = inside
        self._depth = depth
        self._variables = copy_context()
        self._under_way: dict[str, _Entered] = {}
        """By the paths of their calls; also one whose result nobody has fetched yet."""
        self._others: set[str] = set()
        """The agent's calls under way that are none of these."""

    async def enter(self, path: str, name: str, arguments: dict[str, Json]) -> dict[str, Json]:
        """Call a tool, or go on waiting for it; see `crew.call.record.Calls.enter`.

        It goes on if the agent's host is lost meanwhile: the next one asks for it again.
        """
        self._others.discard(path)
        tool = self._under_way.get(path)
        if tool is None:
            tool = self._under_way[path] = self._begun(path, name, arguments)
        try:
            return await asyncio.shield(tool.task)
        finally:
            if tool.task.done():
                self._under_way.pop(path, None)

    def _begun(self, path: str, name: str, arguments: dict[str, Json]) -> "_Entered":
        if self._depth >= MAX_DEPTH:
            raise ToolError(
                message=f"agents and tools hold the run {MAX_DEPTH} deep already at {path}: answer "
                "without this one",
                tool=name,
            )
        attempt = Attempt(path, path)
        attempt.changed, attempt.outer = self._outer.changed, self._outer
        self._of_run.enter_within(attempt)
        work = self._called(attempt, self._tools[name], arguments)
        task = asyncio.create_task(work, context=self._variables.copy())
        attempt.begin(task)
        return _Entered(task, attempt)

    async def _called(
        self, attempt: Attempt, tool: HoldingTool, arguments: dict[str, Json]
    ) -> dict[str, Json]:
        driver = self._inside(attempt)
        context = Context(driver, None, tool.function)
        try:
            with entered(attempt.scope):
                result = await tool.enter(context, arguments)
            stored = await _stored(driver, tool.codec, result, attempt.path)
            return {"result": stored, **_kept(attempt)}
        except asyncio.CancelledError as error:
            if is_asked_to_stop() or attempt.is_over:
                raise
            raise _wrapped(not_an_exception(error), attempt.path) from error
        except Exception as error:
            if isinstance(error, CrewError) and not isinstance(error, _OF_RUNS):
                raise
            raise _wrapped(error, attempt.path) from error
        finally:
            await attempt.end()
            self._of_run.leave_within(attempt)

    async def leave(self) -> None:
        """Cancel those that are under way, and wait `STOP_SECONDS` for their ends.

        What takes longer writes nothing any more. Whoever waits here may be cancelled once more,
        and waits all the same: an effect is given its time.
        """
        left = [*self._under_way.values()]
        self._under_way.clear()
        for tool in left:
            tool.attempt.cancel()
        cancelled = await _ended({tool.task for tool in left})
        for tool in left:
            tool.attempt.close()
            if tool.task.done() and not tool.task.cancelled():
                tool.task.exception()  # what nobody fetched is nobody's
        if cancelled is not None:
            raise cancelled

    def begun(self, path: str) -> None:
        """Note that the agent began another call."""
        self._others.add(path)

    def ended(self, path: str) -> None:
        """Note that it ended."""
        self._others.discard(path)
        self._outer.changed()

    def all_wait(self) -> bool:
        """Return whether the agent can only go on once one of its tools does, and each waits."""
        if not self._under_way or self._others:
            return False
        return all(tool.attempt.all_wait() for tool in self._under_way.values())

    def has_timer(self) -> bool:
        """Return whether code of one of them has set a timer of the event loop that runs."""
        return any(tool.attempt.has_timer() for tool in self._under_way.values())

    def close(self) -> None:
        """Let nothing be written from here on."""
        for tool in self._under_way.values():
            tool.attempt.close()


async def _stored(driver: Driven, codec: Codec, result: object, path: str) -> Json:
    """Return what a tool gave as it is stored.

    Raises:
        ToolError: it cannot be; it is no act, so that the model may call it again.
    """
    try:
        if (data := result_data(result)) is not None:
            return data
        return await driver.encoded(codec, result) if is_big(result) else codec.passed_on(result)[0]
    except Exception as error:  # a serializer of the user's raises anything
        raise ToolError(message=message_of(error), tool=path) from error


def _kept(attempt: Attempt) -> dict[str, Json]:
    """Return what a tool has changed of its thread's state, as it is recorded with its result.

    Raises:
        ToolError: that cannot be kept.
    """
    try:
        changes = None if attempt.thread is None else attempt.thread.changes()
    except OutputInvalid as error:
        raise ToolError(message=str(error), tool=attempt.path) from error
    return {"thread": changes} if changes else {}


async def _ended(tasks: "set[asyncio.Task[Any]]") -> asyncio.CancelledError | None:
    """Wait for the ends of tasks; return the last cancel that came meanwhile."""
    loop, cancelled = asyncio.get_running_loop(), None
    until = loop.time() + STOP_SECONDS
    while tasks and (seconds := until - loop.time()) > 0:
        try:
            _, tasks = await asyncio.wait(tasks, timeout=seconds)
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


def _wrapped(error: Exception, path: str) -> ToolError:
    return ToolError(message=f"{type(error).__name__}: {message_of(error)}", tool=path)
