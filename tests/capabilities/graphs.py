"""Graphs and concurrency: fan-out, joins, loops, routes, state, and programs within programs."""

import asyncio
from typing import Annotated

from pydantic import BaseModel

from crew import Append, Context, Graph, Retry, workflow
from tests.capabilities.capability import act, acts, capability, echo


class Topic(BaseModel):
    text: str


class Part(BaseModel):
    text: str


class Found(BaseModel):
    text: str


class Report(BaseModel):
    text: str


reports = Graph("reports", input=Topic, output=Report)


@reports.node
async def divide(ctx: Context, topic: Topic) -> list[Part]:
    return [Part(text=f"{topic.text}: {each}") for each in "abc"]


@reports.node
async def investigate(ctx: Context, part: Part) -> Found:
    return Found(text=(await ctx.run(echo, part.text)).output)


@reports.node
async def join(ctx: Context, found: list[Found]) -> Report:
    act(f"joined {len(found)}")
    return Report(text=" ".join(each.text for each in found))


@capability(
    "map-reduce",
    calls=3,
    struck="echo 0: map-reduce: b",
    outcome="a! b! c!",
    acts=["joined 3"],
)
async def map_reduce(ctx: Context, text: str) -> str:
    return (await ctx.run(reports, Topic(text=text))).text


class Draft(BaseModel):
    text: str
    rounds: int = 0


class Final(BaseModel):
    text: str


drafts = Graph("drafts", input=Draft, output=Final)


@drafts.node
async def improve(ctx: Context, draft: Draft) -> Draft | Final:
    said = (await ctx.run(echo, f"loops: round {draft.rounds}")).output
    if draft.rounds == 3:
        return Final(text=said)
    return Draft(text=said, rounds=draft.rounds + 1)


@capability("loops", calls=4, struck="echo 0: loops: round 2", outcome="round 3!")
async def loops(ctx: Context, text: str) -> str:
    return (await ctx.run(drafts, Draft(text=text))).text


class Letter(BaseModel):
    text: str


class Complaint(BaseModel):
    text: str


class Praise(BaseModel):
    text: str


class Reply(BaseModel):
    text: str


letters = Graph("letters", input=Letter, output=Reply)


@letters.node
async def sort(ctx: Context, letter: Letter) -> Complaint | Praise:
    said = (await ctx.run(echo, f"{letter.text}: broken")).output
    return Complaint(text=said) if "broken" in said else Praise(text=said)


@letters.node
async def apologise(ctx: Context, complaint: Complaint) -> Reply:
    said = (await ctx.run(echo, f"conditional edges: sorry, {complaint.text}")).output
    return Reply(text=said)


@letters.node
async def thank(ctx: Context, praise: Praise) -> Reply:
    act("thanked")
    return Reply(text="thanks")


@capability(
    "conditional edges",
    calls=2,
    struck="echo 0: conditional edges: sorry",
    outcome="sorry, broken!!",
)
async def conditional_edges(ctx: Context, text: str) -> str:
    return (await ctx.run(letters, Letter(text=text))).text


class Notes(BaseModel):
    lines: Annotated[list[str], Append()] = []
    last: str = ""


class Page(BaseModel):
    number: int


class Book(BaseModel):
    lines: list[str]


class Read(BaseModel):
    number: int


books = Graph("books", input=Topic, output=Book, state=Notes)


@books.node
async def open_book(ctx: Context, topic: Topic) -> list[Page]:
    ctx.patch(last=topic.text)
    return [Page(number=1), Page(number=2)]


@books.node
async def read(ctx: Context, page: Page) -> Read:
    said = await ctx.run(echo, f"{ctx.state.last}: page {page.number}")
    ctx.patch(lines=[said.output])
    return Read(number=page.number)


@books.node
async def close_book(ctx: Context, pages: list[Read]) -> Book:
    return Book(lines=sorted(ctx.state.lines))


@capability(
    "shared state with reducers",
    calls=2,
    struck="echo 0: shared state with reducers: page 2",
    outcome=["page 1!", "page 2!"],
)
async def shared_state(ctx: Context, text: str) -> list[str]:
    return (await ctx.run(books, Topic(text=text))).lines


@workflow
async def chapter(ctx: Context, text: str) -> str:
    return (await ctx.run(echo, text)).output


@workflow
async def volume(ctx: Context, text: str) -> str:
    return " ".join([await ctx.run(chapter, f"{text}: {each}") for each in "xy"])


@capability("sub-graphs", calls=2, struck="echo 0: sub-graphs: y", outcome="x! y!")
async def sub_graphs(ctx: Context, text: str) -> str:
    return await ctx.run(volume, text)


@capability(
    "parallel branches",
    calls=3,
    struck="echo 0: parallel branches: right",
    outcome=["left!", "right!", "both!"],
)
async def parallel_branches(ctx: Context, text: str) -> list[str]:
    async with asyncio.TaskGroup() as group:
        left = group.create_task(ctx.run(echo, f"{text}: left"))
        right = group.create_task(ctx.run(echo, f"{text}: right"))
    both = await ctx.run(echo, f"{text}: both")
    return [left.result().output, right.result().output, both.output]


@capability(
    "batches with a limit",
    calls=6,
    struck="echo 0: batches with a limit: 4",
    outcome=["0!", "1!", "2!", "3!", "4!", "5!"],
)
async def batches(ctx: Context, text: str) -> list[str]:
    answers = await ctx.map(echo, [f"{text}: {number}" for number in range(6)], concurrency=2)
    return [answer.output for answer in answers]


async def upload(name: str) -> str:
    line = act(f"uploading {name}")
    if acts().count(line) < 3:
        raise ConnectionError("gone for a moment")
    return f"{name} is up"


@capability(
    "retry policies",
    calls=1,
    struck="echo 0: retry policies",
    outcome="x.png is up!",
    acts=["uploading x.png"] * 3,
)
async def retry_policies(ctx: Context, text: str) -> str:
    done = await ctx.run(upload, "x.png", retry=Retry(attempts=3, first_delay=0.01))
    return (await ctx.run(echo, f"{text}: {done}")).output


class Job(BaseModel):
    text: str


class Flaky(BaseModel):
    text: str


nightly = Graph("nightly", input=Job, output=Flaky)


@nightly.node(retry=Retry(attempts=2, first_delay=0.01))
async def work(ctx: Context, job: Job) -> Flaky:
    line = act("worked at night")
    if acts().count(line) < 2:
        raise ConnectionError("gone for a moment")
    return Flaky(text=(await ctx.run(echo, f"{job.text}: done", key="tell")).output)


@capability(
    "retry of a node",
    calls=1,
    struck="echo 0: retry of a node: done",
    outcome="done!",
    acts=["worked at night"] * 3,
)
async def retry_of_a_node(ctx: Context, text: str) -> str:
    """The node that is under way at the kill is entered once more."""
    return (await ctx.run(nightly, Job(text=text))).text
