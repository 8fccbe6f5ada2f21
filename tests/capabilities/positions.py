"""Programs that are killed at each of their calls: delegation, tools that wait, fallback, approval.

The same program is there once for each of its positions, under a name of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from crew import Agent, Context, Fallback, ToolCall, tool
from tests.capabilities.capability import (
    Body,
    Program,
    Script,
    act,
    capability,
    echo,
    first_text,
    model,
    page,
)
from tests.capabilities.delegation import boss, desk
from tests.capabilities.tools import book


def at_each(
    positions: Sequence[str],
    name: str,
    program: Program,
    *,
    acts: Sequence[str],
    answers: Mapping[str, Any] | None = None,
    **facts: Any,
) -> None:
    """Have a program be struck at each of these positions; `{}` stands for the name of each."""
    for struck in positions:
        each = f"{name}, struck at {struck}"
        capability(
            each,
            struck=struck,
            again=struck != "ask",
            acts=[line.format(each) for line in acts],
            answers={line.format(each): answer for line, answer in (answers or {}).items()},
            **facts,
        )(program)


def turns(*said: Any) -> Script:
    """Return a script by turns, whose calls are given texts that begin with the program's name."""

    def say(body: Body) -> Any:
        reply = said[sum(message["role"] == "assistant" for message in body["messages"])]
        if not isinstance(reply, ToolCall):
            return reply
        name = first_text(body).partition(":")[0]
        return ToolCall(reply.name, {key: f"{name}: {it}" for key, it in reply.arguments.items()})

    return say


async def delegated(ctx: Context, text: str) -> str:
    return (await ctx.run(boss, text)).output


at_each(
    ["boss 0", "assistant 0", "page", "assistant 1", "assistant 2", "boss 1"],
    "a coder asks a searcher, which hands back",
    delegated,
    says={
        "boss": turns(ToolCall("assistant", {"text": "who?"}), "It is done."),
        "assistant": turns(
            ToolCall("read_page", {"name": "who"}), ToolCall("book", {"city": "Eva"}), "Found."
        ),
    },
    calls=6,
    outcome="It is done.",
    acts=["booked {}: Eva"],
)


async def handed_on(ctx: Context, text: str) -> list[str]:
    answer = await ctx.run(desk, text)
    return [answer.agent, answer.output]


at_each(
    ["desk 0", "assistant 1", "page", "assistant 2", "assistant 3"],
    "a conversation is handed on",
    handed_on,
    says={
        "desk": turns(ToolCall("transfer_to_assistant")),
        "assistant": turns(
            None,
            ToolCall("read_page", {"name": "who"}),
            ToolCall("book", {"city": "Ada"}),
            "Found.",
        ),
    },
    calls=5,
    outcome=["assistant", "Found."],
    acts=["booked {}: Ada"],
)


async def deliver(order: str, idempotency_key: str) -> str:
    await page(order)
    return act(f"delivered {order}")


@tool
async def fulfil(ctx: Context, order: str) -> str:
    """Fulfil an order, once a person agrees."""
    if not await ctx.ask(bool, f"Deliver {order}?", key="go"):
        return "a person refused"
    await ctx.sleep(0.05)
    await ctx.effect(deliver, order, unknown="retry")
    return (await ctx.run(echo, f"{order}, delivered")).output


@tool(effect="idempotent", approve=True)
async def publish(text: str, idempotency_key: str) -> str:
    """Publish a text."""
    await page(text)
    return act(f"published {text}")


operator = Agent("operator", model=model("operator"), tools=[fulfil, publish])


async def operated(ctx: Context, text: str) -> str:
    return (await ctx.run(operator, text)).output


at_each(
    ["operator 0", "ask", "page", "echo 0", "operator 1"],
    "a tool that asks, sleeps and acts",
    operated,
    says={"operator": turns(ToolCall("fulfil", {"order": "o1"}), "It is there.")},
    calls=4,
    answers={"Deliver {}: o1?": True},
    outcome="It is there.",
    acts=["delivered {}: o1"],
)
at_each(
    ["operator 0", "ask", "page", "operator 1"],
    "an approval",
    operated,
    says={"operator": turns(ToolCall("publish", {"text": "news"}), "It is out.")},
    calls=3,
    answers={'May publish be called with {{"text": "{}: news"}}?': True},
    outcome="It is out.",
    acts=["published {}: news"],
)

wavering = Agent("wavering", model=Fallback(model("broken"), model("working")), tools=[book])


async def wavered(ctx: Context, text: str) -> str:
    return (await ctx.run(wavering, text)).output


at_each(
    ["broken 0", "working 0", "broken 1", "working 1"],
    "a fallback between its tries",
    wavered,
    says={
        "broken": lambda body: 500,
        "working": turns(ToolCall("book", {"city": "Ida"}), "It stands in."),
    },
    calls=4,
    outcome="It stands in.",
    acts=["booked {}: Ida"],
)
