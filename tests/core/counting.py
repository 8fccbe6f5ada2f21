"""An endpoint for tests of budgets: it says how many tokens it has really computed."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

from crew.errors import ModelError
from crew.journal.opening import open_store
from crew.llm import ModelReply, ModelRequest
from crew.llm.cost import request_bytes
from crew.message import Usage
from crew.testing import CrashingStore


@contextlib.contextmanager
def crashing(url: str, after: int) -> Iterator[Any]:
    """Yield a store that goes down after so many events."""
    store = open_store(url)
    try:
        yield CrashingStore(store, after=after)
    finally:
        store.close()


class Counting:
    """Answers in as many words as it may, or `wanted`; each is a token.

    Args:
        rate: tokens for a byte of a request.
        wanted: tokens of an answer that has no limit below that.
        fails: how a request fails by its number, or None; what it computed is paid all the same.
        reports: whether it says what an answer took.
        counts: whether it counts a request that is not made.
        chance: makes answers take some time, and be shorter.
    """

    name = "counting"

    def __init__(
        self,
        rate: float = 0.25,
        *,
        wanted: int = 40,
        fails: Callable[[int], ModelError | None] = lambda number: None,
        reports: bool = True,
        counts: bool = False,
        chance: random.Random | None = None,
    ) -> None:
        self.rate, self.wanted, self.fails, self.reports = rate, wanted, fails, reports
        self.chance = chance
        self.requests: list[ModelRequest] = []
        self.read = self.said = 0
        """The tokens that it has computed."""
        if counts:
            self.count_tokens = self._count

    @property
    def tokens(self) -> int:
        """All that it has computed."""
        return self.read + self.said

    def reading(self, request: ModelRequest) -> int:
        return max(1, int(request_bytes(request) * self.rate))

    async def _count(self, request: ModelRequest) -> int:
        await asyncio.sleep(0)
        return self.reading(request)

    async def complete(self, request: ModelRequest, *, on_text: Any = None) -> ModelReply:
        self.requests.append(request)
        number = len(self.requests)
        read, said = self.reading(request), min(request.max_tokens or self.wanted, self.wanted)
        if self.chance is not None:
            said = self.chance.randint(1, said)
            await asyncio.sleep(self.chance.random() / 100)
        self.read, self.said = self.read + read, self.said + said
        if (error := self.fails(number)) is not None:
            if on_text is not None:
                on_text("half a")
            raise error
        usage = Usage(read, said, 0, 1) if self.reports else Usage()
        return ModelReply("word " * said, usage=usage)

    async def close(self) -> None:
        """Nothing is open."""
