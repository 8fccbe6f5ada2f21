"""The workflows of the golden journals. They never change: old journals are replayed with them.

A new one may be added, with a journal made by `python -m tests.golden.make`.
"""

import asyncio

from pydantic import BaseModel

from crew import Agent, Context, Graph, tool, workflow
from crew.testing import ScriptedModel, ToolCall


class Question(BaseModel):
    text: str


class Search(BaseModel):
    query: str


class Code(BaseModel):
    goal: str


class Finding(BaseModel):
    text: str


class Answer(BaseModel):
    text: str


@tool(effect="read")
async def look(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word"


REPLIES = [
    ToolCall("look", {"word": "fish"}),
    "A fish is a word, and this is a longer text about "
    "it, which the journal stores once and points at from wherever it is needed again.",
]

researcher = Agent("researcher", model=ScriptedModel(REPLIES), tools=[look])
research = Graph("golden_research", input=Question, output=Answer)


@research.node
async def plan(ctx: Context, question: Question) -> list[Search | Code]:
    return [Search(query="a"), Code(goal="b"), Search(query=question.text)]


@research.node
async def look_up(ctx: Context, task: Search) -> Finding:
    return Finding(text=await ctx.run(found, task.query))


@research.node
async def compute(ctx: Context, task: Code) -> Finding:
    return Finding(text=(await ctx.run(researcher, task.goal)).output)


@research.node
async def summarise(ctx: Context, findings: list[Finding]) -> Answer:
    return Answer(text=", ".join(finding.text for finding in findings))


async def found(query: str) -> str:
    return f"found {query}"


@workflow(name="golden_plain")
async def plain(ctx: Context, text: str) -> str:
    parts = await ctx.map(found, ["x", "y", "z"], concurrency=2)
    paid = await ctx.effect(pay, text, key="pay", unknown="retry")
    agreed = await ctx.ask(bool, "Agreed?", key="agreed")
    await ctx.sleep(0.01)
    return f"{parts} {paid} {agreed} {await ctx.random() < 1} {await ctx.now() > 0}"


async def pay(text: str, idempotency_key: str) -> str:
    return f"paid {text}"


@workflow(name="golden_failing")
async def failing(ctx: Context, text: str) -> str:
    raise ValueError(await ctx.run(found, text))


class Refused(Exception):
    """What is caught, live as on replay."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@workflow(name="golden_child")
async def child(ctx: Context, text: str) -> str:
    return await ctx.run(found, text)


@workflow(name="golden_raced")
async def raced(ctx: Context, text: str) -> str:
    asked = asyncio.create_task(ctx.ask(str, "Still?", key="still"))
    beneath = asyncio.create_task(ctx.run(child, text))
    try:
        await ctx.effect(refuse, text, key="a/b")
    except Refused as refused:
        said = f"{refused} {refused.code}"
    asked.cancel()
    return f"{said} {await beneath}"


async def refuse(text: str) -> str:
    raise Refused(f"no {text}", 7)


ALL = [research, plain, failing, child, raced]
