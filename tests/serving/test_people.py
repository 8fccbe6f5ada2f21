"""Questions that are for somebody: who sees them, who answers them, and what others are told."""

import asyncio
import json

import httpx2
import openai
import pytest

from crew import Context, Runtime, workflow
from crew.config import Settings
from serving.access.keys import key_of
from serving.app import create_app

BASE = "http://127.0.0.1/v1/"

SECRET = "Refund 7 euros to Ada?"


@workflow
async def refund(ctx: Context, text: str) -> str:
    return "refunded" if await ctx.ask(bool, SECRET, key="refund", to="manager") else "kept"


@workflow
async def twice(ctx: Context, text: str) -> str:
    name = await ctx.ask(str, "Your name?", key="name")
    agreed = await ctx.ask(bool, f"{SECRET} {name}", key="refund", to="manager")
    again = await ctx.ask(bool, f"{SECRET} Really?", key="sure", to="manager")
    return f"{name}: {agreed and again}"


@workflow
async def both(ctx: Context, text: str) -> str:
    agreed, name = await asyncio.gather(
        ctx.ask(bool, SECRET, key="refund", to="manager"), ctx.ask(str, "Your name?", key="name")
    )
    return f"{name}: {agreed}"


SERVED = [refund, twice, both]
KEYS = [
    key_of("customer", name="customer", tenant="shop"),
    key_of("clerk", name="clerk", tenant="shop", roles=["clerk"]),
    key_of("eva", name="eva", tenant="shop", roles=["clerk", "manager"]),
    key_of("manager", name="manager", tenant="shop"),
    key_of("stranger", name="stranger", tenant="elsewhere", roles=["manager"]),
]
MAY = {"customer": False, "clerk": False, "eva": True, "manager": True, "stranger": False}


class Shop:
    """An endpoint, and who calls it."""

    def __init__(self, client: httpx2.AsyncClient, runtime: Runtime) -> None:
        self.client, self.runtime = client, runtime

    async def call(
        self, method: str, path: str, body=None, *, key="", **headers
    ) -> httpx2.Response:
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return await self.client.request(method, path, json=body, headers=headers)

    async def chat(self, text: str, *, key="", model="refund", thread="t", **metadata):
        body = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "metadata": {"thread_id": thread, **metadata},
        }
        return await self.call("POST", "chat/completions", body, key=key)

    async def said(self, text: str, **options) -> str:
        reply = await self.chat(text, **options)
        assert reply.status_code == 200, reply.text
        return reply.json()["choices"][0]["message"]["content"]

    async def waiting(self, key="", *, model="refund", thread="t") -> str:
        """Begin a run by a chat; return its id once it waits for somebody."""
        reply = await self.chat("I want my money back", key=key, model=model, thread=thread)
        assert reply.json()["crew"]["status"] == "waiting"
        return reply.headers["x-run-id"]

    async def answers(self, run: str) -> list[dict]:
        found = await self.runtime.of(self.tenant).get(run)
        return [event.data for event in await found.recorded() if event.kind == "ask.answered"]

    tenant = "default"


@pytest.fixture
async def shop(tmp_path, request):
    keys = getattr(request, "param", [])
    settings = Settings(store=f"sqlite:///{tmp_path}/runs.db")
    async with Runtime(workflows=SERVED, settings=settings) as runtime:
        transport = httpx2.ASGITransport(create_app(runtime, SERVED, settings=settings, keys=keys))
        async with httpx2.AsyncClient(transport=transport, base_url=BASE, timeout=30) as client:
            found = Shop(client, runtime)
            found.tenant = keys[0].tenant if keys else "default"
            yield found


with_keys = pytest.mark.parametrize("shop", [KEYS], indirect=True)


async def test_chat_says_for_whom_it_waits_and_never_what_is_asked(shop):
    reply = await shop.chat("I want my money back")
    assert reply.json()["choices"][0]["message"]["content"] == "waiting for manager"
    assert reply.json()["crew"]["status"] == "waiting"
    assert SECRET not in reply.text


@pytest.mark.parametrize("text", ["true", "yes", '{"approved": true}', "1"])
async def test_customers_word_approves_nothing(shop, text):
    run = await shop.waiting()
    reply = await shop.chat(text, when_busy="reject")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "thread_busy")
    assert await shop.answers(run) == []


async def test_next_message_is_a_turn_of_its_own_behind_the_managers_answer(shop):
    run = await shop.waiting()
    later = asyncio.create_task(shop.chat("Hello?"))
    async with asyncio.timeout(20):
        while len(await shop.runtime.runs(thread="t")) < 2:
            await asyncio.sleep(0.01)
    done = await shop.call("POST", f"runs/{run}/answer", {"key": "refund", "value": True})
    assert done.status_code == 200
    reply = await later
    assert reply.headers["x-run-id"] != run
    first = await shop.runtime.get(run)
    assert await first.result() == "refunded"


async def test_customer_answers_what_is_hers_and_no_more(shop):
    assert await shop.said("hello", model="twice") == "Your name?"
    assert await shop.said("Ada") == "waiting for manager"
    [run] = await shop.runtime.runs()
    for key in ("refund", "sure"):
        async with asyncio.timeout(20):
            while not [item for item in await run.questions() if item.key == key]:
                await asyncio.sleep(0.01)
        await shop.call("POST", f"runs/{run.id}/answer", {"key": key, "value": True})
    assert await run.result() == "Ada: True"


async def test_customer_answers_beside_a_question_to_the_manager(shop):
    said = await shop.said("hello", model="both")
    assert sorted(said.splitlines()) == ["Your name?", "waiting for manager"]
    assert await shop.said("Ada") == "waiting for manager"


@pytest.mark.parametrize("body", [{}, {"by": "eva"}], ids=["silent", "claimed"])
async def test_answer_without_keys_is_on_record_as_unverified(shop, body):
    run = await shop.waiting()
    reply = await shop.call("POST", f"runs/{run}/answer", {"key": "refund", "value": True, **body})
    assert reply.status_code == 200
    assert await shop.answers(run) == [{"value": True, "by": "unverified"}]


async def test_answer_in_a_chat_without_keys_is_unverified_too(shop):
    await shop.said("hello", model="twice")
    await shop.said("Ada")
    [run] = await shop.runtime.runs()
    assert await shop.answers(run.id) == [{"value": "Ada", "by": "unverified"}]


def reads(run: str) -> list[tuple[str, str]]:
    """Every route that tells of a run's questions."""
    response = f"responses/resp_{run}"
    return [
        ("GET", "questions"),
        ("GET", "runs"),
        ("GET", "runs?status=waiting"),
        ("GET", f"runs/{run}"),
        ("GET", f"runs/{run}/events?stream=false"),
        ("GET", response),
    ]


@with_keys
@pytest.mark.parametrize("name", MAY)
async def test_each_route_shows_a_question_to_those_alone_whom_it_is_for(shop, name):
    run = await shop.waiting("customer")
    for method, path in reads(run):
        reply = await shop.call(method, path, key=name)
        assert (SECRET in reply.text) is MAY[name], (path, reply.text)
        if not MAY[name] and name != "stranger" and path != "questions":
            assert "waiting for manager" in reply.text, path


@with_keys
@pytest.mark.parametrize("name", MAY)
async def test_answer_needs_the_role_or_the_name(shop, name):
    run = await shop.waiting("customer")
    body = {"key": "refund", "value": True, "by": "somebody"}
    reply = await shop.call("POST", f"runs/{run}/answer", body, key=name)
    if MAY[name]:
        assert reply.status_code == 200
        assert await shop.answers(run) == [{"value": True, "by": name}]
    elif name == "stranger":
        assert reply.status_code == 404
    else:
        assert reply.status_code == 403
        assert reply.json()["error"]["code"] == "not_addressed"
        assert "is for manager" in reply.json()["error"]["message"]
        assert SECRET not in reply.text
        assert await shop.answers(run) == []


@with_keys
@pytest.mark.parametrize("name", [name for name in MAY if name != "stranger"])
@pytest.mark.parametrize("route", ["chat", "stream", "responses"])
async def test_conversation_asks_and_hears_those_alone_whom_a_question_is_for(shop, name, route):
    """A manager who talks with the run herself is asked there, and answers there."""
    if route == "responses":
        body = {"model": "refund", "input": "money", "conversation": "t"}
        path = "responses"
    else:
        body = {"model": "refund", "messages": [{"role": "user", "content": "money"}]}
        body |= {"metadata": {"thread_id": "t"}, "stream": route == "stream"}
        body |= {"stream_options": {"include_events": True}} if route == "stream" else {}
        path = "chat/completions"
    asked = await shop.call("POST", path, body, key=name)
    assert (SECRET in asked.text, "waiting for manager" in asked.text) == (MAY[name], not MAY[name])
    again = json.loads(json.dumps(body).replace("money", "yes"))
    again["metadata"] = {**again.get("metadata", {}), "when_busy": "reject"}
    told = await shop.call("POST", path, again, key=name)
    run = asked.headers["x-run-id"]
    if MAY[name]:
        assert "refunded" in told.text
        assert await shop.answers(run) == [{"value": True, "by": name}]
    else:
        assert told.status_code == 409
        assert await shop.answers(run) == []


@with_keys
async def test_refusals_tell_nothing_of_what_is_asked(shop):
    run = await shop.waiting("customer", model="both")
    for body in ({"key": "other", "value": 1}, {"key": "name", "value": 7}):
        reply = await shop.call("POST", f"runs/{run}/answer", body, key="customer")
        assert reply.status_code in (400, 409)
        assert SECRET not in reply.text
    wrong = {"key": "refund", "value": "perhaps"}
    assert (await shop.call("POST", f"runs/{run}/answer", wrong, key="eva")).status_code == 400
    events = await shop.call("GET", f"runs/{run}/events?stream=false", key="customer")
    assert SECRET not in events.text


@with_keys
async def test_answer_sent_again_with_its_key_is_the_first_one_for_its_author_alone(shop):
    run = await shop.waiting("customer")
    body, again = {"key": "refund", "value": True}, {"Idempotency-Key": "k"}
    for name, status in (("eva", 200), ("eva", 200), ("customer", 403)):
        reply = await shop.call("POST", f"runs/{run}/answer", body, key=name, **again)
        assert reply.status_code == status
    assert len(await shop.answers(run)) == 1


@with_keys
async def test_questions_are_listed_for_who_may_answer_page_by_page(shop):
    runs = [await shop.waiting("customer", thread=f"t{n}", model="both") for n in range(3)]
    found, before = [], ""
    while True:
        page = (await shop.call("GET", f"questions?limit=2{before}", key="eva")).json()
        found += page["data"]
        if not page["has_more"]:
            break
        before = f"&before={page['data'][-1]['id']}"
    assert [item["run"] for item in found] == [run for run in runs[::-1] for _ in range(2)]
    assert len({item["id"] for item in found}) == 6
    assert {(item["key"], item["to"]) for item in found} == {("refund", "manager"), ("name", None)}
    assert all(item["asked_at"] and item["schema"] for item in found)
    mine = (await shop.call("GET", "questions", key="customer")).json()["data"]
    assert [item["key"] for item in mine] == ["name"] * 3
    assert (await shop.call("GET", "questions", key="stranger")).json()["data"] == []


@with_keys
async def test_answered_question_is_listed_no_more(shop):
    run = await shop.waiting("customer")
    assert len((await shop.call("GET", "questions", key="eva")).json()["data"]) == 1
    await shop.call("POST", f"runs/{run}/answer", {"key": "refund", "value": True}, key="eva")
    assert (await shop.call("GET", "questions", key="eva")).json()["data"] == []


@with_keys
@pytest.mark.parametrize("before", ["r0", "r0:7", ":", "x:y:z"])
async def test_page_behind_nothing_that_was_shown_is_refused(shop, before):
    reply = await shop.call("GET", f"questions?before={before}", key="eva")
    assert reply.status_code in (400, 404)


async def test_official_client_is_told_for_whom_a_response_waits(shop):
    options = {"base_url": BASE, "api_key": "none", "max_retries": 0}
    async with openai.AsyncOpenAI(http_client=shop.client, **options) as client:
        made = await client.responses.create(model="refund", input="money", conversation="t")
        assert made.output_text == "waiting for manager"
        run = made.id.removeprefix("resp_")
        await shop.call("POST", f"runs/{run}/answer", {"key": "refund", "value": False})
        async with asyncio.timeout(20):
            while (await client.responses.retrieve(made.id)).status != "completed":
                await asyncio.sleep(0.01)
            await (await shop.runtime.get(run)).result()
        done = await client.responses.retrieve(made.id)
        assert done.output_text.endswith("kept")
