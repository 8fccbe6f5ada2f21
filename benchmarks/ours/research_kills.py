"""Ours: research-shaped runs against an endpoint, gone on with by whatever process comes next.

    research_kills.py FOLDER URL RUNS AT_ONCE

Each run is a plan, eight searches two at a time, and a summary: ten model calls.
"""

import asyncio
import sys

from pydantic import BaseModel

from crew import Agent, Context, Graph, Runtime
from crew.llm.client import OpenAIModel

folder, url, runs, at_once = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


class Question(BaseModel):
    text: str


class Search(BaseModel):
    text: str


class Found(BaseModel):
    text: str


class Answer(BaseModel):
    text: str


agent = Agent("agent", model=OpenAIModel("m", base_url=url, api_key="none"))
research = Graph("research_shaped", input=Question, output=Answer)


@research.node
async def plan(ctx: Context, question: Question) -> list[Search]:
    said = (await ctx.run(agent, f"plan {question.text}")).output
    return [Search(text=f"{question.text} {n} {said[:5]}") for n in range(8)]


@research.node(concurrency=2)
async def look_up(ctx: Context, search: Search) -> Found:
    return Found(text=(await ctx.run(agent, f"search {search.text}")).output)


@research.node
async def summarise(ctx: Context, found: list[Found]) -> Answer:
    return Answer(text=(await ctx.run(agent, f"sum {len(found)} {found[0].text}")).output)


async def main() -> None:
    numbers = iter(range(runs))

    async def work(runtime: Runtime) -> None:
        for number in numbers:
            run = await runtime.start(research, Question(text=f"q{number}"), key=str(number))
            await run.result()

    async with Runtime(f"sqlite:///{folder}/ours.db", workflows=[research]) as runtime:
        await asyncio.gather(*(work(runtime) for _ in range(at_once)))


asyncio.run(main())
