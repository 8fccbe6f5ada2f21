"""An endpoint on a real runtime, and the workflows it serves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import openai
import pytest
from pydantic import BaseModel

from crew.agent import Agent
from crew.call.context import Context
from crew.config import Settings
from crew.content import File, Image
from crew.graph import Workflow
from crew.graph.retry import Retry
from crew.llm.scripted import ScriptedModel
from crew.run import Graph, Runtime, workflow
from serving.app import create_app, serve_http


class Question(BaseModel):
    text: str
    docs: str = ""


class Answer(BaseModel):
    text: str
    sources: list[str] = []


class Remembering(BaseModel):
    text: str
    history: list[dict[str, str]] = []


class Order(BaseModel):
    item: str
    count: int


class Shown(BaseModel):
    text: str
    parts: list[str | Image | File] = []


gates: dict[str, asyncio.Event] = {}  # what workflows wait for, by the question's text

echo = Graph("echo", input=Question, output=Answer)


@echo.node
async def say(ctx: Context, question: Question) -> Answer:
    ctx.progress("thinking")
    if question.text in gates:
        await gates[question.text].wait()
    heard = len(ctx.thread.messages)
    return Answer(text=f"{question.text} ({heard} before)", sources=[question.docs])


@workflow
async def telling(ctx: Context, text: str) -> str:
    for word in ("one ", "two ", "thrée"):
        ctx.emit(word)
    return f"never shown: {text}"


stumbling = Graph("stumbling", input=Question, output=Answer)


@stumbling.node(retry=Retry(attempts=2, first_delay=0.001))
async def try_twice(ctx: Context, question: Question) -> Answer:
    """Says something, fails once its gate is open, and says something else."""
    is_first = not gates[question.text].is_set()
    ctx.emit("first " if is_first else "second ")
    await gates[question.text].wait()
    if is_first:
        raise ValueError("not good enough")
    return Answer(text="second")


@workflow
async def failing(ctx: Context, text: str) -> str:
    raise ValueError(f"cannot do {text}")


@workflow
async def asking(ctx: Context, text: str) -> str:
    refund = await ctx.ask(bool, "Refund?", key="refund")
    return "refunded" if refund else "kept"


@workflow
async def asking_twice(ctx: Context, text: str) -> str:
    name = await ctx.ask(str, "Your name?", key="name")
    town = await ctx.ask(str, "Your town?", key="town")
    return f"{name} of {town}"


@workflow
async def ordering(ctx: Context, order: Order) -> str:
    return f"{order.count} of {order.item}"


@workflow
async def remembering(ctx: Context, question: Remembering) -> str:
    return " | ".join(f"{m['role']}: {m['text']}" for m in question.history)


def _seen(request) -> str:
    """Say what a model is shown."""
    parts = [part for message in request.messages for part in message.parts]
    return "; ".join(
        part if isinstance(part, str) else f"{part.type} {part.data}" for part in parts
    )


eye = Agent("eye", model=ScriptedModel(_seen), history=True)


@workflow
async def seeing(ctx: Context, shown: Shown) -> str:
    return (await ctx.run(eye, shown.parts or shown.text)).output


@workflow
async def looking(ctx: Context, parts: list[str | Image | File]) -> str:
    return (await ctx.run(eye, parts)).output


hello = Agent("hello", model=ScriptedModel(["Hello there."] * 99), instructions="Be brief.")


@workflow
async def greeting(ctx: Context, text: str) -> str:
    first = await ctx.run(hello, text)
    second = await ctx.run(hello, first.output)
    return second.output


SERVED = [
    *(echo, telling, stumbling, failing, asking, asking_twice, ordering, remembering, greeting),
    *(seeing, looking),
]


class Endpoint:
    """A served app, its runtime, and an official client of it that never retries."""

    def __init__(self, url: str, runtime: Runtime, client: openai.AsyncOpenAI) -> None:
        self.url, self.runtime, self.client = url, runtime, client

    async def ask(self, model: str, text: str, **options):
        messages = options.pop("messages", [{"role": "user", "content": text}])
        return await self.client.chat.completions.create(model=model, messages=messages, **options)

    async def stream(self, model: str, text: str, **options) -> list:
        return [chunk async for chunk in await self.ask(model, text, stream=True, **options)]

    async def run_of(self, text: str):
        """The run whose input has this text."""
        for run in await self.runtime.runs():
            if (await run.recorded())[0].data["input"] in (text, {"text": text, "docs": "/docs"}):
                return run
        raise AssertionError(f"no run for {text!r}")


@asynccontextmanager
async def open_endpoint(
    store: str, *, heartbeat: float = 10.0, more: Sequence[Workflow] = (), **options
) -> AsyncIterator[Endpoint]:
    settings = Settings(store=store)
    options.setdefault("input_defaults", {"docs": "/docs", "elsewhere": 1})
    served = [*SERVED, *more]
    async with Runtime(workflows=served, settings=settings) as runtime:
        app = create_app(runtime, served, settings=settings, heartbeat=heartbeat, **options)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve_http(app, port=0, on_ready=ready.set_result))
        try:
            async with asyncio.timeout(10):
                url = await ready
            async with openai.AsyncOpenAI(base_url=url, api_key="k1", max_retries=0) as client:
                yield Endpoint(url, runtime, client)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
async def endpoint(tmp_path) -> AsyncIterator[Endpoint]:
    async with open_endpoint(f"sqlite:///{tmp_path}/runs.db") as opened:
        yield opened


@pytest.fixture
def opening():
    return open_endpoint


@pytest.fixture
def gate(request):
    """Holds back `echo` for a question named like the test, until it is set."""
    event = gates[request.node.name] = asyncio.Event()
    yield event
    del gates[request.node.name]
