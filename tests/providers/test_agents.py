"""Agents at the six providers: their tools, typed answers and images, in a run and its journal."""

import pytest
from pydantic import BaseModel

from crew import Agent, Budget, Context, Fallback, Image, Runtime, Usage, tool, workflow
from crew.llm.client import OpenAIModel
from tests.core.lives import left_waiting, result, stores
from tests.providers import ALL, VLLM, Gemini, OpenAIChat, OpenAIReasoning, mind
from tests.providers.conversation import PIXEL
from tests.providers.server import Refused
from tests.providers.test_dialects import DeepSeek

each = pytest.mark.parametrize("provider", ALL, ids=lambda kind: kind.name)
both_ways = pytest.mark.parametrize("emit", [False, True], ids=["whole", "streamed"])


class City(BaseModel):
    name: str
    people: int


@tool(effect="read")
async def look(word: str) -> str:
    """Look a word up."""
    return f"found {word}"


@tool(effect="read")
async def draw() -> list[str | Image]:
    """Draw."""
    return ["drawn:", Image(PIXEL)]


@tool
async def confirm(ctx: Context, word: str) -> str:
    """Ask a person."""
    return f"found {word}: {await ctx.ask(bool, 'go?', key='go')}"


confirm.name = "look"


def at(endpoint, **options):
    model = OpenAIModel("m", base_url=endpoint.url, max_attempts=1)
    options = {"tools": [look, draw], "instructions": "Be brief.", **options}
    return Agent("asker", model=model, **options)


async def ran(agent, asked, *, emit=False, **policies):
    @workflow
    async def flow(ctx: Context, value: int) -> str:
        done = await ctx.run(agent, asked, emit=emit, **policies)
        return repr((done.output, done.usage))

    async with Runtime(":memory:", workflows=[flow]) as runtime:
        run = await runtime.start(flow, 0)
        live = await result(run)
        assert await result(await runtime.replay(run.id)) == live
        return live


def counted(provider, calls):
    cached = mind.CACHED * calls if issubclass(provider, OpenAIChat) else 0
    return Usage(mind.INPUT * calls, mind.OUTPUT * calls, cached, calls)


@each
@both_ways
async def test_an_agent_calls_its_tools_at_once_and_answers(provider, emit):
    async with provider().running() as endpoint:
        live = await ran(at(endpoint), "parallel", emit=emit)
    assert live == repr(("found a; found b", counted(provider, 2)))


@each
@both_ways
async def test_an_agent_with_tools_gives_a_typed_answer(provider, emit):
    async with provider().running() as endpoint:
        live = await ran(at(endpoint, output=City), "both", emit=emit)
    assert live == repr((City(**mind.CITY), counted(provider, 2)))


@each
async def test_an_agent_is_shown_images_and_shows_those_of_its_tools(provider):
    async with provider().running() as endpoint:
        asked = await ran(at(endpoint), ["image", Image(PIXEL)])
        drawn = await ran(at(endpoint), "shown")
    assert asked == repr(("8 bytes of image/png", counted(provider, 1)))
    assert drawn == repr(("8 bytes of image/png", counted(provider, 2)))


@each
async def test_a_budget_of_tokens_is_not_that_of_an_images_bytes(provider):
    big = Image(PIXEL * 200_000)
    async with provider().running() as endpoint:
        agent = at(endpoint, tools=[], max_tokens=100)
        asked = await ran(agent, ["image", big], budget=Budget(tokens=20_000))
    assert asked == repr(("1600000 bytes of image/png", counted(provider, 1)))


@each
async def test_an_empty_answer_is_followed_by_the_next_turn_of_a_thread(provider):
    async with provider().running() as endpoint:
        agent = at(endpoint, history=True)

        @workflow
        async def chat(ctx: Context, text: str) -> str:
            return (await ctx.run(agent, text)).output

        async with Runtime(":memory:", workflows=[chat]) as runtime:
            for _ in range(3):
                run = await runtime.start(chat, "empty", thread="t")
                assert await result(run) == ""


@stores
@pytest.mark.parametrize("provider", [Gemini, DeepSeek], ids=["signature", "reasoning"])
async def test_what_a_provider_wants_back_outlives_the_process(url, provider):
    async with provider().running() as endpoint:
        agent = at(endpoint, tools=[confirm])

        @workflow
        async def flow(ctx: Context, value: int) -> str:
            return (await ctx.run(agent, "tools")).output

        run = await left_waiting(url, flow)
        async with Runtime(url, workflows=[flow]) as runtime:
            found = await runtime.get(run)
            await found.answer("go", True)
            assert await result(found) == "found a: True"
    assert len(endpoint.requests) == 2


NO_ANSWERS = [(provider, topic) for provider in ALL for topic in ("length", "broken")]
NO_ANSWERS += [(provider, "filter") for provider in (OpenAIChat, OpenAIReasoning, Gemini)]


@pytest.mark.parametrize(("provider", "topic"), NO_ANSWERS)
async def test_no_answer_is_a_model_error_that_names_endpoint_and_cause(provider, topic):
    async with provider().running() as endpoint:
        with pytest.raises(Exception, match="ModelError: http") as caught:
            await ran(at(endpoint, max_tokens=9), topic)
    assert endpoint.url in str(caught.value)


@pytest.mark.parametrize("first", [OpenAIChat, VLLM, Gemini], ids=lambda kind: kind.name)
@pytest.mark.parametrize("second", [OpenAIChat, Gemini, DeepSeek], ids=["openai", "gemini", "ds"])
async def test_a_fallback_goes_on_in_the_middle_of_a_conversation(first, second):
    class Once(first):
        """Is overloaded once it has called its tools."""

        def check(self, body):
            if len(self.requests) > 1:
                raise Refused("overloaded", status=503)
            super().check(body)

    async with Once().running() as one, second().running() as other:
        models = [
            OpenAIModel(name, base_url=endpoint.url, max_attempts=1)
            for name, endpoint in (("m", one), ("n", other))
        ]
        agent = Agent("asker", model=Fallback(*models), tools=[look])
        assert (await ran(agent, "parallel")).startswith("('found a; found b', ")
