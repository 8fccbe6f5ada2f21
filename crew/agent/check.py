"""An agent's check of its own answer, which talks back to the model."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from typing_extensions import TypeVar

from crew.agent.output import Output
from crew.agent.recorded import Recorded
from crew.call.invoke import invoke
from crew.call.record import AgentTask, describe_callee, fingerprint_of
from crew.errors import GraphError, OutputInvalid
from crew.message import Json

__all__ = ["Check", "Checks"]

T = TypeVar("T", default=Any)

Check: TypeAlias = Callable[[T], str | bool | Awaitable[str | bool | None] | None]
"""Given the output; a text, False or a ValueError says that it is refused, and why."""


class Checks:
    """Checks the answers of one task, each once: what is wrong with one is on record.

    Args:
        check: the agent's.
        task: the agent's.
        recorded: makes calls once.
    """

    def __init__(self, check: Check, task: AgentTask, recorded: Recorded) -> None:
        self._check, self._task, self._recorded = check, task, recorded
        self._count = 0

    async def require(self, output: Output, answer: Json) -> None:
        """Refuse an answer that the agent's check does.

        Args:
            output: how answers are decoded.
            answer: an encoded one.

        Raises:
            OutputInvalid: it is refused; the message is what the model gets to read.
            Exception: what else the check raises.
        """

        async def perform(streamed: str) -> dict[str, Json]:
            return {"result": await _problem(self._check, output.value(answer))}

        path = f"{self._task.path}/:check.{self._count}"
        self._count += 1
        fingerprint = fingerprint_of("check", answer)
        found = await self._recorded.call(path, "function", fingerprint, {}, perform)
        if found["result"]:
            raise OutputInvalid(message=found["result"])


async def _problem(check: Check, value: Any) -> str:
    """Return what is wrong with a value, or nothing.

    Raises:
        GraphError: the check returned what says neither.
    """
    name = describe_callee(check)
    try:
        found = await invoke(check, value)
    except ValueError as error:
        return str(error) or f"{name} refused it."
    if found is None or found is True:
        return ""
    if found is False:
        return f"{name} refused it."
    if isinstance(found, str):
        return found
    raise GraphError(
        message=f"check={name} returned a {type(found).__name__}; it returns None or True where "
        "an answer is right, and else a text for the model that says what is wrong"
    )
