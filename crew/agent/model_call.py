"""One call of an agent's model: what is reserved for it, and its requests until one is answered."""

import asyncio
import random
import time
from dataclasses import replace
from typing import Any

from crew.agent.reservation import Reservation, cost_of, reserved
from crew.agent.speech import Speech
from crew.agent.text_field import TextField
from crew.budget import NOTHING, Amount
from crew.call.record import AgentTask, Calls
from crew.errors import BudgetExceeded, ModelError
from crew.fold import amount_of
from crew.llm import Model, ModelReply, ModelRequest, continues, provider_of
from crew.llm.bucket import turn_at
from crew.llm.terms import fitted, priced, terms_of
from crew.llm.wire import with_usage
from crew.message import NO_USAGE, Json, ToolCall, Usage, call_data, usage_from

__all__ = ["MAX_STREAMS", "ModelCall", "reply_data", "reply_from"]

MAX_STREAMS = 4
"""How often one answer is begun at an engine that broke off and cannot go on."""
PAUSE = 0.1
"""Seconds from which the pauses grow, random and to twice their length, before it is."""


class ModelCall:
    """Makes the requests of one call, each within what is reserved of a budget, if there is one.

    Args:
        calls: the journal of the run.
        task: the agent's.
        model: what is asked.
        path: the call's.
        request: what is asked for.
    """

    def __init__(
        self, calls: Calls, task: AgentTask, model: Model, path: str, request: ModelRequest
    ) -> None:
        self.lost = NO_USAGE
        """What requests cost that broke off and were settled before the next was made."""
        self._calls, self._task, self._model, self._path = calls, task, model, path
        self._terms = terms_of(model)
        self._request = fitted(request, self._terms)
        self._reservation: Reservation | None = None
        self._broke_off: ModelError | None = None

    async def reserve(self) -> dict[str, Json]:
        """Return what the intent of the call holds of what is reserved for it.

        Raises:
            BudgetExceeded: it does not fit.
        """
        found = await reserved(self._calls, self._path, self._model, self._request)
        self._reservation = found
        return {} if found is None else found.data()

    async def complete(self, data: dict[str, Json], streamed: str) -> dict[str, Json]:
        """Ask the model.

        Args:
            data: the call's intent.
            streamed: what a reader got of the answer before a crash.
        """
        # Of JSON, what was streamed is but the text in it: nothing to go on from.
        goes_on = bool(streamed) and self._request.schema is None
        request = replace(self._request, partial=streamed) if goes_on else self._request
        if self._reservation is not None:
            request = self._reservation.limited(request)
        if streamed and (not request.partial or not await continues(self._model)):
            await self._calls.discard_text(self._path)
            request = replace(request, partial="")
        began = time.monotonic()
        reply = await self._answered(request, data)
        if (usage := priced(reply.usage, self._terms)) is not reply.usage:
            reply = replace(reply, usage=usage)
        seconds = round(time.monotonic() - began, 3)
        return {**reply_data(reply), "seconds": seconds, **self.provider()}

    def provider(self) -> dict[str, Json]:
        """Return who computes, which an endpoint may say in its first answer alone."""
        provider = provider_of(self._model)
        return {"provider": provider} if provider else {}

    def cost(self, error: Exception) -> dict[str, int] | None:
        """Return what the request cost that failed last; None if nobody knows that."""
        return cost_of(self._broke_off or error, self._terms)

    async def _answered(self, request: ModelRequest, data: dict[str, Json]) -> ModelReply:
        """Return the answer; one that breaks off is begun anew, and paid twice."""
        lost, times = NO_USAGE, 0
        while True:
            times += 1
            try:
                reply = with_usage(await self._ask(request), request)
                return reply if times == 1 else replace(reply, usage=lost + reply.usage)
            except ModelError as error:
                if not error.broke_off or times == MAX_STREAMS:
                    raise
                await turn_at(self._model)
                if self._reservation is None:
                    lost += Usage(error.input_tokens, error.output_tokens)
                else:
                    await asyncio.sleep(random.uniform(0.5, 1) * PAUSE * 2**times)  # noqa: S311
                    request = await self._again(error, data)

    async def _ask(self, request: ModelRequest) -> ModelReply:
        if not self._task.emit:
            return await self._model.complete(request)
        is_begun = bool(request.partial)
        async with Speech(self._calls, self._path, streamed=is_begun) as speech:
            add = speech.add if request.schema is None else TextField(speech.add).add
            return await self._model.complete(request, on_text=add)

    async def _again(self, error: ModelError, data: dict[str, Json]) -> ModelRequest:
        """Settle what a request cost that broke off, and reserve what the next one may cost."""
        self._broke_off = error
        lost = cost_of(error, self._terms)
        known: dict[str, Json] = {} if lost is None else {"lost": lost}
        assert self._reservation is not None
        held = self._reservation.amount
        freed = NOTHING if lost is None else held - amount_of(lost)
        while True:
            data = {**data, **known, **self._reservation.data()}
            try:
                await self._calls.restart(self._path, "model", "model", data)
                break
            except BudgetExceeded as refused:
                self._reservation = await self._smaller(self._reservation, freed, refused)
        self._broke_off = None
        self.lost += usage_from(lost) if lost else NO_USAGE
        return self._reservation.limited(self._request)

    async def _smaller(
        self, wanted: Reservation, freed: Amount, refused: BudgetExceeded
    ) -> Reservation:
        """Return what fits once nothing can come back any more, or enough has.

        Raises:
            BudgetExceeded: not even a short answer does.
        """
        if refused.unit not in ("tokens", "money"):
            raise refused
        allowance = await self._calls.allowance(self._path, wanted.amount - freed)
        if allowance is None:
            raise refused
        money = None if allowance.money is None else allowance.money + freed.money
        found = wanted.within(allowance.left + freed.tokens, money)
        if found is None:
            raise refused
        return found


def reply_data(reply: ModelReply) -> dict[str, Json]:
    """Return a model's reply as it is stored."""
    data: dict[str, Any] = {
        "text": reply.text,
        "tool_calls": [call_data(call) for call in reply.tool_calls],
        "usage": reply.usage.to_data(),
        "model": reply.model,
        "finish_reason": reply.finish_reason,
    }
    if reply.extra:
        data["extra"] = reply.extra
    return data if reply.is_counted else {**data, "estimated": True}


def reply_from(data: dict[str, Json]) -> ModelReply:
    """Return a stored reply."""
    return ModelReply(
        text=data["text"],
        tool_calls=tuple(ToolCall(**call) for call in data["tool_calls"]),
        usage=usage_from(data["usage"]),
        model=data["model"],
        finish_reason=data["finish_reason"],
        is_counted=not data.get("estimated"),
        extra=data.get("extra"),
    )
