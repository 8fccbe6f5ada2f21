"""Workflows and runs, used as what they are not: each marked line is refused, and no other."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pydantic import BaseModel

from crew import Budget, Context, Graph, Runtime, workflow
from crew.testing import simulate


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    text: str


@asynccontextmanager
async def open_deps() -> AsyncGenerator[int]:
    yield 3


research = Graph("research", input=Question, output=Answer)
Graph("valued", input=Question(text="t"), output=Answer)  # refused
Graph("unnamed", input=Question)  # refused
Graph("opened", input=Question, output=Answer, deps=open_deps())  # refused


@research.node
async def summarise(ctx: Context, question: Question) -> Answer:
    return question  # refused


@research.node(retry=3)  # refused
async def again(ctx: Context, question: Question) -> Answer:
    return Answer(text=question.text)


@workflow
async def triage(ctx: Context, ticket: Question) -> Answer:
    return Answer(text=ticket.text)


@workflow
async def nightly(ctx: Context) -> int:
    return 3


@workflow(deps=open_deps)  # refused
async def named(ctx: Context[str], text: str) -> str:
    return ctx.deps + text


@workflow  # refused
async def wide(ctx: Context, first: str, second: str) -> str:
    return first + second


@workflow(deps=open_deps())  # refused
async def opened(ctx: Context, text: str) -> str:
    return text


async def main() -> None:
    await triage.run("text")  # refused
    await triage.run()  # refused
    await triage.run(Question(text="t"), thraed="t1")  # refused
    await nightly.run(3)  # refused
    count: str = await nightly.run()  # refused
    async with Runtime(":memory:", workflows=[summarise]) as runtime:  # refused
        await runtime.start(research, Answer(text="t"))  # refused
        await runtime.start(research)  # refused
        await runtime.start(nightly, 3)  # refused
        await runtime.start(summarise, Question(text="t"))  # refused
        await runtime.start(research, Question(text="t"), budget=3)  # refused
        await runtime.start(research, Question(text="t"), when_busy="wait")  # refused
        run = await runtime.start(research, Question(text="t"), budget=Budget(tokens=3))
        question: Question = await run.result()  # refused
        (await run.result()).sources  # refused
        run.result().text  # refused
    Runtime(agents="kubernetes")  # refused
    simulate(triage, Answer(text="t"))  # refused
    print(count, question)
