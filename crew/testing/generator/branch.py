"""What the code of a random program has at hand: its branches, and what its graphs pass on."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from crew.call.context import Context
from crew.testing.generator.calls import mixed, number_in, weight


class Start(BaseModel):
    """What a program is given: where it is called, and a number."""

    place: str = ""
    value: int = 1


class Seen(BaseModel):
    """What a program comes to: a number that depends on all it saw, and the shared list."""

    site: str
    value: int
    log: list[str] = []


class Part(BaseModel):
    """One item of a graph's fan-out."""

    place: str
    value: int


class Done(BaseModel):
    """What a graph's work on one item comes to."""

    value: int
    log: list[str]


class Round(BaseModel):
    """Where a graph's loop stands."""

    number: int
    value: int
    log: list[str]


@dataclass(slots=True)
class Shared:
    """What the branches of one step share; made anew when it is entered again."""

    log: list[str] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    left: list[asyncio.Task[Any]] = field(default_factory=list)


@dataclass(slots=True)
class Branch:
    """One line of execution: its context, where it is, and a number of all it has seen."""

    ctx: Context
    place: str
    value: int
    shared: Shared

    def see(self, result: str | int) -> None:
        self.value = mixed(self.value, number_in(result) if isinstance(result, str) else result)

    def at(self, site: int) -> str:
        return f"{self.place}{site}"

    def branch(self, place: str) -> "Branch":
        return Branch(self.ctx, place, mixed(self.value, weight(place)), self.shared)
