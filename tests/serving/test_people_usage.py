"""What an answer cost that is a question: what the run has spent so far."""

import json

import httpx2
import pytest

from crew import Agent, Context, Graph, Runtime, workflow
from crew.config import Settings
from crew.testing import ScriptedModel
from serving.app import create_app

BASE = "http://127.0.0.1/v1/"
clerk = Agent("clerk", model=ScriptedModel(lambda request: "four words of text"), instructions="Be")


@workflow
async def plain(ctx: Context, text: str) -> str:
    await ctx.run(clerk, text)
    return await ctx.ask(str, "And then?", key="then")


@workflow
async def again(ctx: Context, text: str) -> str:
    await ctx.run(clerk, text)
    name = await ctx.ask(str, "Who?", key="who")
    await ctx.run(clerk, f"{text} for {name}")
    return await ctx.ask(str, "And then?", key="then")


@workflow
async def guarded(ctx: Context, text: str) -> str:
    await ctx.run(clerk, text)
    return str(await ctx.ask(bool, "Agreed?", key="agreed", to="manager"))


@workflow
async def parent(ctx: Context, text: str) -> str:
    await ctx.run(child, text)
    return await ctx.ask(str, "And then?", key="then")


@workflow
async def child(ctx: Context, text: str) -> str:
    return (await ctx.run(clerk, text)).output


drawn = Graph("drawn", input=str, output=bool)


@drawn.node
async def first(ctx: Context, text: str) -> int:
    await ctx.map(clerk, [text, text])
    return 1


@drawn.node
async def second(ctx: Context, number: int) -> bool:
    return await ctx.ask(bool, "Agreed?", key="agreed")


@workflow
async def free(ctx: Context, text: str) -> str:
    return await ctx.ask(str, "What?", key="what")


SERVED = [plain, again, guarded, parent, child, drawn, free]


@pytest.fixture
async def client(tmp_path):
    settings = Settings(store=f"sqlite:///{tmp_path}/runs.db")
    async with Runtime(workflows=SERVED, settings=settings) as runtime:
        transport = httpx2.ASGITransport(create_app(runtime, SERVED, settings=settings))
        async with httpx2.AsyncClient(transport=transport, base_url=BASE, timeout=30) as client:
            client.runtime = runtime
            yield client


def body(model: str, **options) -> dict:
    messages = [{"role": "user", "content": "money"}]
    return {"model": model, "messages": messages, "metadata": {"thread_id": "t"}, **options}


async def spent(client) -> dict:
    """What the calls of models cost of all runs there are, as the journals say."""
    runs = await client.runtime.runs()
    ends = [event for run in runs for event in await run.recorded()]
    usages = [event.data["usage"] for event in ends if event.kind == "model.completed"]
    read, written = (sum(each[f"{way}put_tokens"] for each in usages) for way in ("in", "out"))
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def told(usage: dict) -> dict:
    return {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


@pytest.mark.parametrize("model", ["plain", "guarded", "parent", "drawn"])
async def test_question_in_a_chat_says_what_was_spent_so_far(client, model):
    reply = (await client.post("chat/completions", json=body(model))).json()
    assert reply["crew"]["status"] == "waiting"
    assert reply["usage"]["total_tokens"] > 0
    assert told(reply["usage"]) == await spent(client)


async def test_next_question_counts_what_came_before_the_answer_too(client):
    first = (await client.post("chat/completions", json=body("again"))).json()
    second = (await client.post("chat/completions", json=body("again"))).json()
    assert second["choices"][0]["message"]["content"] == "And then?"
    assert second["usage"]["total_tokens"] > first["usage"]["total_tokens"]
    assert told(second["usage"]) == await spent(client)


async def test_streamed_question_ends_with_what_was_spent(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    reply = await client.post("chat/completions", json=body("plain", **options))
    frames = [json.loads(line[6:]) for line in reply.text.splitlines() if line[:7] == "data: {"]
    assert told(frames[-1]["usage"]) == await spent(client)


@pytest.mark.parametrize("stream", [True, False])
async def test_response_that_is_a_question_says_it_too(client, stream):
    asked = {"model": "plain", "input": "money", "stream": stream}
    reply = await client.post("responses", json=asked)
    made = reply.json() if not stream else json.loads(reply.text.strip().splitlines()[-1][6:])
    usage = made["usage"] if not stream else made["response"]["usage"]
    so_far = await spent(client)
    assert usage["total_tokens"] == so_far["total_tokens"] > 0
    run = (await client.get("runs")).json()["data"][0]["id"]
    known = (await client.get(f"responses/resp_{run}")).json()
    assert known["usage"]["total_tokens"] == so_far["total_tokens"]


async def test_question_before_any_model_cost_nothing(client):
    reply = (await client.post("chat/completions", json=body("free"))).json()
    assert reply["usage"]["total_tokens"] == 0
