"""A supervisor asks its specialists until it can report, within a budget.

    python supervisor.py "How do we heat an old house?"

Its sources are the files in `library/`. Killed and started again with the same question, it goes on
where it was, and pays for no call twice.
"""

import asyncio
import sys

from pydantic import BaseModel

from crew import Agent, Budget, BudgetExceeded, Context, Runtime, workflow
from crew.tool.search import document_search


class Report(BaseModel):
    title: str
    text: str
    sources: list[str] = []


researcher = Agent(
    "researcher",
    description="Finds facts in the library. Ask one question at a time.",
    instructions="You research. Search the library, then state what it says, with the file's name.",
    model="cheap",
    tools=[document_search("library")],
)
sceptic = Agent(
    "sceptic",
    description="Finds what is wrong with a draft. Give it the whole draft.",
    instructions="You doubt. Name each claim of the draft that nothing supports, or say: sound.",
    model="cheap",
)
supervisor = Agent(
    "supervisor",
    instructions="You supervise a report. Ask the researcher what you need to know, several "
    "questions at once where you can; have the sceptic read your draft before you answer.",
    model="strong",
    tools=[researcher, sceptic],
    output=Report,
    max_turns=12,
)
writer = Agent(
    "writer",
    instructions="You write three plain sentences of what you know. Say what you do not know.",
    model="cheap",
)


@workflow
async def report(ctx: Context, question: str) -> Report:
    """Have a question looked into, and make do with less where that gets too expensive."""
    try:
        return (await ctx.run(supervisor, question, budget=Budget(money=0.20, calls=20))).output
    except BudgetExceeded:
        short = await ctx.run(writer, question)
        return Report(title=f"{question} (in short)", text=short.output)


async def main(question: str) -> None:
    """Ask, print, and say what it cost."""
    async with Runtime(workflows=[report]) as runtime:
        run = await runtime.start(
            report, question, key=f"report: {question}", budget=Budget(money=0.25)
        )
        found = await run.result()
        print(f"# {found.title}\n\n{found.text}\n")
        print("\n".join(f"- {source}" for source in found.sources))
        print(await run.usage())


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:])))
