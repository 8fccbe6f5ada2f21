"""The answer to one chat, whole or as a stream, made of its run's events."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from crew.errors import CrewError
from crew.fold import Event, progress_line, readable, typed_of
from crew.message import Json
from crew.run import Run
from crew.value import json_text, text_of
from serving.access.addressed import IsFor, question_text
from serving.chat.frames import DONE, PING, Frames, data_frame, usage_body
from serving.chat.sent import SentText
from serving.chat.tail import Outcome, watch
from serving.http.errors import ApiError, from_crew

__all__ = ["Answer", "completion_body", "known_frames"]

_ENDED_EARLY = "the run's events ended before the run did; ask again with the same Idempotency-Key"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One completion in the making.

    `facts` go out beside OpenAI's own keys; `after` is the offset behind which the answer begins,
    `outcome` what was known of the run there; `closing` is set when the server stops. `as_json`
    says that the answer's text is the run's output as JSON; what the run emits is then left out.
    `is_mine` says which questions are for the reader; of others it is said for whom the run waits.
    """

    run: Run
    model: str
    created: int
    facts: dict[str, Json]
    closing: asyncio.Event
    is_mine: IsFor
    after: int = 0
    outcome: Outcome = field(default_factory=Outcome)
    as_json: bool = False

    async def whole(self) -> dict[str, Json]:
        """Wait for the run's end, or for its question to a person, and return the body.

        Raises:
            ApiError: the run failed or was cancelled.
        """
        async for _ in self._watch(60.0):
            pass
        text, facts = self._final()
        return completion_body(
            id=self._id,
            model=self.model,
            created=self.created,
            text=text,
            usage=await self.run.usage(),
            extra=self.facts | facts,
        )

    async def frames(self, *, heartbeat: float, usage: bool, events: bool) -> AsyncIterator[bytes]:
        """The stream: progress as reasoning, then text, usage, and the end.

        An error ends the stream with a frame of its own, as the status is long sent; so does text
        that is taken back once it was sent. The frame names the run.

        Args:
            heartbeat: seconds of silence after which a comment is sent.
            usage: send the tokens of the whole run last.
            events: send every event of the run, too.
        """
        frames = Frames(id=self._id, model=self.model, created=self.created)
        yield frames.role()
        try:
            sent = SentText(self.run.id, await self.run.recorded(self.after))
            async for batch in self._watch(heartbeat):
                texts = {} if self.as_json else sent.take(batch)
                out = (
                    self._frame_of(event, texts.get(event.offset, ""), frames, events)
                    for event in batch
                )
                yield b"".join(out) or PING
            text, _ = self._final()
        except (ApiError, CrewError) as error:
            body = (error if isinstance(error, ApiError) else from_crew(error)).body
            yield data_frame(body | {"crew": {"run_id": self.run.id}})
            return
        if sent.is_silent:
            yield frames.content(text)
        elif not self.outcome.has_ended:
            yield frames.content(f"\n\n{text}")  # a question, behind what was said before it
        last = frames.usage(usage_body(await self.run.usage())) if usage else b""
        yield frames.stop() + last + DONE

    @property
    def _id(self) -> str:
        return f"chatcmpl-{self.run.id}"

    def _watch(self, idle: float) -> AsyncIterator[list[Event]]:
        return watch(self.run, self.outcome, after=self.after, idle=idle, closing=self.closing)

    def _final(self) -> tuple[str, dict[str, Json]]:
        """The text of the end, and what is said about it beside the text."""
        outcome = self.outcome
        if (error := outcome.error(self.run.id)) is not None:
            raise error
        if outcome.has_ended:
            output = outcome.ending.output
            text = json_text(output) if self.as_json else text_of(output)
            return text, {"status": "completed", "output": output}
        if asked := outcome.questions.open:
            text = question_text(asked.values(), self.is_mine)
            return text, {"status": "waiting", "questions": list(asked)}
        raise ApiError(status=500, message=_ENDED_EARLY, type="server_error", again=True)

    def _frame_of(self, event: Event, text: str, frames: Frames, events: bool) -> bytes:
        out = frames.content(text) if text else b""
        if (known := typed_of(event)) and (line := progress_line(known, event.offset)):
            out = frames.reasoning(line)
        if not events:
            return out
        data = readable(event, self.is_mine)
        facts = {"offset": event.offset, "kind": event.kind, "path": event.path, "data": data}
        return out + frames.beside(facts)


def completion_body(
    *,
    id: str,  # noqa: A002 - the API's word
    model: str,
    created: int,
    text: str,
    usage: Mapping[str, float],
    extra: dict[str, Json],
) -> dict[str, Json]:
    """An unstreamed completion."""
    message = {"role": "assistant", "content": text}
    return {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage_body(usage),
        "crew": extra,
    }


async def known_frames(frames: Frames, text: str) -> AsyncIterator[bytes]:
    """The stream of an answer that is known already."""
    yield frames.role() + frames.content(text) + frames.stop() + DONE
