"""A capability: a program as a user writes it, what its models say, and what comes of it."""

import asyncio
import os
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crew import Agent, Context, OpenAIModel, Run, Runtime, workflow

URL = os.environ.get("CAPABILITIES_URL", "http://127.0.0.1:9/v1")
"""The endpoint, in the process of the tests."""
FOLDER = os.environ.get("CAPABILITIES_FOLDER", "")
"""Where acts are noted."""

BEGAN = "began: "
"""How the lines of acts begin that every run does first."""

Program = Callable[[Context, str], Awaitable[Any]]
Body = dict[str, Any]
Script = Sequence[Any] | Mapping[int, Any] | Callable[[Body], Any]
"""What a model says: in each of its turns, which count the assistant's messages, or by the request.

A text, a value as JSON, a `ToolCall` or several, or the status of a failure.
"""


@dataclass(frozen=True)
class Capability:
    """A program and what has to come of it.

    Args:
        name: what it is called by those who look for it.
        program: takes the context and the text that it is started with.
        says: what its models say, by their names; the model `echo` is everybody's.
        struck: at which call it is killed: `model turn`, `model turn: beginning of the last text`,
            `page`, or `ask`, while a question is open.
        outcome: what it gives.
        calls: how many different ones are made; as many as are scripted by default.
        acts: what happens in the world, in any order.
        answers: what a person says, by the questions.
        again: whether the call that is under way at the kill is made again.
        options: of its start.
        drive: starts it, and gives its outcome, in place of the usual way; also after the kill.
    """

    name: str
    program: Program
    says: Mapping[str, Script]
    struck: str
    outcome: Any
    calls: int
    acts: Sequence[str] = ()
    answers: Mapping[str, Any] = field(default_factory=dict)
    again: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    drive: Callable[[Runtime], Awaitable[Any]] | None = None


ALL: dict[str, Capability] = {}


def capability(
    name: str, *, says: Mapping[str, Script] | None = None, calls: int | None = None, **facts: Any
) -> Callable[[Program], Program]:
    """Have a program be a capability; see there."""

    def add(program: Program) -> Program:
        scripts = says or {}
        if (made := calls) is None:
            made = sum(len(script) for script in scripts.values() if not callable(script))
        assert name not in ALL
        ALL[name] = Capability(name, program, scripts, calls=made, **facts)
        return program

    return add


def first_text(body: Body) -> str:
    """Return what a request's first user said."""
    said = next((m["content"] for m in body["messages"] if m["role"] == "user"), "")
    return str(said[0].get("text", "")) if isinstance(said, list) else str(said)


def model(name: str) -> OpenAIModel:
    """Return the model of a capability, or `echo`, which says again what it is told."""
    return OpenAIModel(name, base_url=URL, max_attempts=1)


echo = Agent("echo", model=model("echo"))
"""Says again what it is told behind the colon."""
writer = Agent("writer", model=model("writer"))
"""Says what a capability has it say."""


def act(line: str) -> str:
    """Do what cannot be undone."""
    with (Path(FOLDER) / "acts").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    return line


def acts() -> list[str]:
    """Return what has been done."""
    return (Path(FOLDER) / "acts").read_text(encoding="utf-8").splitlines()


async def page(name: str) -> str:
    """Get a page from the web; its name begins with that of the capability."""
    where = urllib.parse.urlsplit(URL)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        writer.write(f"GET /pages/{urllib.parse.quote(name)} HTTP/1.0\r\n\r\n".encode())
        return (await reader.read()).decode().partition("\r\n\r\n")[2]
    finally:
        writer.close()


@workflow(name="capabilities")
async def capabilities(ctx: Context, text: str) -> Any:
    """Act once, then run the program that a text begins with the name of."""
    await ctx.effect(act, f"{BEGAN}{text}", key="began")
    return await ALL[text.partition(":")[0]].program(ctx, text)


async def begin(runtime: Runtime, name: str, text: str = "", **options: Any) -> Run:
    """Begin a capability, or find it as it was begun."""
    given = f"{name}: {text}" if text else name
    return await runtime.start(capabilities, given, key=given, **options)
