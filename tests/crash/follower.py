"""A client of a streamed response that comes back whenever its connection breaks."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx2
import openai

BROKEN = (openai.APIConnectionError, openai.InternalServerError, httpx2.TransportError)
"""What a client sees of a server that died or does not answer yet."""


@dataclass
class Followed:
    """What a client was told of one response, over all its connections."""

    id: str = ""
    numbers: list[int] = field(default_factory=list)
    pieces: list[tuple[str, str]] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    final: object = None
    connections: int = 1

    @property
    def text(self) -> str:
        """What was said, without the items that were closed as incomplete."""
        return "".join(text for item, text in self.pieces if self.closed[item] == "completed")

    @property
    def is_in_order(self) -> bool:
        """Whether no sequence number repeats or goes back."""
        return self.numbers == sorted(set(self.numbers))

    def add(self, event) -> None:
        self.numbers.append(event.sequence_number)
        if event.type == "response.created":
            self.id = event.response.id
        elif event.type == "response.output_text.delta":
            self.pieces.append((event.item_id, event.delta))
        elif event.type == "response.output_item.done":
            self.closed[event.item.id] = event.item.status
        elif event.type in ("response.completed", "response.failed", "response.incomplete"):
            self.final = event.response


async def follow(client: openai.AsyncOpenAI, text: str, key: str) -> Followed:
    """Start a background response and read its stream to the end, whatever breaks."""
    told = Followed()
    asked = {"model": "chat", "input": text, "background": True, "stream": True}
    again = {"extra_headers": {"Idempotency-Key": key}}
    while told.final is None:
        if told.id:
            last = told.numbers[-1]
            stream = await until_it_answers(
                lambda last=last: client.responses.retrieve(
                    told.id, stream=True, starting_after=last
                )
            )
        else:
            stream = await until_it_answers(lambda: client.responses.create(**asked, **again))
        await _read(stream, told)
    return told


async def _read(stream, told: Followed) -> None:
    try:
        async for event in stream:
            if event.type == "error":  # a server that stops says so
                break
            told.add(event)
    except BROKEN:
        pass
    if told.final is None:
        told.connections += 1


async def until_it_answers(ask: Callable[[], Awaitable]):
    async with asyncio.timeout(60):
        while True:
            try:
                return await ask()
            except BROKEN:
                await asyncio.sleep(0.05)
