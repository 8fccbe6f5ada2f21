"""Tools of agents: called by models, with what they need, and when they fail."""

from crew import Agent, Context, ToolCall, tool
from tests.capabilities.capability import act, capability, model


@tool
def book(city: str) -> str:
    """Book a hotel."""
    return act(f"booked {city}")


hotelier = Agent("hotelier", model=model("hotelier"), tools=[book])


@capability(
    "tool calling",
    says={"hotelier": [ToolCall("book", {"city": "Oslo"}), "Oslo is booked."]},
    struck="hotelier 1",
    outcome="Oslo is booked.",
    acts=["booked Oslo"],
)
async def tool_calling(ctx: Context, text: str) -> str:
    return (await ctx.run(hotelier, text)).output


tourist = Agent("tourist", model=model("tourist"), tools=[book])


@capability(
    "parallel tool calls",
    says={"tourist": [[ToolCall("book", {"city": c}) for c in ("Rome", "Pisa")], "Both."]},
    struck="tourist 1",
    outcome="Both.",
    acts=["booked Rome", "booked Pisa"],
)
async def parallel_tool_calls(ctx: Context, text: str) -> str:
    return (await ctx.run(tourist, text)).output
