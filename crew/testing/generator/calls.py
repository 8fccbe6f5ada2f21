"""What random programs call: functions, effects, tools, a model, and errors of their own.

Each call is known by its name, `kind:site`, and its result names its site, so that a journal tells
which calls of the program ended.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from crew.agent import Agent
from crew.call.context import Context
from crew.llm import ModelReply, ModelRequest
from crew.llm.cost import request_bytes
from crew.llm.scripted import ScriptedModel
from crew.message import ToolCall, Usage
from crew.testing.generator.books import MOST_OUTPUT
from crew.testing.generator.tree import Called
from crew.testing.generator.world import FOREVER, world
from crew.tool import Tool

_PRIME = 9973
AT_ONCE = "_"
"""The end of a call's site that takes no time, and so no turn."""


def mixed(value: int, other: int) -> int:
    """Return a number that depends on both, and on their order."""
    return (value * 31 + other + 1) % _PRIME


def weight(text: str) -> int:
    """Return a number that depends on a text, the same in every process."""
    value = 7
    for letter in text:
        value = mixed(value, ord(letter))
    return value


class Refusal(Exception):
    """An error of the user's own, with arguments and an attribute."""

    def __init__(self, site: str, amount: int) -> None:
        super().__init__(site, amount)
        self.amount = amount

    def __str__(self) -> str:
        return f"{self.args[0]} refuses {self.amount}"


class Missing(LookupError):
    """An error of the user's own that is one of Python's, too."""


def result_of(site: str, value: int) -> str:
    return f"site:{site}={mixed(value, weight(site))}"


def number_in(result: str) -> int:
    """Return the number that a call's result ends with."""
    return int(result.rpartition("=")[2])


async def work(site: str, value: int) -> str:
    await world().happen(f"function:{site}")
    return result_of(site, value)


def work_at_once(site: str, value: int) -> str:
    """Work in no time; its site ends with AT_ONCE."""
    world().note(f"function:{site}")
    return result_of(site, value)


async def work_on(item: tuple[str, int]) -> str:
    return await work(*item)


async def flaky(site: str, value: int, fails: int) -> str:
    name = f"function:{site}"
    await world().happen(name)
    if world().is_to_fail(name, fails):
        raise Refusal(f"site:{site}", fails)
    return result_of(site, value)


async def stubborn(site: str, value: int, *, raises: bool) -> str:
    """Work, or come to something else where that is cancelled."""
    try:
        await world().happen(f"function:{site}")
    except asyncio.CancelledError as cancel:
        if raises:
            raise Refusal(f"site:{site}", value + 1) from cancel
        value += 1
    return result_of(site, value)


async def refuse(site: str, value: int, error: str) -> str:
    await world().happen(f"function:{site}")
    if error == "builtin":
        raise ValueError(f"site:{site} has {value}")
    if error == "missing":
        raise Missing(f"site:{site}", value)
    raise Refusal(f"site:{site}", value)


async def hang(site: str) -> None:
    """Never end."""
    world().note(f"hang:{site}")
    await asyncio.sleep(FOREVER)


def named(name: str) -> Callable[[str, int], Awaitable[str]]:
    """Return a function that works, under a name of its own."""

    async def call(site: str, value: int) -> str:
        return await work(site, value)

    call.__name__ = name
    return call


async def keep(site: str, items: list[int], name: str) -> list[str]:
    """Change the list that is given, and return one that is kept, and changed by the next call."""
    await world().happen(f"function:{site}")
    items.append(len(items))
    kept = world().kept.setdefault(name, [])
    kept.insert(0, result_of(site, items[0]))
    return kept


async def odd_number(site: str, value: int) -> Any:
    """Return what JSON has no form for."""
    await world().happen(f"function:{site}")
    return {"at": result_of(site, value), "share": math.nan}


async def odd_order(site: str, value: int) -> dict[str, Any]:
    """Return what would come back as its base."""
    await world().happen(f"function:{site}")
    return OrderedDict(at=result_of(site, value))


async def odd_tuple(site: str, value: int) -> Any:
    """Return what would come back as a list."""
    await world().happen(f"function:{site}")
    return (result_of(site, value), value)


async def sign(site: str, value: int, idempotency_key: str) -> Any:
    """Act, and return what cannot be stored."""
    await world().happen(f"effect:{site}", idempotency_key)
    return (result_of(site, value), value)


async def act(site: str, value: int, idempotency_key: str) -> str:
    await world().happen(f"effect:{site}", idempotency_key)
    return result_of(site, value)


async def look(site: str, value: int) -> str:
    """Look something up."""
    await world().happen(f"tool:{site}")
    return result_of(site, value)


async def hold(ctx: Context, site: str, value: int) -> str:
    """Call functions at once, and act for what came first."""
    seen: list[str] = []

    async def branch(number: int) -> None:
        seen.append(await ctx.run(work, f"{site}.h{number}", value))

    await asyncio.gather(branch(0), branch(1))
    return await _held(ctx, site, seen)


async def ask(ctx: Context, site: str, value: int) -> str:
    """Ask an agent, and act for what it said."""
    said = await ctx.run(agent(), task(f"{site}.h", value, tools=1))
    return await _held(ctx, site, [said.output])


async def _held(ctx: Context, site: str, seen: list[str]) -> str:
    value = weight(" ".join(seen))
    done = await ctx.effect(act, f"{site}.e", value, unknown="retry")
    await world().turn(f"tool:{site}")
    return result_of(site, number_in(done))


LOOK = Tool(look, effect="read", name="look")
ORDER = Tool(look, effect="once", name="order")
SIGN = Tool(look, effect="once", name="sign", approve=True)
HOLD, ASK = Tool(hold), Tool(ask)


class PacedModel(ScriptedModel):
    """A scripted model that takes its time, and whose engine counts what each request takes."""

    async def count_tokens(self, request: ModelRequest) -> int:
        count = request_bytes(request) // 3
        world().books.inputs[_name_of(request)] = count
        return count

    async def complete(
        self, request: ModelRequest, *, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        name = _name_of(request)
        usage = Usage(await self.count_tokens(request), 1 + weight(name) % MOST_OUTPUT, calls=1)
        world().pay(name, usage.total_tokens)
        await world().happen(name)
        reply = await super().complete(request, on_text=on_text)
        if not reply.tool_calls:
            await world().turn(f"agent:{_site_of(request)}")
        return replace(reply, usage=usage)


def agent() -> Agent[str]:
    """Return an agent whose task says which tools to call."""
    model = PacedModel(_reply)
    tools = [LOOK, ORDER, SIGN, HOLD, ASK]
    return Agent("helper", model=model, tools=tools, max_tokens=MOST_OUTPUT)


def task(site: str, value: int, *, tools: int, first: Called = "look") -> str:
    return f"site:{site} {tools} {first} ={value}"


def _name_of(request: ModelRequest) -> str:
    turn = sum(message.role == "assistant" for message in request.messages)
    return f"model:{_site_of(request)}.m{turn}"


def _site_of(request: ModelRequest) -> str:
    return _asked(request)[0].removeprefix("site:")


def _asked(request: ModelRequest) -> list[str]:
    return next(m.text for m in request.messages if m.role == "user").split()


def _reply(request: ModelRequest) -> Any:
    said, tools, first, value = _asked(request)
    site, seen = said.removeprefix("site:"), [m.text for m in request.messages if m.role == "tool"]
    if seen or tools == "0":
        return result_of(site, weight(" ".join([value, *seen])))
    return [
        ToolCall(
            LOOK.name if n else first,
            {"site": f"{site}.t{n}", "value": number_in(value)},
        )
        for n in range(int(tools))
    ]
