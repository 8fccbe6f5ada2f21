"""An agent without a model of its own asks the endpoint that the settings name."""

import pytest

from crew import Agent, Context, Runtime, workflow
from crew.config import Settings
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
