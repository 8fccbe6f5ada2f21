"""Every OpenAI-shaped route by the official client: the async one, and the sync one in a thread."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio

from crew.config import Settings
from crew.run import Runtime
from serving.access.keys import key_of
from serving.app import create_app, serve_http
from tests.serving.conftest import SERVED, gates

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = [
    key_of("k1", name="k1", tenant="default"),
    *(
        key_of(name, name=name, tenant=name).model_copy(update={"requests_per_minute": 1})
        for name in ("slow-async", "slow-sync")
    ),
]


class Sync:
    """The sync client, called like the async one."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    async def call(self, name: str, *args, **options):
        return await asyncio.to_thread(_method(self.client, name), *args, **options)

    async def items(self, name: str, *args, **options) -> list:
        return await asyncio.to_thread(lambda: list(_method(self.client, name)(*args, **options)))

    def with_options(self, **options) -> "Sync":
        return Sync(self.client.with_options(**options))


class Async:
    """The async client."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.client = client

    async def call(self, name: str, *args, **options):
        return await _method(self.client, name)(*args, **options)

    async def items(self, name: str, *args, **options) -> list:
        found = _method(self.client, name)(*args, **options)
        found = (
            found
            if isinstance(found, AsyncIterator) or hasattr(found, "__aiter__")
            else await found
        )
        return [item async for item in found]

    def with_options(self, **options) -> "Async":
        return Async(self.client.with_options(**options))


def _method(client, name: str):
    for part in name.split("."):
        client = getattr(client, part)
    return client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory):
    """One server for this file: its URL and its runtime."""
    settings = Settings(store=f"sqlite:///{tmp_path_factory.mktemp('client')}/runs.db")
    async with Runtime(workflows=SERVED, settings=settings) as runtime:
        app = create_app(runtime, SERVED, settings=settings, keys=KEYS)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(
            serve_http(app, port=0, api_keys=KEYS, on_ready=ready.set_result)
        )
        yield await ready, runtime
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="module", params=["async", "sync"])
async def client(request, served):
    options = {"base_url": served[0], "api_key": "k1", "max_retries": 0}
    if request.param == "sync":
        with openai.OpenAI(**options) as opened:
            yield Sync(opened)
    else:
        async with openai.AsyncOpenAI(**options) as opened:
            yield Async(opened)


@pytest.fixture
def thread() -> str:
    return f"t-{uuid.uuid4().hex}"


@pytest.fixture
def held():
    """A question that `echo` does not answer until the test ends."""
    text = uuid.uuid4().hex
    gate = gates[text] = asyncio.Event()
    yield text
    gate.set()
    del gates[text]


def said(text: str) -> list:
    return [{"role": "user", "content": text}]


async def test_models(client):
    listed = [model.id for model in await client.items("models.list")]
    model = await client.call("models.retrieve", "echo")

    assert listed == [flow.name for flow in SERVED]
    assert (model.id, model.object, model.owned_by) == ("echo", "model", "crew")


async def test_whole_chat(client, served, thread):
    raw = await client.call(
        "chat.completions.with_raw_response.create",
        model="echo",
        messages=said("hi"),
        metadata={"thread_id": thread},
        user="u1",
        n=1,
    )
    chat = raw.parse()

    assert chat.choices[0].message.content == "hi (0 before)"
    assert raw.headers["x-thread-id"] == thread
    run = await served[1].get(raw.headers["x-run-id"])
    assert chat.id == f"chatcmpl-{run.id}"
    kept = (await run.recorded())[0].data["metadata"]["response"]
    assert kept == {"metadata": {"thread_id": thread}, "user": "u1"}


async def test_streamed_chat(client):
    chunks = await client.items(
        "chat.completions.create",
        model="telling",
        messages=said("hi"),
        stream=True,
        stream_options={"include_usage": True},
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert text == "one two thrée"
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


async def test_whole_response_and_what_may_be_asked_of_it(client):
    made = await client.call("responses.create", model="echo", input="hi", metadata={"a": "b"})
    again = await client.call("responses.retrieve", made.id)
    given = await client.items("responses.input_items.list", made.id)

    assert made.output_text == again.output_text == "hi (0 before)"
    assert again.metadata == {"a": "b"}
    assert [item.content[0].text for item in given] == ["hi"]
    assert await client.call("responses.delete", made.id) is None
    with pytest.raises(openai.NotFoundError):
        await client.call("responses.retrieve", made.id)


async def test_response_goes_on_from_another_one_and_in_its_conversation(client):
    first = await client.call("responses.create", model="echo", input="one")
    second = await client.call(
        "responses.create", model="echo", input="two", previous_response_id=first.id
    )
    third = await client.call(
        "responses.create", model="echo", input="three", conversation=second.conversation.id
    )

    assert third.output_text == "three (4 before)"


async def test_streamed_response_and_its_rest(client):
    events = await client.items("responses.create", model="telling", input="hi", stream=True)
    middle = events[len(events) // 2].sequence_number
    made = events[0].response.id
    rest = await client.items("responses.retrieve", made, stream=True, starting_after=middle)

    assert events[-1].response.output_text == "one two thrée"
    assert rest == [event for event in events if event.sequence_number > middle]


async def test_background_response_is_cancelled(client, held):
    made = await client.call("responses.create", model="echo", input=held, background=True)
    assert made.status in ("queued", "in_progress")

    assert (await client.call("responses.cancel", made.id)).status == "cancelled"


async def test_conversation_and_its_items(client):
    made = await client.call("conversations.create")
    reply = await client.call("responses.create", model="echo", input="hi", conversation=made.id)
    items = await client.items("conversations.items.list", made.id, order="asc")
    one = await client.call("conversations.items.retrieve", items[1].id, conversation_id=made.id)

    assert [item.content[0].text for item in items] == ["hi", reply.output_text]
    assert one == items[1]
    assert (await client.call("conversations.retrieve", made.id)).id == made.id
    assert (await client.call("conversations.delete", made.id)).deleted
    assert await client.items("conversations.items.list", made.id) == []


async def test_conversation_begins_with_items_and_keeps_metadata(client):
    given = [{"type": "message", "role": "user", "content": "before"}]
    made = await client.call("conversations.create", items=given, metadata={"topic": "tea"})
    [item] = await client.items("conversations.items.list", made.id)
    assert (made.metadata, item.content[0].text) == ({"topic": "tea"}, "before")

    await client.call("conversations.update", made.id, metadata={"topic": "coffee"})
    found = await client.call("conversations.retrieve", made.id)
    assert found.metadata == {"topic": "coffee"}


ERRORS = {
    "bad request": (openai.BadRequestError, 400, {"n": 2}, {}),
    "key": (openai.AuthenticationError, 401, {}, {"api_key": "no"}),
    "not found": (openai.NotFoundError, 404, {"model": "ecko"}, {}),
    "failed": (openai.InternalServerError, 500, {"model": "failing"}, {}),
    "budget": (
        openai.RateLimitError,
        429,
        {"model": "greeting", "metadata": {"budget_tokens": "1"}},
        {},
    ),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_error_is_of_the_class_that_says_it(client, name):
    kind, status, body, options = ERRORS[name]
    asked = {"model": "echo", "messages": said("hi")} | body
    with pytest.raises(kind) as caught:
        await client.with_options(**options).call("chat.completions.create", **asked)

    assert caught.value.status_code == status
    assert caught.value.type
    assert caught.value.body["message"] in str(caught.value)


async def test_busy_conversation_is_a_conflict(client, held, thread):
    create = {"model": "echo", "input": held, "conversation": thread}
    await client.call("responses.create", **create, background=True)
    with pytest.raises(openai.ConflictError) as caught:
        await client.call("responses.create", **create, metadata={"when_busy": "reject"})

    assert caught.value.code == "thread_busy"


async def test_page_of_another_origin_is_denied(client, tmp_path, opening):
    async with opening(f"sqlite:///{tmp_path}/runs.db") as unkeyed:
        foreign = client.with_options(
            base_url=unkeyed.url, default_headers={"Origin": "https://evil.example"}
        )
        with pytest.raises(openai.PermissionDeniedError):
            await foreign.call("models.list")


async def test_too_many_requests_say_when_to_come_back(client):
    slow = client.with_options(api_key=f"slow-{type(client).__name__.lower()}")
    await slow.call("models.retrieve", "echo")
    with pytest.raises(openai.RateLimitError) as caught:
        await slow.call("models.retrieve", "echo")

    assert 0 < int(caught.value.response.headers["retry-after"]) <= 60


async def test_time_out_leaves_a_run_that_the_same_key_finds(client, served, held):
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    asked = {"model": "echo", "messages": said(held), "extra_headers": headers}
    hasty = client.with_options(timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        await hasty.call("chat.completions.create", **asked)
    gates[held].set()

    chat = await client.call("chat.completions.create", **asked)
    assert chat.choices[0].message.content == f"{held} (0 before)"
    assert len(await runs_of(served[1], held)) == 1


async def test_clients_own_retries_are_one_run(client, served, held):
    began = time.monotonic()
    patient = client.with_options(timeout=0.4, max_retries=8)
    create = asyncio.create_task(
        patient.call(
            "chat.completions.create",
            model="echo",
            messages=said(held),
            extra_headers={"Idempotency-Key": held},
        )
    )
    while time.monotonic() < began + 0.9:  # it has come again by then
        await asyncio.sleep(0.05)
    gates[held].set()

    assert (await create).choices[0].message.content == f"{held} (0 before)"
    assert len(await runs_of(served[1], held)) == 1


async def test_server_that_is_not_there_is_a_connection_error(client):
    with pytest.raises(openai.APIConnectionError):
        await client.with_options(base_url="http://127.0.0.1:9/v1").call("models.list")


async def runs_of(runtime, text: str) -> list:
    runs = await runtime.runs(limit=100)
    return [run for run in runs if text in str((await run.recorded())[0].data["input"])]
