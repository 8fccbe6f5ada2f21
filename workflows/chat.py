"""Talk with the model: it sees the whole conversation, and its answer streams."""

from crew import Agent, Context, workflow

assistant = Agent(
    "assistant",
    instructions="You are a helpful assistant. Answer briefly, and say it when you do not know.",
    history=True,
)


@workflow
async def chat(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text, emit=True)).output
