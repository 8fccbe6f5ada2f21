"""Workflows that the tests of the core run."""

from typing import Annotated

from pydantic import BaseModel

from crew import Append, Context, Graph


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


class Count(BaseModel):
    n: int


class Done(BaseModel):
    n: int


class Notes(BaseModel):
    notes: Annotated[list[str], Append()] = []
    last: str = ""


def research() -> Graph:
    """Two searches and a computation, joined in their order."""
    graph = Graph("research", input=Question, output=Answer)

    @graph.node
    async def plan(ctx: Context, question: Question) -> list[Search | Code]:
        return [Search(query="a"), Code(goal="b"), Search(query=question.text)]

    @graph.node
    async def look_up(ctx: Context, task: Search) -> Finding:
        return Finding(text=f"found {task.query}")

    @graph.node
    async def compute(task: Code) -> Finding:
        return Finding(text=f"computed {task.goal}")

    @graph.node
    async def summarise(ctx: Context, findings: list[Finding]) -> Answer:
        return Answer(text=", ".join(finding.text for finding in findings))

    return graph


def loop(until: int, **options: int) -> Graph:
    """Count in a loop of steps."""
    graph = Graph("loop", input=Count, output=Done, **options)

    @graph.node
    async def count(value: Count) -> Count | Done:
        return Done(n=value.n) if value.n >= until else Count(n=value.n + 1)

    return graph
