"""The model calls of one task, each of which may take a try at one model after the other."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from crew.agent.model_call import ModelCall, reply_from
from crew.agent.recorded import Recorded
from crew.call.record import AgentTask, Calls
from crew.errors import ModelError
from crew.llm import Model, ModelReply, ModelRequest
from crew.llm.bucket import turn_at
from crew.llm.terms import terms_of
from crew.message import NO_USAGE, Json, Usage, usage_from

__all__ = ["Answered", "Tries"]


class Answered(NamedTuple):
    """A model's reply, the path of the try that it came of, and what all tries cost."""

    reply: ModelReply
    path: str
    usage: Usage


class Tries:
    """Asks an agent's models, in order, until one gives a usable reply.

    Each try is a call of its own, so that one with an end on record is not made again, and what a
    failed one cost is known. Whether the next follows is decided by the error as it is on record.

    Args:
        calls: the journal of the run.
        task: the agent's.
        models: what is asked, one or more.
        recorded: makes each try once.
    """

    def __init__(
        self, calls: Calls, task: AgentTask, models: Sequence[Model], recorded: Recorded
    ) -> None:
        self._calls, self._task, self._models, self._recorded = calls, task, models, recorded

    async def answer(self, path: str, request: ModelRequest, data: dict[str, Json]) -> Answered:
        """Return the first usable reply to a request.

        Args:
            path: of the call; further tries add their number to it, as `model.0~2`.
            request: what is asked.
            data: what the intent of each try holds beside its model.

        Raises:
            ModelError: none gave one, or one refused what it was asked.
            BudgetExceeded: too little is left for the next try.
        """
        errors, lost = list[ModelError](), NO_USAGE
        for number, model in enumerate(self._models, 1):
            place = path if number == 1 else f"{path}~{number}"
            call = ModelCall(self._calls, self._task, model, place, request)
            await self._turn(model, place)
            try:
                result = await self._try(call, model, place, data)
            except ModelError as error:
                if error.is_refusal:
                    raise
                errors.append(error)
                lost += call.lost + usage_from(call.cost(error) or {})
                continue
            usage = usage_from(result["usage"])
            if errors or call.lost is not NO_USAGE:
                usage = lost + call.lost + usage
            return Answered(reply_from(result), place, usage)
        if len(errors) == 1:
            raise errors[0]
        raise _none_answered(self._models, errors) from errors[-1]

    async def _turn(self, model: Model, path: str) -> None:
        """Wait for the model's endpoint: before anything is reserved, or on record as begun."""
        if terms_of(model).requests_per_second is not None and await self._calls.is_due(path):
            await turn_at(model)

    async def _try(
        self, call: ModelCall, model: Model, path: str, data: dict[str, Json]
    ) -> dict[str, Json]:
        data = {"model": model.name, **data, **call.provider()}

        def wrap(words: str) -> ModelError:
            return ModelError(message=f"the model {model.name!r} raised {words}")

        # No lambda: what is no async function by its looks is called in a thread.
        complete = functools.partial(call.complete, data)
        return await self._recorded.call(path, "model", "model", data, complete, wrap, paying=call)


def _none_answered(models: Sequence[Model], errors: Sequence[ModelError]) -> ModelError:
    each = "; ".join(f"{m.name}: {e}" for m, e in zip(models, errors, strict=True))
    return ModelError(message=f"none of {len(models)} models gave a usable reply. {each}")
