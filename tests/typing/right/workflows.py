"""Workflows, and the runs they are started as: input and output by their annotations."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import assert_type

from pydantic import BaseModel

from crew import (
    Append,
    Batch,
    Budget,
    Context,
    Graph,
    Outcome,
    Quorum,
    Retry,
    Run,
    Runtime,
    Span,
    workflow,
)
from crew.testing import simulate


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


@asynccontextmanager
async def open_deps() -> AsyncGenerator[int]:
    yield 3


research = Graph("research", input=Question, output=Answer, version="1", deps=open_deps)
listed = Graph("listed", input=list[Question], output=dict[str, Answer])


@research.node
async def plan(ctx: Context, question: Question) -> list[Search | Code]:
    return [Search(query=question.text), Code(goal="")]


@research.node(retry=Retry(attempts=3), concurrency=16)
async def look_up(ctx: Context[int], task: Search) -> Finding:
    return Finding(text=task.query * ctx.deps)


@research.node
def compute(task: Code) -> Finding:
    return Finding(text=task.goal)


@research.node(join=Quorum(share=0.5), after="look_up")
async def summarise(ctx: Context, findings: list[Finding]) -> Answer:
    return Answer(text=findings[0].text)


@workflow
async def triage(ctx: Context, ticket: Question) -> Answer:
    return Answer(text=ticket.text)


@workflow(name="night", version="2")
async def nightly(ctx: Context) -> int:
    return 3


@workflow(deps=open_deps)
async def tripled(ctx: Context[int], number: float) -> float:
    return number * ctx.deps


@workflow
async def doubled(number: int) -> int:
    return number * 2


assert_type(plan.__name__, str)  # a node stays the function it is
assert_type(compute(Code(goal="g")), Finding)
assert_type(research.run_sync(Question(text="t"), thread="t1"), Answer)
assert_type(nightly.run_sync(), int)


async def main() -> None:
    assert_type(await triage.run(Question(text="t")), Answer)
    assert_type(await tripled.run(2, budget=Budget(tokens=10)), float)
    assert_type(await nightly.run(), int)
    async with Runtime(":memory:", workflows=[research, triage, nightly]) as runtime:
        run = await runtime.start(research, Question(text="t"), thread="t1", key="k")
        assert_type(run, Run[Answer])
        answer: Answer = await run.result()
        print(answer.text)
        by_json = await runtime.start(triage, {"text": "t"}, metadata={"user": "u"})
        assert_type(await by_json.result(), Answer)
        assert_type(await (await runtime.start(nightly)).result(), int)
        assert_type(await (await runtime.start(doubled, 3)).result(), int)
        many = await runtime.start(listed, [Question(text="t")])
        assert_type(await many.result(), dict[str, Answer])
        async for event in run.events(after=0):
            print(event.offset, event.kind, event.path, event.data)
        again = await runtime.get(run.id)
        print(await again.result())
        runs: list[Run] = await runtime.runs(status="completed")
        batch = runtime.start_many(doubled, range(3), keys=lambda number: f"{number}")
        assert_type(await batch, Batch[int])
        async for one in batch:
            assert_type(await one.result(), int)
        assert_type(await batch.results(), list[Outcome[int]])
        assert_type(await run.spans(), Span)
        print(len(runs), (await runtime.fork(run.id)).id, Append())
    simulate(triage, Question(text="t"), seeds=3)
