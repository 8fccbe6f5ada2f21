"""An agent outside any run: its calls are not recorded, and its tools hold no run."""

import asyncio
import functools
import random
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, Protocol, cast

from crew.agent.tool_call import ToolLike
from crew.budget import Budget, BudgetLeft
from crew.call.context import Context, said_before
from crew.call.effect import Unknown
from crew.call.instructions import as_instructions
from crew.call.invoke import invoke
from crew.call.record import (
    MAX_DEPTH,
    AgentTask,
    Equipment,
    Performer,
    Unrecorded,
    describe_callee,
    is_performer,
    takes_idempotency_key,
)
from crew.clock import wall_clock
from crew.content import as_content, result_data, split
from crew.errors import CrewError, GraphError, ToolError
from crew.failure import message_of
from crew.graph import Workflow
from crew.graph.retry import ONCE, Retry
from crew.message import Json, Message
from crew.thread import Thread

__all__ = ["Outside", "OutsideContext", "written_outside"]


class Entering(Performer, Protocol):
    """An agent with tools."""

    @property
    def tools(self) -> Mapping[str, ToolLike]: ...


class Outside(Unrecorded):
    """The calls of an agent outside any run.

    Args:
        agent: whose these are.
        equipment: what agents have in this process.
        depth: how many agents are around it.
    """

    def __init__(self, agent: Entering, equipment: Equipment, depth: int = 0) -> None:
        self._agent, self._equipment, self._depth = agent, equipment, depth

    async def enter(self, path: str, tool: str, arguments: dict[str, Json]) -> dict[str, Json]:
        """Call a tool that takes a context, with what there is of one."""
        if self._depth >= MAX_DEPTH:
            raise ToolError(message=f"agents ask agents {MAX_DEPTH} deep already", tool=tool)
        holding = self._agent.tools[tool]
        context = OutsideContext(self._equipment, self._depth + 1, path)
        try:
            result = await holding.enter(context, arguments)
            data = result_data(result)
            return {"result": holding.codec.passed_on(result)[0] if data is None else data}
        except CrewError:
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {message_of(error)}"
            raise ToolError(message=message, tool=path) from error


async def written_outside(agent: Performer, context: Context[Any]) -> str | None:
    """Return what an agent's function writes as its instructions; None if it has none."""
    instructions = getattr(agent, "instructions", "")
    if not callable(instructions):
        return None
    return as_instructions(agent.name, await invoke(instructions, context))


class OutsideContext(Context[Any]):
    """What a tool holds where there is no run: it calls and acts, and nothing is recorded."""

    def __init__(self, equipment: Equipment, depth: int, path: str) -> None:
        self._equipment, self._depth, self._path = equipment, depth, path

    @property
    def run_id(self) -> str:
        return ""

    @property
    def tenant(self) -> str:
        return ""

    @property
    def metadata(self) -> dict[str, Json]:
        return {}

    @property
    def thread(self) -> Thread:
        self._refuse("thread")

    @property
    def notes(self) -> NoReturn:
        self._refuse("notes")

    @property
    def state(self) -> Any:
        self._refuse("state")

    @property
    def deps(self) -> Any:
        self._refuse("deps")

    def patch(self, **changes: object) -> None:
        self._refuse("patch")

    async def run(
        self,
        callee: Any,
        *arguments: Any,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  as in a run
        budget: Budget | None = None,
        emit: bool = False,
        messages: Sequence[Message] | None = None,
    ) -> Any:
        if isinstance(callee, Workflow):
            self._refuse("run of a workflow")
        if budget is not None:
            self._refuse("run with a budget")
        attempts, attempt = retry or ONCE, 0
        while True:
            attempt += 1
            try:
                async with asyncio.timeout(timeout):
                    return await self._called(callee, arguments, messages)
            except Exception as error:
                if attempt == attempts.attempts or not attempts.allows(error, attempt):
                    raise
            await asyncio.sleep(attempts.delay(attempt))

    async def _called(
        self, callee: Any, arguments: tuple[Any, ...], messages: Sequence[Message] | None
    ) -> Any:
        history = () if messages is None else said_before(messages, callee)
        if not is_performer(callee):
            return await invoke(callee, *arguments)
        content = as_content(arguments[0]) if len(arguments) == 1 else None
        if content is None:
            raise GraphError(message=f"ctx.run(agent, text): {callee.name!r} takes one text")
        text, parts = split(content)
        path = f"{self._path}/{describe_callee(callee)}"
        inner = OutsideContext(self._equipment, self._depth, path)
        written = await written_outside(callee, inner)
        task = AgentTask("", path, text, history, parts=parts, instructions=written)
        calls = Outside(cast("Entering", callee), self._equipment, self._depth)
        return callee.result_of(await callee.perform(task, calls, self._equipment))

    async def effect(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> Any:
        if takes_idempotency_key(function):
            function = functools.partial(function, idempotency_key=secrets.token_hex(16))
        return await invoke(function, *arguments)

    async def ask(
        self,
        answer: Any,
        question: str,
        *,
        key: str | None = None,
        to: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  as in a run
    ) -> Any:
        self._refuse("ask")

    async def map(
        self,
        function: Any,
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        key: str | None = None,
        budget: Budget | None = None,
    ) -> list[Any]:
        self._refuse("map")

    async def sleep(self, seconds: float) -> None:
        self._refuse("sleep")

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)

    async def now(self) -> float:
        return wall_clock()

    async def budget_left(self) -> BudgetLeft:
        """Nothing limits it."""
        return BudgetLeft()

    async def random(self) -> float:
        return random.random()  # noqa: S311  no secret hangs on it

    def emit(self, text: str) -> None:
        """Nobody listens."""

    def progress(self, text: str) -> None:
        """Nobody watches."""

    def _refuse(self, what: str) -> NoReturn:
        raise GraphError(
            message=f"{self._path}: ctx.{what} needs a run, and agent.run(…) makes none: call the "
            "agent in a workflow, by ctx.run(agent, text)"
        )
