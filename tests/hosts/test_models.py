"""Agents in Ray hosts ask models by the names of their program's crew.toml, one after the other."""

import asyncio
import threading

import pytest

from crew import Agent, Budget, Context, Fallback, Runtime, workflow
from crew.hosts.cluster import quiet_cluster
from tests.core.test_default_model import Saying
from tests.hosts.victims import end_all, host

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def cluster():
    with quiet_cluster() as address:
        yield address


class Provider(Saying):
    """Refuses the strong model, and answers for the cheap one once it may."""

    def __init__(self) -> None:
        super().__init__(delay=0.0)
        self.asked: list[str] = []
        self.may_answer = threading.Event()

    def complete(self, body):
        self.asked.append(body["model"])
        if body["model"] == "big":
            return 400, {"error": {"message": "not for you"}}
        self.may_answer.wait(60)
        return super().complete(body)


@pytest.fixture
def provider(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONLY_HERE", "secret")
    with Provider() as provider:
        tables = [
            f'[models.{name}]\nbase_url = "{provider.url}"\nmodel = "{model}"\n'
            'api_key_env = "ONLY_HERE"\nprice_in = 1.0\nprice_out = 2.0\n'
            "requests_per_second = 50\n"
            for name, model in (("strong", "big"), ("cheap", "small"))
        ]
        (tmp_path / "crew.toml").write_text("".join(tables))
        yield provider
        provider.may_answer.set()


def flow_of(agents: int):
    agent = Agent("asker", model=Fallback("strong", "cheap"), max_tokens=50)

    @workflow(name="asking")
    async def flow(ctx: Context, text: str) -> list[str]:
        said = await ctx.map(agent, [f"{text} {number}" for number in range(agents)])
        return [each.output for each in said]

    return flow


async def test_a_host_has_the_names_keys_prices_and_limits_of_its_program(
    cluster, provider, tmp_path
):
    provider.may_answer.set()
    async with Runtime(f"sqlite:///{tmp_path}/runs.db", agents="ray") as runtime:
        run = await runtime.start(flow_of(8), "go", budget=Budget(money=0.1))
        async with asyncio.timeout(120):
            assert await run.result() == ["small says yes"] * 8
        usage = await run.usage()
    end_all()
    assert sorted(provider.asked) == ["big"] * 8 + ["small"] * 8
    assert usage["money"] == pytest.approx(8 * 20e-6)


async def test_a_host_that_is_killed_between_tries_asks_no_failed_model_again(
    cluster, provider, tmp_path
):
    async with Runtime(f"sqlite:///{tmp_path}/runs.db", agents="ray") as runtime:
        run = await runtime.start(flow_of(2), "go")
        async with asyncio.timeout(120):
            while provider.asked.count("small") < 2:
                await asyncio.sleep(0.05)
            (await host("agent", "asking@1:asker")).kill()
            provider.may_answer.set()
            assert await run.result() == ["small says yes"] * 2
        events = await run.recorded()
    end_all()
    assert provider.asked.count("big") == 2
    assert provider.asked.count("small") == 4
    assert sum(event.kind == "model.failed" for event in events) == 2
