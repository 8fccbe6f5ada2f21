"""What Prometheus scrapes of a process that serves runs."""

import asyncio
import math
import signal
import sys
import urllib.error
import urllib.request

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crew import Agent, Budget, Context, RunFailed, StoreError, tool, workflow
from crew.llm.terms import Terms
from crew.message import ToolCall
from crew.testing import ScriptedModel

PRICED = Terms(price_in=2.5, price_out=10)


class Scrape:
    """One answer of /metrics, parsed."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.families = list(text_string_to_metric_families(text))

    @property
    def labels(self) -> list[dict[str, str]]:
        return [sample.labels for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the one series with these labels."""
        found = [
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return found[0] if len(found) == 1 else None


async def scrape(endpoint, **headers: str) -> Scrape:
    url = endpoint.url.removesuffix("/v1") + "/metrics"

    def get() -> Scrape:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
            return Scrape(response.headers["content-type"], response.read().decode())

    return await asyncio.to_thread(get)


@tool(effect="read")
async def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word"


def searching():
    steps = [ToolCall("look_up", {"word": "ray"}), "found"]
    agent = Agent("searcher", model=ScriptedModel(steps, name="m1", terms=PRICED), tools=[look_up])

    @workflow
    async def search(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text, emit=True)).output

    return search


async def test_metrics_are_in_the_text_format(endpoint):
    seen = await scrape(endpoint)

    assert seen.kind == "text/plain; version=0.0.4; charset=utf-8"
    assert {family.name for family in seen.families} == {
        "crew_runs",
        "crew_run_duration_seconds",
        "crew_node_duration_seconds",
        "crew_llm_tokens",
        "crew_llm_money",
        "crew_llm_call_duration_seconds",
        "crew_llm_ttft_seconds",
        "crew_tool_calls",
        "crew_asks_open",
        "crew_runs_open",
        "crew_log_commit_seconds",
        "crew_log_events",
        "crew_budget_refusals",
        "crew_recoveries",
        "crew_http_requests",
        "crew_http_streams_open",
        "crew_http_ttft_seconds",
    }


async def test_runs_and_their_steps_are_counted(endpoint):
    await endpoint.ask("echo", "hi")
    with pytest.raises(openai.InternalServerError):
        await endpoint.ask("failing", "hi")
    seen = await scrape(endpoint)

    assert seen.value("crew_runs_total", workflow="echo", version="1", outcome="completed") == 1
    assert seen.value("crew_runs_total", workflow="failing", outcome="failed") == 1
    assert seen.value("crew_run_duration_seconds_count", workflow="echo") == 1
    assert seen.value("crew_node_duration_seconds_count", workflow="echo", node="say") == 1
    assert seen.value("crew_log_events_total") == sum(
        [len(await run.recorded()) for run in await endpoint.runtime.runs()]
    )
    assert seen.value("crew_log_commit_seconds_count") > 0


async def test_calls_of_models_and_tools_are_counted(endpoint):
    run = await endpoint.runtime.start(searching(), "ray")
    await run.result()
    usage = await run.usage()
    seen = await scrape(endpoint)

    assert seen.value("crew_tool_calls_total", tool="look_up", outcome="completed") == 1
    assert seen.value("crew_llm_call_duration_seconds_count", model="m1") == 2
    assert seen.value("crew_llm_ttft_seconds_count", model="m1") == 1
    for kind in ("input", "output", "cached"):
        tokens = seen.value("crew_llm_tokens_total", model="m1", kind=kind)
        assert tokens == usage[f"{kind}_tokens"]
    assert seen.value("crew_llm_money_total", model="m1") == pytest.approx(usage["money"])


async def test_open_questions_are_counted_until_they_are_answered(endpoint):
    await endpoint.ask("asking", "hi")
    before = await scrape(endpoint)
    (run,) = await endpoint.runtime.runs()
    await run.answer("refund", True)
    await run.result()
    after = await scrape(endpoint)

    assert before.value("crew_asks_open") == 1
    assert before.value("crew_runs_open", status="waiting") == 1
    assert after.value("crew_asks_open") == after.value("crew_runs_open", status="waiting") == 0


async def test_questions_of_runs_that_nobody_drives_are_counted_too(opening, tmp_path):
    store = f"sqlite:///{tmp_path}/runs.db"
    async with opening(store) as endpoint:
        await endpoint.ask("asking", "hi")
        await endpoint.ask("asking", "hi")
    async with opening(store) as endpoint:
        for _ in range(2):
            seen = await scrape(endpoint)
            assert seen.value("crew_asks_open") == 2
            assert seen.value("crew_runs_open", status="waiting") == 2


@pytest.mark.parametrize("limit", [{"tokens": 1}, {"seconds": 0.001}])
async def test_refusals_of_budgets_are_counted_once(endpoint, limit):
    run = await endpoint.runtime.start(searching(), "ray", budget=Budget(**limit))
    with pytest.raises(RunFailed, match="BudgetExceeded"):
        await run.result()

    assert (await scrape(endpoint)).value("crew_budget_refusals_total") == 1


async def test_run_of_a_worker_that_died_is_a_recovery(opening, tmp_path, killed):
    store = f"sqlite:///{tmp_path}/runs.db"
    await killed(store)
    async with opening(store) as endpoint:
        (run,) = await endpoint.runtime.runs()
        await run.result()
        seen = await scrape(endpoint)

    assert seen.value("crew_recoveries_total") == 1


async def test_requests_and_streams_are_counted_by_route(endpoint):
    await endpoint.stream("telling", "hi")
    await endpoint.client.models.retrieve("crew/echo")
    with pytest.raises(openai.NotFoundError):
        await endpoint.ask("nobody", "hi")
    seen = await scrape(endpoint)
    chat, model = "/v1/chat/completions", "/v1/models/{model:path}"

    assert seen.value("crew_http_requests_total", route=chat, status="200") == 1
    assert seen.value("crew_http_requests_total", route=chat, status="404") == 1
    assert seen.value("crew_http_requests_total", route=model, status="200") == 1
    assert seen.value("crew_http_ttft_seconds_count") == 1
    assert seen.value("crew_http_streams_open") == 0


async def test_open_stream_is_counted(endpoint, gate, request):
    stream = await endpoint.ask("echo", request.node.name, stream=True)
    assert (await scrape(endpoint)).value("crew_http_streams_open") == 1
    gate.set()
    assert [chunk async for chunk in stream]


async def test_path_that_nobody_serves_gets_no_series_of_its_own(endpoint):
    with pytest.raises(openai.NotFoundError):
        await endpoint.client.get("/secrets/r0123456789abcdef", cast_to=object)
    seen = await scrape(endpoint)

    assert seen.value("crew_http_requests_total", route="none", status="404") == 1


async def test_no_label_is_an_id(endpoint):
    reply = await endpoint.ask("echo", "hi", extra_body={"metadata": {"thread_id": "thread-1"}})
    fork = await endpoint.runtime.fork(reply.crew["run_id"])
    await fork.result()
    labels = (await scrape(endpoint)).labels

    assert {name for each in labels for name in each} == {
        *("workflow", "version", "outcome", "node", "status", "route", "le"),
    }
    assert not {reply.crew["run_id"], fork.id, "thread-1"} & {v for e in labels for v in e.values()}


async def test_metrics_need_a_key_where_keys_are_set(opening, tmp_path):
    async with opening(f"sqlite:///{tmp_path}/runs.db", api_keys=["k1"]) as endpoint:
        with pytest.raises(urllib.error.HTTPError, match="401") as caught:
            await scrape(endpoint)
        caught.value.close()
        assert (await scrape(endpoint, Authorization="Bearer k1")).families


async def test_what_is_counted_stays_readable_while_the_store_is_not(endpoint, monkeypatch):
    await endpoint.ask("echo", "hi")

    def refuse(**options):
        raise StoreError(message="gone")

    monkeypatch.setattr(endpoint.runtime.store, "runs", refuse)
    seen = await scrape(endpoint)

    assert seen.value("crew_runs_total", workflow="echo") == 1
    assert math.isnan(seen.value("crew_asks_open"))
    assert seen.value("crew_runs_open", status="waiting") is None


@pytest.fixture
def killed():
    """Starts the workflow `echo` in a process of its own, and kills it in the step."""
    return _start_and_kill


DYING = """
import asyncio, os, signal, sys
from pydantic import BaseModel
from crew import Graph, Runtime
from tests.serving.conftest import Answer, Question

echo = Graph("echo", input=Question, output=Answer)

@echo.node
async def say(question: Question) -> Answer:
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with Runtime(sys.argv[1]) as runtime:
        await (await runtime.start(echo, Question(text="hi"))).result()

asyncio.run(main())
"""


async def _start_and_kill(store: str) -> None:
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", DYING, store)
    assert await dying.wait() == -signal.SIGKILL
