"""A response as its reader gets it: whole, as it stands now, or as a stream from any place on."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from crew.errors import CrewError
from crew.message import Json
from crew.run import Run
from serving.access.addressed import IsFor
from serving.chat.frames import PING
from serving.chat.tail import Outcome, watch
from serving.http.errors import ApiError, from_crew
from serving.responses.fold import ResponseFold
from serving.responses.naming import response_id

__all__ = ["Reading", "frame"]

_WHOLE_SECONDS = 60.0


@dataclass(kw_only=True)
class Reading:
    """One reading of a run's journal, from its first event on.

    Args:
        run: whose.
        is_mine: says which questions are for the reader.
        closing: set when the server stops.
        after: the offset behind which the response begins.
        answered: the path of a question that was just answered: the run is not taken to wait for it
            until it has taken or refused the answer.
    """

    run: Run
    is_mine: IsFor
    closing: asyncio.Event
    after: int = 0
    answered: str = ""
    _outcome: Outcome = field(default_factory=Outcome)

    def __post_init__(self) -> None:
        id = response_id(self.run.id, self.after)  # noqa: A001 - the API's word
        self.fold = ResponseFold(run=self.run.id, id=id, is_mine=self.is_mine, after=self.after)

    async def now(self) -> dict[str, Json]:
        """Return the response as it stands."""
        await self._catch_up()
        rests = self.fold.rests and await self.run.status() == "waiting"
        waits = rests and self._outcome.waits
        return self.fold.response(waits=await self.run.usage() if waits else None)

    async def whole(self) -> dict[str, Json]:
        """Return the response once it has ended, or waits for a person.

        Raises:
            ApiError: the server stops.
        """
        await self._catch_up()
        async for _ in self._rest(_WHOLE_SECONDS):
            pass
        waits = not self._outcome.has_ended
        return self.fold.response(waits=await self.run.usage() if waits else None)

    async def frames(self, *, starting_after: int, heartbeat: float) -> AsyncIterator[bytes]:
        """Yield the stream behind a sequence number.

        Args:
            starting_after: the last number that the reader has; -1 for everything.
            heartbeat: seconds of silence after which a comment is sent.
        """
        try:
            if made := _behind(starting_after, await self._catch_up()):
                yield made
            async for more in self._rest(heartbeat):
                yield _behind(starting_after, more) or PING
        except (ApiError, CrewError) as error:
            yield frame(self._error(error if isinstance(error, ApiError) else from_crew(error)))
            return
        if self._outcome.has_ended:
            return
        pause = self.fold.pause(await self.run.usage())
        if pause is not None and (last := _behind(starting_after, [pause])):
            yield last

    async def _catch_up(self) -> list[dict[str, Json]]:
        """Read what is recorded."""
        made: list[dict[str, Json]] = []
        for event in await self.run.recorded():
            self._outcome.add(event)
            made += self.fold.take(event)
        if self.answered in self._outcome.questions.open:
            self._outcome.pending = self.answered
        return made

    async def _rest(self, idle: float) -> AsyncIterator[list[dict[str, Json]]]:
        after = self.fold.offset
        async for batch in watch(
            self.run, self._outcome, after=after, idle=idle, closing=self.closing
        ):
            yield [item for event in batch for item in self.fold.take(event)]

    def _error(self, error: ApiError) -> dict[str, Json]:
        facts = {"code": error.code, "message": error.message, "param": error.param}
        return {"type": "error", "sequence_number": self.fold.last, **facts}


def _behind(number: int, made: Iterable[dict[str, Json]]) -> bytes:
    return b"".join(frame(item) for item in made if item["sequence_number"] > number)


def frame(made: dict[str, Json]) -> bytes:
    """Return an event as it goes over the wire; here, unlike in chat, each has its name."""
    return f"event: {made['type']}\ndata: {json.dumps(made, ensure_ascii=False)}\n\n".encode()
