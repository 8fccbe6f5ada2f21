"""Several versions of one workflow: served side by side, or missing, and how that is told."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager

import httpx2
import pytest

from crew import Context, Graph, Runtime, workflow
from crew.config import Settings
from crew.errors import InputInvalid
from serving.app import create_app
from serving.gallery import by_name

BASE = "http://127.0.0.1/v1/"


def version(number: str, *, asks: bool = False):
    """A version of the workflow `triage`, which asks or answers at once."""

    async def triage(ctx: Context, text: str) -> str:
        if asks and not await ctx.ask(bool, "Refund?", key="refund"):
            return f"refused by {number}"
        return f"{text} by {number}"

    return workflow(version=number)(triage)


def drawn(number: str) -> Graph:
    graph = Graph("triage", input=str, output=str, version=number)

    @graph.node
    async def only(ctx: Context, text: str) -> str:
        return f"{text} drawn by {number}"

    return graph


@asynccontextmanager
async def served(url: str, *workflows):
    settings = Settings(store=url)
    async with Runtime(workflows=workflows, settings=settings) as runtime:
        transport = httpx2.ASGITransport(create_app(runtime, workflows, settings=settings))
        async with httpx2.AsyncClient(transport=transport, base_url=BASE, timeout=30) as client:
            yield client


async def chat(client, text: str, model: str = "triage", thread: str = "t", **metadata):
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "metadata": {"thread_id": thread, **metadata},
    }
    return await client.post("chat/completions", json=body)


def content(reply) -> str:
    return reply.json()["choices"][0]["message"]["content"]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
async def waiting(url):
    """The id of a run of version 1 that asks on the thread `t`, and whose server has left."""
    async with served(url, version("1", asks=True)) as client:
        reply = await chat(client, "lamp")
        assert content(reply) == "Refund?"
        return reply.headers["x-run-id"]


@pytest.mark.parametrize(
    ("numbers", "newest"),
    [
        (("1", "2"), "2"),
        (("2", "1"), "2"),
        (("9", "10"), "10"),
        (("1.10", "1.9"), "1.10"),
        (("2026-01-09", "2026-01-10", "2025-12-31"), "2026-01-10"),
    ],
)
async def test_name_is_the_newest_version_and_each_has_a_name_of_its_own(url, numbers, newest):
    async with served(url, *map(version, numbers)) as client:
        listed = (await client.get("models")).json()["data"]
        names = {item["id"]: item["crew"]["version"] for item in listed}
        assert names == {
            "triage" if number == newest else f"triage@{number}": number for number in numbers
        }
        assert content(await chat(client, "lamp")) == f"lamp by {newest}"
        for number in numbers:
            said = await chat(client, "lamp", f"triage@{number}", thread=number)
            assert content(said) == f"lamp by {number}"
            assert (await client.get(f"models/triage@{number}")).status_code == 200


async def test_graph_and_function_may_be_versions_of_each_other(url):
    async with served(url, version("1"), drawn("2")) as client:
        assert content(await chat(client, "lamp")) == "lamp drawn by 2"
        assert content(await chat(client, "lamp", "crew/triage@1")) == "lamp by 1"


@pytest.mark.parametrize("path", ["runs", "responses"])
async def test_older_version_is_started_by_its_name_on_every_route(url, path):
    async with served(url, version("1"), version("2")) as client:
        body = {"workflow": "triage@1", "input": "lamp"}
        if path == "responses":
            body = {"model": "triage@1", "input": "lamp"}
        made = (await client.post(path, json=body)).json()
        run = made["crew"]["run_id"] if path == "responses" else made["id"]
        assert (await client.get(f"runs/{run}")).json()["version"] == "1"


async def test_unknown_version_is_refused_with_those_there_are(url):
    async with served(url, version("1"), version("2")) as client:
        reply = await chat(client, "lamp", "triage@3")
        assert reply.status_code == 404
        assert "served here: triage@1, triage" in reply.json()["error"]["message"]


def test_two_of_one_version_are_refused():
    with pytest.raises(InputInvalid, match="two workflows are called 'triage' and are of version"):
        by_name([version("1"), version("1")])


async def test_run_goes_on_with_its_own_version_beside_a_newer_one(url, waiting):
    async with served(url, version("1", asks=True), version("2")) as client:
        assert content(await chat(client, "yes")) == "lamp by 1"
        assert content(await chat(client, "lamp")) == "lamp by 2"


async def test_answer_in_a_chat_to_a_version_that_is_not_loaded_is_refused_at_once(url, waiting):
    async with served(url, version("2")) as client:
        async with asyncio.timeout(20):
            reply = await chat(client, "yes")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "workflow_not_loaded")
        told = reply.json()["error"]["message"]
        assert f"run {waiting} waits for workflow 'triage' version 1" in told
        assert reply.headers["x-should-retry"] == "false"
    async with served(url, version("1", asks=True), version("2")) as client:
        assert content(await chat(client, "yes")) == "lamp by 1"  # nothing had been stored


@pytest.mark.parametrize("way", ["answer", "responses", "stream", "keyed"])
async def test_answer_by_any_route_is_refused_at_once(url, waiting, way):
    async with served(url, version("2")) as client:
        path, body = "responses", {"model": "triage", "input": "yes", "conversation": "t"}
        if way in ("answer", "keyed"):
            path, body = f"runs/{waiting}/answer", {"key": "refund", "value": True}
        if way == "stream":
            body["stream"] = True
        headers = {"Idempotency-Key": "k"} if way == "keyed" else {}
        async with asyncio.timeout(20):
            reply = await client.post(path, json=body, headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "workflow_not_loaded")


async def test_conversation_goes_on_with_the_new_version_once_the_old_run_is_cancelled(
    url, waiting
):
    async with served(url, version("2")) as client:
        assert (await chat(client, "yes")).status_code == 503
        assert (await client.post(f"runs/{waiting}/cancel")).json()["status"] == "cancelled"
        assert content(await chat(client, "yes")) == "yes by 2"


async def test_turn_that_would_wait_behind_such_a_run_is_refused_too(url):
    """It asks nobody of this conversation: it was stopped at work."""
    gate = asyncio.Event()

    async def triage(ctx: Context, text: str) -> str:
        await gate.wait()
        return text

    async with served(url, workflow(version="1")(triage)) as client:
        begun = asyncio.create_task(chat(client, "lamp"))
        async with asyncio.timeout(20):
            while not (await client.get("runs")).json()["data"]:
                await asyncio.sleep(0.01)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)
    async with served(url, version("2")) as client:
        reply = await chat(client, "well?")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "workflow_not_loaded")


@pytest.mark.parametrize("place", ["readyz", "log", "list"])
async def test_run_that_waits_for_code_is_named(url, waiting, place, caplog):
    caplog.set_level(logging.WARNING, "crew.run.loaded")
    async with served(url, version("2")) as client:
        if place == "log":
            async with asyncio.timeout(20):
                while "run.unloaded" not in caplog.text:
                    await asyncio.sleep(0.01)
            [record] = [each for each in caplog.records if each.message == "run.unloaded"]
            assert record.run == waiting
            assert "'triage' version 1" in record.hint
        elif place == "list":
            [run] = (await client.get("runs")).json()["data"]
            assert f"run {waiting} waits for workflow 'triage' version 1" in run["unloaded"]
        else:
            ready = await client.get("http://127.0.0.1/readyz")
            assert ready.status_code == 200
            named = {"run": waiting, "workflow": "triage", "version": "1"}
            assert ready.json()["unloaded"] == [named]


async def test_nothing_is_missing_where_another_server_has_the_old_version(url, waiting):
    """Two servers on one store, as while a new version is rolled out."""
    async with served(url, version("1", asks=True)), served(url, version("2")) as client:
        assert (await client.get("http://127.0.0.1/readyz")).json()["unloaded"] == []
        assert (await client.get(f"runs/{waiting}")).json()["unloaded"] is None
        assert content(await chat(client, "yes")) == "lamp by 1"


def edited():
    """Version 1 with another question in the place of the one that was asked."""

    async def triage(ctx: Context, text: str) -> str:
        return str(await ctx.ask(bool, "Pay it back?", key="refund"))

    return workflow(version="1")(triage)


@pytest.fixture
async def parked(url, waiting):
    """A server of code that does not fit the run that waits on the thread `t`."""
    async with served(url, edited()) as client:
        reply = await chat(client, "yes")
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "run_parked")
        yield client


async def test_list_of_runs_says_why_one_is_parked(parked, waiting):
    [run] = (await parked.get("runs?status=waiting")).json()["data"]
    assert run["parked"]["reason"] == "diverged"
    assert run["parked"]["detail"]
    assert run["unloaded"] is None


@pytest.mark.parametrize("way", ["chat", "stream", "responses", "answer"])
async def test_whoever_goes_on_with_a_parked_run_is_told_why_at_once(parked, waiting, way):
    path, body = "responses", {"model": "triage", "input": "well?", "conversation": "t"}
    if way == "answer":
        path, body = f"runs/{waiting}/answer", {"key": "refund", "value": True}
    elif way != "responses":
        path = "chat/completions"
        body = {"model": "triage", "messages": [{"role": "user", "content": "well?"}]}
        body |= {"metadata": {"thread_id": "t"}, "stream": way == "stream"}
    async with asyncio.timeout(20):
        reply = await parked.post(path, json=body)
    assert reply.status_code == 409
    error = json.loads(reply.text)["error"]
    assert error["code"] == "run_parked"
    assert waiting in error["message"]
    assert "diverged" in error["message"]


async def test_chat_of_a_parked_run_goes_on_where_its_client_asks_again(parked, waiting):
    said = [{"role": "user", "content": "lamp"}, {"role": "assistant", "content": "Refund?"}]
    headers = {"X-OpenWebUI-Chat-Id": "t"}

    async def sent(messages):
        body = {"model": "triage", "messages": messages}
        return await parked.post("chat/completions", json=body, headers=headers)

    async with asyncio.timeout(20):
        refused = await sent([*said, {"role": "user", "content": "well?"}])
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "run_parked")
        again = await sent(said[:1])
        assert content(again) == "Pay it back?"
        copy = [said[0], {"role": "assistant", "content": "Pay it back?"}]
        done = await sent([*copy, {"role": "user", "content": "yes"}])
    assert content(done) == "True"
    assert done.headers["x-thread-id"] == again.headers["x-thread-id"] != "t"
    assert (await parked.get(f"runs/{waiting}")).json()["status"] == "waiting"
