"""What stands for the older turns of a thread in an agent's prompts, once they do not fit."""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from crew.agent.history import History
from crew.agent.recorded import Recorded
from crew.agent.summaries import Summaries
from crew.call.record import AgentTask, Calls
from crew.errors import ModelError
from crew.llm import Model, ModelRequest
from crew.llm.cost import bound_by_bytes, input_estimate, request_bytes
from crew.llm.window import room_in
from crew.message import Json, Message, usage_from
from crew.thread import NO_COMPACTION, Compaction
from crew.value.changes import joined

__all__ = ["Compacting"]

logger = logging.getLogger(__name__)

MOST_SUMMARY = 1024
"""The most tokens of a summary; it is a sixth of what is left of a small window."""
Turn = tuple[Message, ...]


class _Plan(NamedTuple):
    """How many of the newest turns stay as they are, and how many each summary takes in."""

    kept: int
    parts: list[int]


class Compacting:
    """Fits the earlier turns of one task into the window of its agent's models.

    Args:
        agent: the agent's name.
        history: what it is to see of them.
        task: the agent's.
        models: what it asks.
        summarisers: what summarises; none, if turns are left out instead.
        calls: the journal of the run.
    """

    def __init__(
        self,
        agent: str,
        history: History,
        task: AgentTask,
        models: Sequence[Model],
        summarisers: Sequence[Model],
        calls: Calls,
    ) -> None:
        self._agent, self._history, self._task = agent, history, task
        self._models = models
        self._recorded = Recorded(calls, task)
        self._summaries = Summaries(summarisers, task, calls) if summarisers else None
        self._before = task.compacted or NO_COMPACTION
        self._made: Compaction | None = None

    async def fitted(
        self, asked_after: Callable[[Sequence[Message]], ModelRequest]
    ) -> tuple[Message, ...]:
        """Return what the agent gets to see of the earlier turns.

        Args:
            asked_after: gives the first request of the task, were this what was said before.

        Raises:
            BudgetExceeded: too little is left for a summary.
        """
        turns, before = _turns(self._task.history), self._before
        said = (*_standing_for(before), *self._task.history)
        if not turns:
            return said
        request = asked_after(said)
        room = min([await room_in(model, request.max_tokens) for model in self._models])
        # Bytes bound tokens: what fits by them fits, and needs no record.
        if not self._is_over(turns) and bound_by_bytes(request) <= room:
            return said

        async def perform(streamed: str) -> dict[str, Json]:
            return {"result": (await self._plan(turns, request, asked_after(()), room))._asdict()}

        path = f"{self._task.path}/:history"
        found = await self._recorded.call(path, "function", "history", {}, perform)
        plan = _Plan(**found["result"])
        if not plan.parts:
            return said
        left_out = turns[: len(turns) - plan.kept]
        compaction = await self._compacted(left_out, plan.parts, request, room)
        return (*_standing_for(compaction), *_flat(turns[len(left_out) :]))

    def kept_in(self, result: dict[str, Json]) -> dict[str, Json]:
        """Return the task's result with what is kept with the thread, and what that cost."""
        usage = result["usage"]
        if self._summaries is not None:
            usage = (self._summaries.usage + usage_from(usage)).to_data()
        if self._made is None:
            return {**result, "usage": usage}
        changes = {"set": {Compaction.name(self._agent): self._made.to_data()}}
        return {**result, "usage": usage, "thread": joined(result.get("thread", {}), changes)}

    def _is_over(self, turns: Sequence[Turn]) -> bool:
        return self._history.last is not None and len(turns) > self._history.last

    async def _plan(
        self, turns: Sequence[Turn], request: ModelRequest, bare: ModelRequest, room: int
    ) -> _Plan:
        """Say what stays.

        Args:
            turns: the earlier ones.
            request: the first one of the task, with all of them.
            bare: the same without any.
            room: the tokens that it may have.
        """
        read = await input_estimate(self._models[0], request, room)
        kept, rate = len(turns), read / request_bytes(request)
        if read > room:
            free = room - request_bytes(bare) * rate
            kept = _newest(turns, (free / 2 - self._most_summary(room)) / rate)
        if self._history.last is not None and self._is_over(turns):
            kept = min(kept, max(1, self._history.last // 2))
        if kept == len(turns):
            return _Plan(kept, [])
        left_out = turns[: len(turns) - kept]
        if self._summaries is None:
            return _Plan(kept, [len(left_out)])
        size = await self._summaries.bytes_at_once(self._most_summary(room))
        return _Plan(kept, _parts(left_out, size))

    def _most_summary(self, room: int) -> int:
        return min(MOST_SUMMARY, room // 6) if self._summaries is not None else 0

    async def _compacted(
        self, left_out: Sequence[Turn], parts: Sequence[int], request: ModelRequest, room: int
    ) -> Compaction:
        """Return what stands for the turns that are left out, and for those before them."""
        turns, text = self._before.turns + len(left_out), self._before.text
        if self._summaries is not None:
            ends = [sum(parts[:number]) for number in range(len(parts) + 1)]
            pieces = [_flat(left_out[begin:end]) for begin, end in pairwise(ends)]
            try:
                text = await self._summaries.over(text, pieces, request, self._most_summary(room))
            except ModelError as error:
                # The task is not to fail for it: the next turn tries again.
                facts = {"run": self._task.run, "path": self._task.path, "error": str(error)}
                logger.warning("history.not_summarised", extra=facts)
                return Compaction(turns, text)
        self._made = Compaction(turns, text)
        return self._made


def _turns(messages: Sequence[Message]) -> list[Turn]:
    """Return messages as turns, each of which begins with the user's."""
    begins = [place for place, message in enumerate(messages) if message.role == "user"]
    ends = [0, *begins[1:], len(messages)]  # what was said before the first is of it
    return [tuple(messages[begin:end]) for begin, end in pairwise(ends) if begin < end]


def _flat(turns: Sequence[Turn]) -> list[Message]:
    return [message for turn in turns for message in turn]


def _size(turn: Turn) -> int:
    return request_bytes(ModelRequest(messages=turn))


def _newest(turns: Sequence[Turn], size: float) -> int:
    """Return how many of the newest turns have so many bytes together; not all of them."""
    count = 0
    for turn in reversed(turns[1:]):
        size -= _size(turn)
        if size < 0:
            break
        count += 1
    return count


def _parts(turns: Sequence[Turn], size: int) -> list[int]:
    """Return how many turns, one after the other, have at most so many bytes; one at least."""
    parts, left = list[int](), 0
    for turn in turns:
        needed = _size(turn)
        if parts and needed <= left:
            parts[-1] += 1
            left -= needed
        else:
            parts.append(1)
            left = size - needed
    return parts


def _standing_for(compaction: Compaction) -> Iterator[Message]:
    """Yield what stands in the place of turns: a word of the user's, and its answer.

    It is no instruction, though models take one from the system alone; and templates want the
    roles to alternate.
    """
    if not compaction.turns:
        return
    if compaction.text:
        words = f"[A summary of the first {compaction.turns} turns of this conversation:]"
        yield Message("user", f"{words}\n{compaction.text}")
    else:
        words = f"[The first {compaction.turns} turns of this conversation are left out here.]"
        yield Message("user", words)
    yield Message("assistant", "I see.")
