"""`crew serve --mcp`, called by the official client: workflows are tools."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import mcp
import openai
import pytest
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import ElicitResult
from pydantic import BaseModel

from crew import MCP, Agent, Context, Runtime, ToolCall, workflow
from crew.config import Settings
from crew.testing import ScriptedModel
from serving.access.keys import key_of
from serving.app import create_app, serve_http

SECONDS = 60


class Order(BaseModel):
    item: str
    count: int = 1
    docs: str = ""


class Bill(BaseModel):
    text: str
    cents: int


@workflow
async def shout(ctx: Context, text: str) -> str:
    """Say it louder."""
    ctx.progress("breathing in")
    return text.upper()


@workflow
async def order(ctx: Context, wanted: Order) -> Bill:
    return Bill(text=f"{wanted.count} {wanted.item} by {wanted.docs}", cents=wanted.count * 100)


@workflow
async def refund(ctx: Context, wanted: Order) -> str:
    if not await ctx.ask(bool, f"Refund {wanted.item}?", key="sure"):
        return "kept"
    much = await ctx.ask(int, "How many cents?", key="cents")
    return f"{much} cents for {wanted.item}"


@workflow
async def bonus(ctx: Context, name: str) -> str:
    return str(await ctx.ask(bool, f"Grant {name} a bonus?", key="grant", to="boss"))


@workflow
async def broken(ctx: Context, text: str) -> str:
    raise ValueError(f"no {text}")


@asynccontextmanager
async def serving(store: str = ":memory:", **options) -> AsyncIterator[tuple[str, Runtime]]:
    flows = [shout, order, refund, bonus, broken]
    async with Runtime(store, workflows=flows) as runtime:
        options.setdefault("input_defaults", {"docs": "the book"})
        options.setdefault("mcp", True)
        app = create_app(runtime, flows, settings=Settings(), **options)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve_http(app, port=0, on_ready=ready.set_result))
        try:
            async with asyncio.timeout(SECONDS):
                url = await ready
                yield f"{url.removesuffix('v1')}mcp", runtime
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


def answers(*values: object):
    """Answers to what is asked, in this order; None declines."""
    left, asked = list(values), []

    async def answer(context, params) -> ElicitResult:
        asked.append(params.message)
        value = left.pop(0)
        if value is None:
            return ElicitResult(action="decline")
        return ElicitResult(action="accept", content={"answer": value})

    answer.asked = asked
    return answer


async def test_workflows_are_tools_with_the_schemas_of_their_inputs():
    async with serving() as (url, _), mcp.Client(url) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}

    assert list(tools) == ["shout", "order", "refund", "bonus", "broken", "answer"]
    assert tools["shout"].description == "Say it louder."
    assert tools["shout"].input_schema["properties"]["input"]["type"] == "string"
    assert tools["order"].input_schema["required"] == ["item"]


async def test_result_is_text_and_structured_content():
    async with serving() as (url, _), mcp.Client(url) as client:
        said = await client.call_tool("shout", {"input": "hello"})
        bill = await client.call_tool("order", {"item": "tea", "count": 2})

    assert (said.content[0].text, said.structured_content) == ("HELLO", {"result": "HELLO"})
    assert bill.structured_content == {"text": "2 tea by the book", "cents": 200}


async def test_progress_of_a_run_is_notified():
    told: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with serving() as (url, _), mcp.Client(url) as client:
        await client.call_tool("shout", {"input": "hello"}, progress_callback=note)

    assert "breathing in" in told


async def test_question_is_asked_of_the_clients_user_who_goes_on_with_the_same_run():
    answer = answers(True, 250)
    async with serving() as (url, runtime):
        async with mcp.Client(url, elicitation_callback=answer) as client:
            result = await client.call_tool("refund", {"item": "tea"})
        runs = await runtime.runs()

    assert answer.asked == ["Refund tea?", "How many cents?"]
    assert result.content[0].text == "250 cents for tea"
    assert len(runs) == 1


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_client_that_cannot_ask_reads_the_question_and_answers_by_a_tool(mode):
    async with serving() as (url, _), mcp.Client(url, mode=mode) as client:
        asked = await client.call_tool("refund", {"item": "tea"})
        run = asked.structured_content["run"]
        again = await client.call_tool("answer", {"run": run, "value": "yes"})
        done = await client.call_tool("answer", {"run": run, "value": 5, "question": "cents"})

    assert asked.is_error
    assert "Refund tea?" in asked.content[0].text
    assert run in asked.content[0].text
    assert again.structured_content["questions"][0]["key"] == "cents"
    assert done.content[0].text == "5 cents for tea"


async def test_question_that_the_user_declines_stays_open():
    async with serving() as (url, runtime):
        async with mcp.Client(url, elicitation_callback=answers(None)) as client:
            result = await client.call_tool("refund", {"item": "tea"})
        (run,) = await runtime.runs()

        assert result.is_error
        assert [question.key for question in await run.questions()] == ["sure"]


async def test_answer_of_the_wrong_type_is_an_error_and_leaves_the_question():
    async with serving() as (url, _), mcp.Client(url) as client:
        asked = await client.call_tool("refund", {"item": "tea"})
        run = asked.structured_content["run"]
        wrong = await client.call_tool("answer", {"run": run, "value": [1]})
        right = await client.call_tool("answer", {"run": run, "value": False})

    assert wrong.is_error
    assert right.content[0].text == "kept"


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("order", {}, "item"),
        ("order", {"item": "tea", "count": "many"}, "count"),
        ("broken", {"input": "luck"}, "no luck"),
        ("answer", {"run": "r-none", "value": 1}, "r-none"),
        ("answer", {}, "run"),
    ],
)
async def test_what_comes_to_nothing_is_an_error_that_says_why(tool, arguments, words):
    async with serving() as (url, _), mcp.Client(url) as client:
        result = await client.call_tool(tool, arguments)

    assert result.is_error
    assert words in result.content[0].text


async def test_unknown_tool_is_refused_with_those_there_are():
    async with serving() as (url, _), mcp.Client(url) as client:
        with pytest.raises(mcp.MCPError, match="shout"):
            await client.call_tool("nothing", {})


async def test_call_with_an_idempotency_key_is_the_same_run_when_it_is_made_again():
    async with serving() as (url, runtime), mcp.Client(url) as client:
        meta = {"crew/idempotency-key": "k-1"}
        first = await client.call_tool("shout", {"input": "a"}, meta=meta)
        again = await client.call_tool("shout", {"input": "a"}, meta=meta)
        other = await client.call_tool("shout", {"input": "b"}, meta=meta)

        assert first.content == again.content
        assert other.is_error
        assert len(await runtime.runs()) == 1


async def test_key_is_needed_where_keys_are_set_and_others_runs_are_not_seen():
    keys = [key_of(each, name=each, tenant=each) for each in ("acme-key", "other-key")]
    async with serving(keys=keys) as (url, _):
        with pytest.raises(ExceptionGroup):
            async with mcp.Client(url):
                pass
        async with signed_in(url, "acme-key") as acme, signed_in(url, "other-key") as other:
            asked = await acme.call_tool("refund", {"item": "tea"})
            given = {"run": asked.structured_content["run"], "value": True}
            refused = await other.call_tool("answer", given)
            taken = await acme.call_tool("answer", given)

    assert refused.is_error
    assert "cents" in taken.content[0].text


@asynccontextmanager
async def signed_in(url: str, key: str, **more: str) -> AsyncIterator[mcp.Client]:
    headers = {"Authorization": f"Bearer {key}", **more}
    async with (
        create_mcp_http_client(headers=headers) as sending,
        mcp.Client(streamable_http_client(url, http_client=sending)) as client,
    ):
        yield client


async def test_conversation_in_a_header_is_the_callers_own_as_in_chats():
    keys = [key_of(f"{name}-key", name=name, tenant="shop") for name in ("ada", "bob")]
    async with serving(keys=keys) as (url, runtime):
        for name in ("ada", "bob"):
            for thread in ("t", "{{chat_id}}"):
                headers = {"X-Thread-Id": thread}
                async with signed_in(url, f"{name}-key", **headers) as client:
                    await client.call_tool("shout", {"input": name})
        client = openai.AsyncOpenAI(base_url=f"{url.removesuffix('mcp')}v1", api_key="ada-key")
        said = [{"role": "user", "content": "more"}]
        await client.chat.completions.create(
            model="shout", messages=said, extra_headers={"X-Thread-Id": "t"}
        )
        await client.close()
        runs = await runtime.of("shop").runs()
        threads = [run.thread for run in runs]

    more, no_id, bob, _, ada = threads
    assert more == ada
    assert len({no_id, bob, ada}) == 3
    assert no_id is None


async def test_agent_calls_a_workflow_that_another_server_offers():
    async with serving() as (url, runtime):
        model = ScriptedModel([ToolCall("far_shout", {"input": "tea"}), "done"])
        agent = Agent("clerk", model=model, tools=[MCP(url, prefix="far", include=["shout"])])
        answer = await agent.run("hello")

        assert answer.messages[-2].text == "TEA"
        assert len(await runtime.runs()) == 1


FLOW = """
from crew import Context, workflow

@workflow
async def shout(ctx: Context, text: str) -> str:
    if await ctx.ask(bool, "Loud?"):
        return text.upper()
    return text
"""


@pytest.mark.parametrize(
    "words", [[], pytest.param(["--workers", "2"], marks=pytest.mark.slow)], ids=["one", "two"]
)
async def test_crew_serve_offers_its_workflows_to_the_official_client(words, place, endpoint):
    (place.folder / "flow.py").write_text(FLOW)
    words = ["serve", "flow.py", "--mcp", "--port", "0", "--json", *words]
    server = place.crew(*words, endpoint=endpoint)
    told = "".join(iter(server.stdout.readline, "}\n")) + "}"

    url, answer = json.loads(told)["mcp"], answers(*[True] * 8)
    async with mcp.Client(url, elicitation_callback=answer) as client:
        results = [await client.call_tool("shout", {"input": f"tea {n}"}) for n in range(8)]

    assert [result.content[0].text for result in results] == [f"TEA {n}" for n in range(8)]


async def test_no_tools_are_offered_where_nobody_asked_for_it():
    async with serving(mcp=False) as (url, _):
        agent = Agent("clerk", model=ScriptedModel(["done"]), tools=[MCP(url)])
        await agent.run("hello")

    assert "HTTP 404" in agent.model.requests[0].tools[0].description


async def test_question_for_somebody_else_is_neither_shown_nor_taken():
    clerk_key = key_of("clerk-key", name="clerk", tenant="shop")
    boss_key = key_of("boss-key", name="boss", tenant="shop")
    async with (
        serving(keys=[clerk_key, boss_key]) as (url, _),
        signed_in(url, "clerk-key") as clerk,
        signed_in(url, "boss-key") as boss,
    ):
        asked = await clerk.call_tool("bonus", {"input": "eva"})
        run = asked.structured_content["run"]
        refused = await clerk.call_tool("answer", {"run": run, "value": True})
        named = {"run": run, "value": True, "question": "grant"}
        forbidden = await clerk.call_tool("answer", named)
        taken = await boss.call_tool("answer", {"run": run, "value": True})
        seen = await clerk.call_tool("answer", {"run": run})

    assert "boss" in asked.content[0].text
    assert "Grant eva" not in asked.content[0].text
    assert asked.structured_content["questions"] == []
    assert refused.is_error
    assert forbidden.is_error
    assert taken.content[0].text == seen.content[0].text == "True"


async def test_run_can_be_looked_at_again_without_an_answer():
    async with serving() as (url, _), mcp.Client(url) as client:
        asked = await client.call_tool("refund", {"item": "tea"})
        again = await client.call_tool("answer", {"run": asked.structured_content["run"]})

    assert again.content == asked.content
