"""People among agents: asked, approving, refusing, editing, or not answering."""

from pydantic import BaseModel

from crew import Agent, Context, ToolCall, tool
from tests.capabilities.capability import act, capability, echo, model


@capability(
    "human in the loop",
    calls=2,
    struck="echo 0: human in the loop: after",
    answers={"May it go on with before!?": "gladly"},
    outcome="after gladly!",
)
async def human_in_the_loop(ctx: Context, text: str) -> str:
    before = await ctx.run(echo, f"{text}: before")
    said = await ctx.ask(str, f"May it go on with {before.output}?", key="go")
    return (await ctx.run(echo, f"{text}: after {said}")).output


class Text(BaseModel):
    title: str
    body: str


@capability(
    "a person edits",
    calls=2,
    struck="echo 0: a person edits: better",
    answers={"Edit this: raw!": {"title": "better", "body": "words"}},
    outcome="better words!",
)
async def person_edits(ctx: Context, text: str) -> str:
    raw = (await ctx.run(echo, f"{text}: raw")).output
    edited = await ctx.ask(Text, f"Edit this: {raw}", key="edit")
    return (await ctx.run(echo, f"{text}: {edited.title} {edited.body}")).output


@capability(
    "a question that nobody answers",
    calls=1,
    struck="echo 0",
    outcome="nobody is there!",
)
async def question_times_out(ctx: Context, text: str) -> str:
    try:
        said = await ctx.ask(str, "Is anybody there?", key="there", timeout=0.2)
    except TimeoutError:
        said = "nobody is there"
    return (await ctx.run(echo, f"{text}: {said}")).output


def wire(cents: int, idempotency_key: str) -> str:
    return act(f"wired {cents}")


@tool
async def settle(ctx: Context, cents: int) -> str:
    """Settle a bill."""
    if not await ctx.ask(bool, f"Wire {cents} cents?", key="wire"):
        return "a person refused"
    done = await ctx.effect(wire, cents)
    return (await ctx.run(echo, f"interrupt in a tool: {done}")).output


@capability(
    "interrupt in a tool",
    says={"official": [ToolCall("settle", {"cents": 7}), "Settled."]},
    calls=3,
    struck="echo 0",
    answers={"Wire 7 cents?": True},
    outcome="Settled.",
    acts=["wired 7"],
)
async def interrupt_in_a_tool(ctx: Context, text: str) -> str:
    return (await ctx.run(official, text)).output


@tool(approve=True)
def delete(path: str) -> str:
    """Delete a file."""
    return act(f"deleted {path}")


@capability(
    "approval of a tool call",
    says={"official": [ToolCall("delete", {"path": "/tmp/a"}), "It is gone."]},
    struck="official 1: deleted",
    answers={'May delete be called with {"path": "/tmp/a"}?': True},
    outcome="It is gone.",
    acts=["deleted /tmp/a"],
)
async def approval(ctx: Context, text: str) -> str:
    return (await ctx.run(official, text)).output


@capability(
    "approval refused with a reason",
    says={
        "official": [
            ToolCall("delete", {"path": "/etc"}),
            lambda body: str("it is needed" in body["messages"][-1]["content"]),
        ]
    },
    struck="official 1",
    answers={
        'May delete be called with {"path": "/etc"}?': {"approved": False, "reason": "it is needed"}
    },
    outcome="True",
)
async def refusal(ctx: Context, text: str) -> str:
    return (await ctx.run(official, text)).output


@tool(approve=lambda call: call.cents > 1000)
def refund(order: str, cents: int) -> str:
    """Refund an order."""
    return act(f"refunded {order}")


@capability(
    "approval by the arguments",
    says={
        "official": [
            [
                ToolCall("refund", {"order": "o1", "cents": 5}),
                ToolCall("refund", {"order": "o2", "cents": 5000}),
            ],
            "Both are refunded.",
        ]
    },
    struck="official 1",
    answers={'May refund be called with {"order": "o2", "cents": 5000}?': True},
    outcome="Both are refunded.",
    acts=["refunded o1", "refunded o2"],
)
async def approval_by_arguments(ctx: Context, text: str) -> str:
    return (await ctx.run(official, text)).output


official = Agent("official", model=model("official"), tools=[settle, delete, refund])
