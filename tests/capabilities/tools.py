"""Tools of agents: called by models, with what they need, and when they fail."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel

from crew import Agent, Context, EffectUnknown, Image, ToolCall, ToolError, tool, workflow
from tests.capabilities.capability import act, acts, capability, echo, model, page


@tool
def book(city: str) -> str:
    """Book a hotel."""
    return act(f"booked {city}")


@capability(
    "tool calling",
    says={"assistant": [ToolCall("book", {"city": "Oslo"}), "Oslo is booked."]},
    struck="assistant 1",
    outcome="Oslo is booked.",
    acts=["booked Oslo"],
)
async def tool_calling(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text)).output


@capability(
    "parallel tool calls",
    says={"assistant": [[ToolCall("book", {"city": c}) for c in ("Rome", "Pisa")], "Both."]},
    struck="assistant 1",
    outcome="Both.",
    acts=["booked Rome", "booked Pisa"],
)
async def parallel_tool_calls(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text)).output


walker = Agent("walker", model=model("walker"), tools=[book], parallel_tools=1)


@capability(
    "tool calls one after the other",
    says={"walker": [[ToolCall("book", {"city": f"stage {n}"}) for n in (1, 2, 3)], "Done."]},
    struck="walker 1",
    outcome=[["booked stage 1", "booked stage 2", "booked stage 3"], "Done."],
    acts=["booked stage 1", "booked stage 2", "booked stage 3"],
)
async def tool_calls_in_order(ctx: Context, text: str) -> list[object]:
    answer = await ctx.run(walker, text)
    return [[line for line in acts() if "stage" in line], answer.output]


class Parcel(BaseModel):
    street: str
    grams: int


class Receipt(BaseModel):
    cents: int
    days: list[str]


@tool
async def send_parcel(parcel: Parcel) -> Receipt:
    """Send a parcel."""
    act(f"sent {parcel.grams} g to {parcel.street}")
    return Receipt(cents=parcel.grams * 2, days=["Mon"])


@capability(
    "typed tool arguments and results",
    says={
        "assistant": [
            ToolCall("send_parcel", {"parcel": {"street": "Elm", "grams": 50}}),
            lambda body: f"It says {body['messages'][-1]['content']}",
        ]
    },
    struck="assistant 1",
    outcome='It says {"cents": 100, "days": ["Mon"]}',
    acts=["sent 50 g to Elm"],
)
async def typed_tools(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text)).output


@dataclass
class Shop:
    prices: dict[str, int]


@asynccontextmanager
async def open_shop() -> AsyncIterator[Shop]:
    yield Shop(prices={"tea": 3})


@tool
async def price(ctx: Context[Shop], item: str) -> int:
    """Return what an item costs."""
    return ctx.deps.prices[item]


clerk = Agent("clerk", model=model("clerk"), tools=[price])


@workflow(deps=open_shop)
async def shopping(ctx: Context[Shop], text: str) -> str:
    answer = await ctx.run(clerk, text)
    return f"{answer.output} {len(ctx.deps.prices)}"


@capability(
    "dependency injection",
    says={"clerk": [ToolCall("price", {"item": "tea"}), "Tea is 3."]},
    struck="clerk 1: 3",
    outcome="Tea is 3. 1",
)
async def dependency_injection(ctx: Context, text: str) -> str:
    return await ctx.run(shopping, text)


def transfer(cents: int, idempotency_key: str) -> str:
    act(f"transferred {cents}")
    return f"{cents} transferred"


@tool
async def pay(ctx: Context, cents: int) -> str:
    """Pay somebody."""
    await ctx.sleep(0.01)
    checked = (await ctx.run(echo, f"tool with a run context: {cents}")).output
    return f"{await ctx.effect(transfer, cents)}, {checked}"


@capability(
    "tool with a run context",
    says={"assistant": [ToolCall("pay", {"cents": 5}), "Paid."]},
    calls=3,
    struck="echo 0",
    outcome=["5 transferred, 5!", "Paid."],
    acts=["transferred 5"],
)
async def tool_with_context(ctx: Context, text: str) -> list[str]:
    answer = await ctx.run(assistant, text)
    return [answer.messages[-2].text, answer.output]


@tool(effect="idempotent", retries=2)
def save(text: str, idempotency_key: str) -> str:
    """Save a text."""
    line = act(f"saved {text}")
    if acts().count(line) < 2:
        raise ConnectionError("gone for a moment")
    return f"saved after {acts().count(line)} tries"


@capability(
    "tool retries",
    says={"assistant": [ToolCall("save", {"text": "x"}), "Saved."]},
    struck="assistant 1: saved after 2 tries",
    outcome="Saved.",
    acts=["saved x"] * 2,
)
async def tool_retries(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text)).output


@tool(effect="read", timeout=0.2)
async def slow_search(words: str) -> str:
    """Search slowly."""
    await asyncio.sleep(3600)
    return words


@capability(
    "tool timeout",
    says={"assistant": [ToolCall("slow_search", {"words": "x"}), "It takes too long."]},
    struck="assistant 1: error:",
    outcome="It takes too long.",
)
async def tool_timeout(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text)).output


@tool
def move(piece: str, to: str) -> str:
    """Move a piece."""
    if piece == "rook":
        raise ToolError(message="the rook is pinned; move the king")
    return act(f"moved {piece} to {to}")


@capability(
    "errors that the model reads and repairs",
    says={
        "assistant": [
            ToolCall("move", {"piece": "rook", "to": "a4"}),
            ToolCall("move", {"piece": "king"}),
            ToolCall("move", {"piece": "king", "to": "e2"}),
            "The king moves.",
        ]
    },
    struck="assistant 2: error:",
    outcome="The king moves.",
    acts=["moved king to e2"],
)
async def tool_errors(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text)).output


def ring(number: str, message: str) -> str:
    """Ring somebody up."""
    return act(f"rang {number}: {message}")


class Siren:
    """Sound the siren."""

    def __call__(self, seconds: int) -> str:
        return act(f"siren for {seconds} s")


@capability(
    "functions and callable objects as tools",
    says={
        "assistant": [
            [ToolCall("ring", {"message": "fire"}), ToolCall("Siren", {"seconds": 3})],
            "They come.",
        ]
    },
    struck="assistant 1",
    outcome="They come.",
    acts=["rang 112: fire", "siren for 3 s"],
)
async def functions_as_tools(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text)).output


@tool(effect="read")
def draw() -> list[str | Image]:
    """Draw a picture."""
    return ["drawn:", Image(bytes.fromhex("89504e470d0a1a0a"), "image/png")]


@capability(
    "images from tools",
    says={"assistant": [ToolCall("draw"), lambda body: str(str(body).count("image_url"))]},
    struck="assistant 1",
    outcome="2",
)
async def images_from_tools(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text)).output


@tool(effect="read")
async def read_page(name: str) -> str:
    """Read a page of the web."""
    return await page(name)


@capability(
    "web browsing",
    says={"assistant": [ToolCall("read_page", {"name": "web browsing: news"}), "No news."]},
    calls=3,
    struck="page",
    outcome="No news.",
)
async def web_browsing(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text)).output


@tool
async def fire_rocket(pad: str) -> str:
    """Fire a rocket."""
    act(f"fired from {pad}")
    return await page("an act nobody knows the end of: pad")


@capability(
    "an act nobody knows the end of",
    says={"assistant": [ToolCall("fire_rocket", {"pad": "B"}), "Fired."]},
    calls=2,
    struck="page",
    again=False,
    outcome="a person has to look",
    acts=["fired from B"],
)
async def unknown_act(ctx: Context, text: str) -> str:
    try:
        return (await ctx.run(assistant, text)).output
    except EffectUnknown:
        return "a person has to look"


assistant = Agent(
    "assistant",
    model=model("assistant"),
    tools=[
        book,
        send_parcel,
        pay,
        save,
        slow_search,
        move,
        functools.partial(ring, "112"),
        Siren(),
        draw,
        read_page,
        fire_rocket,
    ],
)
"""Whom most programs ask: each agent has a host of its own on Ray."""
