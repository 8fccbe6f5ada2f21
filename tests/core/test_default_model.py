"""An agent without a model of its own asks the endpoint that the settings name."""

import asyncio
import time

import pytest

from crew import Agent, Context, OpenAIModel, Runtime, workflow
from crew.config import Settings
from crew.testing import ScriptedModel
from tests.core.lives import result
from tests.endpoint import Endpoint


class Saying(Endpoint):
    """Answers each request with the same text."""

    def complete(self, body: dict) -> tuple[int, dict]:
        message = {"role": "assistant", "content": f"{body['model']} says yes"}
        return 200, {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }


@pytest.mark.parametrize("agents", [1, 3])
async def test_agents_without_a_model_share_that_of_the_settings(agents):
    each = [Agent(f"agent{number}") for number in range(agents)]

    @workflow
    async def flow(ctx: Context, text: str) -> list[str]:
        return [(await ctx.run(agent, text)).output for agent in each]

    with Saying(delay=0.0) as endpoint:
        settings = Settings(base_url=endpoint.url, model="small")
        async with Runtime(":memory:", settings=settings) as runtime:
            run = await runtime.start(flow, "well?")
            assert await result(run) == ["small says yes"] * agents
            assert (await run.usage())["input_tokens"] == 10 * agents
    assert len(endpoint.requests) == agents


class Uneven(Saying):
    """Answers one of its requests late."""

    def complete(self, body: dict) -> tuple[int, dict]:
        if body["messages"][-1]["content"] == "late":
            time.sleep(0.5)
        return super().complete(body)


async def test_who_ends_first_breaks_no_request_of_a_model_that_others_use():
    with Uneven(delay=0.0) as endpoint:
        agent = Agent("agent", model=OpenAIModel("small", base_url=endpoint.url))
        answers = await asyncio.gather(agent.run("late"), agent.run("soon"))
        assert [each.output for each in answers] == ["small says yes"] * 2
    assert len(endpoint.requests) == 2


async def test_a_model_is_closed_by_the_last_that_used_it():
    closed = []

    class Closing(ScriptedModel):
        async def close(self) -> None:
            closed.append(self.name)

    model = Closing(lambda request: "yes")
    agent = Agent("agent", model=model)

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(":memory:") as runtime:
        await result(await runtime.start(flow, "go"))
        async with Runtime(":memory:") as other:
            await result(await other.start(flow, "go"))
        assert closed == []
    assert closed == ["scripted"]
