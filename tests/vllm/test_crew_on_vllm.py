import asyncio
import base64
import os
import signal
from typing import Annotated, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from crew import Agent, Context, Fallback, Image, tool, workflow
from crew.config import Settings
from crew.errors import ModelError
from crew.llm import ModelRequest
from crew.llm.client import OpenAIModel
from crew.llm.embedded import EmbeddedModel
from crew.message import Message
from crew.run import Runtime
from serving.app import create_app, serve_http
from tests.vllm.recorder import Recorder
from workflows.chat import chat

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]
RIVERS = "Tell me about rivers."
RAMBLING_TOKENS = 1_500
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Weather(BaseModel):
    sky: Literal["clear", "cloudy", "rainy"]
    degrees: Annotated[int, Field(ge=-40, le=40)]


@tool(effect="read")
async def thermometer(city: str) -> int:
    """Return how many degrees a city has."""
    return 21


def teller(max_tokens: int) -> Agent[str]:
    return Agent("teller", max_tokens=max_tokens, temperature=0.0)


@workflow
async def telling(ctx: Context, text: str) -> str:
    return (await ctx.run(teller(100), text, emit=True)).output


@workflow
async def rambling(ctx: Context, text: str) -> str:
    return (await ctx.run(teller(RAMBLING_TOKENS), text, emit=True)).output


@workflow
async def forecasting(ctx: Context, text: str) -> Weather:
    prophet = Agent("prophet", output=Weather, max_tokens=200, temperature=0.0)
    return (await ctx.run(prophet, text)).output


@pytest.fixture
async def client(runtime, engine):
    """The official client of a crew endpoint, which asks vLLM."""
    app = create_app(runtime, [chat], settings=Settings(base_url=engine.url))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_http(app, port=0, on_ready=ready.set_result))
    async with openai.AsyncOpenAI(base_url=await ready, api_key="-", max_retries=0) as client:
        yield client
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
async def model(engine):
    model = OpenAIModel("", base_url=engine.url)
    yield model
    await model.close()


def said(events) -> str:
    return "".join(event.data["text"] for event in events if event.kind == "text.emitted")


async def first_pieces(run, count: int) -> str:
    """Wait for so many pieces of a run's answer."""
    pieces = []
    async for event in run.events():
        pieces += [event] if event.kind == "text.emitted" else []
        if len(pieces) == count:
            break
    return said(pieces)


def _is_forced(body: dict) -> bool:
    return any(
        "schema" in str(body.get(name)) for name in ("response_format", "structured_outputs")
    )


async def usages(run) -> list[dict]:
    return [e.data["usage"] for e in await run.recorded() if e.kind == "model.completed"]


async def test_limits_are_finite_in_every_deployment(engine):
    for deployment in engine.deployments().values():
        config = deployment["deployment_config"]
        assert config["max_ongoing_requests"] == 32
        assert config["max_queued_requests"] == 256


async def test_a_chat_with_the_crew_is_answered_whole_and_as_a_stream(client):
    asked = {"model": "chat", "messages": [{"role": "user", "content": "Say hello."}]}
    whole = await client.chat.completions.create(**asked)
    stream = await client.chat.completions.create(**asked, stream=True)
    pieces = [chunk.choices[0].delta.content async for chunk in stream]

    assert whole.choices[0].message.content.strip()
    assert whole.usage.completion_tokens > 0
    assert len([piece for piece in pieces if piece]) > 1


async def test_tokens_come_one_by_one(model):
    pieces: list[str] = []
    request = ModelRequest((Message("user", RIVERS),), max_tokens=40, temperature=0.0)
    reply = await model.complete(request, on_text=pieces.append)

    assert "".join(pieces) == reply.text
    assert reply.usage.output_tokens - 3 <= len(pieces) <= reply.usage.output_tokens


async def test_a_typed_output_is_the_grammar_of_the_engine(runtime):
    run = await runtime.start(forecasting, "Make up the weather of tomorrow, in JSON.")

    assert isinstance(await run.result(), Weather)
    assert len(await usages(run)) == 1  # nothing had to be repaired


async def test_a_tool_call_is_written_as_openai_does(engine):
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    async with openai.AsyncOpenAI(base_url=engine.url, api_key="-", max_retries=0) as client:
        reply = await client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "What is the weather in Paris?"}],
            tools=[tool],
            tool_choice="required",
            max_tokens=100,
        )

    assert reply.choices[0].message.tool_calls[0].function.name == "weather"


async def test_an_agent_with_tools_gets_its_typed_answer_and_no_schema_is_forced_beside_them(
    engine,
):
    async with Recorder(engine.url) as wire:
        model = OpenAIModel("", base_url=wire.url)
        prophet = Agent(
            "prophet",
            model=model,
            output=Weather,
            tools=[thermometer],
            max_tokens=100,
            temperature=0.0,
            max_turns=3,
            retries=3,
        )
        answer = await prophet.run("How many degrees has Paris, and how is the sky?")
        await model.close()
        sent = [each.body for each in wire.posted if "messages" in each.body]

    assert isinstance(answer.output, Weather)
    assert [tool["function"]["name"] for tool in sent[0]["tools"]] == [
        "thermometer",
        "final_answer",
    ]
    assert not any("tools" in body and _is_forced(body) for body in sent)
    assert len(sent) == answer.usage.calls


async def test_images_are_refused_by_a_model_that_cannot_see(engine):
    model = OpenAIModel("", base_url=engine.url)
    viewer = Agent("viewer", model=model)
    with pytest.raises(ModelError, match=r"takes no images.*give it text"):
        await viewer.run(["What is this?", Image(PIXEL, "image/png")])
    await model.close()


async def test_each_engine_stands_in_for_the_other(engine, tmp_path):
    vllm = OpenAIModel("", base_url=engine.url)
    unknown = OpenAIModel("another", base_url=engine.url)
    embedded, broken = EmbeddedModel(), EmbeddedModel(str(tmp_path / "none.gguf"))
    for models in ((unknown, embedded), (broken, vllm)):
        teller = Agent("teller", model=Fallback(*models), max_tokens=8, temperature=0.0)
        assert (await teller.run("Say hello.")).output
    for model in (vllm, unknown, embedded, broken):
        await model.close()


async def test_a_cancelled_run_frees_its_request(runtime, engine):
    await engine.wait_for_running(0)
    before = engine.generated()
    run = await runtime.start(rambling, RIVERS)
    await engine.wait_for_running(1)
    await run.cancel()

    await engine.wait_for_running(0)
    assert await run.status() == "cancelled"
    assert 0 < engine.generated() - before < RAMBLING_TOKENS  # the rest was never computed


async def test_an_answer_that_was_begun_is_continued(model):
    request = ModelRequest((Message("user", RIVERS),), max_tokens=40, temperature=0.0)
    whole = (await model.complete(request)).text
    begun = whole[: whole.index(" ", 60)]
    rest: list[str] = []
    partial = ModelRequest(request.messages, max_tokens=20, temperature=0.0, partial=begun)
    reply = await model.complete(partial, on_text=rest.append)

    assert await model.continues()
    assert reply.text == begun + "".join(rest)
    assert reply.text.startswith(whole[: len(begun) + 20])


async def test_requests_name_their_session_and_the_salt_of_their_tenant(engine, tmp_path):
    async with Recorder(engine.url) as wire:
        settings = Settings(base_url=wire.url)
        async with Runtime(f"sqlite:///{tmp_path}/wire.db", settings=settings) as runtime:
            for tenant in ("acme", "globex"):
                await (await runtime.of(tenant).start(telling, RIVERS, thread="t1")).result()
        [acme, globex] = wire.posted

    assert acme.headers["x-session-id"] == globex.headers["x-session-id"] == "t1/teller"
    assert acme.body["cache_salt"] != globex.body["cache_salt"]
    assert "acme" not in acme.body["cache_salt"]


async def test_tenants_share_no_cached_prefix(runtime):
    question = (
        "Tell me about mountains, " + "and their rocks, " * 80
    )  # blocks of 128 tokens are cached
    cached = []
    for tenant in ("a", "a", "b"):
        run = await runtime.of(tenant).start(telling, question)
        await run.result()
        cached += [usage["cached_tokens"] for usage in await usages(run)]

    assert cached[0] == cached[2] == 0
    assert cached[1] > 0


async def test_a_stream_goes_on_without_a_seam_after_the_engine_was_killed(engine, tmp_path):
    async with Recorder(engine.url) as wire:
        settings = Settings(base_url=wire.url)
        async with Runtime(f"sqlite:///{tmp_path}/wire.db", settings=settings) as runtime:
            whole = await (await runtime.start(telling, RIVERS)).result()
            pid = engine.pid()
            run = await runtime.start(telling, RIVERS)
            before = await first_pieces(run, 3)
            os.kill(pid, signal.SIGKILL)
            output, events = await run.result(), await run.recorded()
        begun = wire.posted[-1].body["messages"][-1]

    assert begun["role"] == "assistant"
    assert begun["content"].startswith(before)
    assert said(events) == output
    assert not any(event.kind == "text.discarded" for event in events)
    assert output[: len(begun["content"]) + 40] == whole[: len(begun["content"]) + 40]
