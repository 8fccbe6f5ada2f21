"""The Conversations API by its official client: a conversation is a thread."""

import asyncio
from contextlib import asynccontextmanager

import httpx2
import openai
import pytest
from openai.types.conversations import Conversation, ConversationItem, ConversationItemList
from pydantic import TypeAdapter

from crew.config import Settings
from crew.run import Runtime
from serving.app import create_app
from tests.serving.conftest import SERVED

ITEM: TypeAdapter = TypeAdapter(ConversationItem)


async def say(endpoint, conversation, *texts, model="echo"):
    return [
        await endpoint.client.responses.create(model=model, input=text, conversation=conversation)
        for text in texts
    ]


async def messages(endpoint, conversation, **query):
    items = await endpoint.client.conversations.items.list(conversation, **query)
    ConversationItemList.model_validate(
        {"object": "list", **items.to_dict()}, by_alias=True, by_name=True
    )
    return [(item.role, item.content[0].text) for item in items.data]


async def test_new_conversation_is_empty_and_needs_no_storage(endpoint):
    made = await endpoint.client.conversations.create()
    Conversation.model_validate(made.to_dict())

    assert made.id.startswith("conv_")
    assert await endpoint.client.conversations.retrieve(made.id) == made
    assert await messages(endpoint, made.id) == []
    assert await endpoint.runtime.runs() == []


async def test_responses_of_a_conversation_see_each_other(endpoint):
    made = await endpoint.client.conversations.create()
    [_, second] = await say(endpoint, made.id, "first", "second")

    assert second.output_text == "second (2 before)"
    assert second.conversation.id == made.id
    assert await messages(endpoint, made.id, order="asc") == [
        ("user", "first"),
        ("assistant", "first (0 before)"),
        ("user", "second"),
        ("assistant", "second (2 before)"),
    ]


async def test_thread_of_another_door_is_a_conversation_by_its_name(endpoint):
    await endpoint.ask("echo", "hi", extra_body={"conversation": "a/thread of ours"})
    found = await endpoint.client.conversations.retrieve("a/thread of ours")
    [run] = await endpoint.runtime.runs()

    assert found.created_at == int(run.created_at)
    assert await messages(endpoint, "a/thread of ours", limit=1) == [("assistant", "hi (0 before)")]


async def test_items_come_in_pages_the_newest_first(endpoint):
    await say(endpoint, "t1", "a", "b", "c")
    items = await endpoint.client.conversations.items.list("t1", limit=4)
    assert (len(items.data), items.has_more) == (4, True)

    every = [item async for item in items]
    assert [item.content[0].text for item in every if item.role == "user"] == ["c", "b", "a"]
    assert len({item.id for item in every}) == 6


async def test_item_is_found_by_its_id(endpoint):
    await say(endpoint, "t1", "a")
    for item in (await endpoint.client.conversations.items.list("t1")).data:
        found = await endpoint.client.conversations.items.retrieve(item.id, conversation_id="t1")
        ITEM.validate_python(found.to_dict())
        assert found == item
    with pytest.raises(openai.NotFoundError):
        await endpoint.client.conversations.items.retrieve("msg_r1_in", conversation_id="t1")


async def test_turn_without_an_answer_says_so(endpoint):
    await say(endpoint, "t1", "a", model="failing")

    assert await messages(endpoint, "t1") == [
        ("assistant", "(not answered: the run failed)"),
        ("user", "a"),
    ]


async def test_first_response_of_an_empty_conversation_takes_its_history_along(endpoint):
    made = await endpoint.client.conversations.create()
    given = [
        {"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"))
    ]
    [reply] = await say(endpoint, made.id, given, model="remembering")

    assert reply.output_text == "user: a | assistant: b"


async def test_deleted_conversation_is_gone_with_its_runs(endpoint):
    [reply] = await say(endpoint, "t1", "a")
    deleted = await endpoint.client.conversations.delete("t1")

    assert deleted.deleted
    with pytest.raises(openai.NotFoundError):
        await endpoint.client.conversations.retrieve("t1")
    with pytest.raises(openai.NotFoundError):
        await endpoint.client.responses.retrieve(reply.id)


async def test_conversation_in_which_somebody_is_asked_is_not_deleted(endpoint):
    [asked] = await say(endpoint, "t1", "a", model="asking")
    with pytest.raises(openai.ConflictError, match=asked.id) as caught:
        await endpoint.client.conversations.delete("t1")

    assert caught.value.code == "run_not_ended"
    await endpoint.client.responses.cancel(asked.id)
    assert (await endpoint.client.conversations.delete("t1")).deleted


async def test_metadata_is_kept_with_a_conversation_and_changed(opening, tmp_path):
    store = f"sqlite:///{tmp_path}/runs.db"
    async with opening(store) as one, opening(store) as another:
        made = await one.client.conversations.create(metadata={"topic": "tea"})
        found = another.client.conversations
        assert (await found.retrieve(made.id)).metadata == {"topic": "tea"}

        changed = await found.update(made.id, metadata={"topic": "tea", "cups": "2"})
        assert await one.client.conversations.retrieve(made.id) == changed
        assert changed.metadata == {"topic": "tea", "cups": "2"}
        assert (await found.update(made.id, metadata={})).metadata == {}


async def test_thread_of_another_door_may_have_metadata(endpoint):
    await say(endpoint, "t1", "a")
    await endpoint.client.conversations.update("t1", metadata={"topic": "tea"})

    assert (await endpoint.client.conversations.retrieve("t1")).metadata == {"topic": "tea"}
    assert len(await messages(endpoint, "t1")) == 2


async def test_conversation_begins_with_what_was_said_before(endpoint):
    parts = [{"type": "input_text", "text": "a"}]
    given = [
        {"type": "message", "role": "user", "content": parts},
        {"role": "assistant", "content": "b"},
    ]
    made = await endpoint.client.conversations.create(items=given)
    assert await messages(endpoint, made.id, order="asc") == [("user", "a"), ("assistant", "b")]
    assert await endpoint.runtime.runs() == []

    [reply] = await say(endpoint, made.id, "c")
    assert reply.output_text == "c (2 before)"
    items = [item async for item in await endpoint.client.conversations.items.list(made.id)]
    assert [item.content[0].text for item in items] == ["c (2 before)", "c", "b", "a"]
    for item in items:
        ITEM.validate_python(item.to_dict())
        found = endpoint.client.conversations.items.retrieve(item.id, conversation_id=made.id)
        assert await found == item


async def test_deleted_conversation_keeps_nothing_of_how_it_began(endpoint):
    given = [{"role": "user", "content": "a secret"}]
    made = await endpoint.client.conversations.create(items=given, metadata={"a": "b"})
    await endpoint.client.conversations.delete(made.id)

    assert (await endpoint.client.conversations.retrieve(made.id)).metadata == {}
    assert await messages(endpoint, made.id) == []


@pytest.mark.parametrize(
    ("given", "param", "advice"),
    [
        ({"items": [{"role": "system", "content": "a"}]}, "items[0].role", "instructions"),
        ({"items": [{"type": "reasoning", "role": "user"}]}, "items[0].type", "messages alone"),
        ({"items": [{"role": "user", "content": ""}]}, "items[0].content", "at least 1"),
        ({"items": [{"role": "user", "content": "a"}] * 21}, "items", "at most 20"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "16 pairs"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a", "at most 512"),
    ],
)
async def test_how_a_conversation_cannot_begin(endpoint, given, param, advice):
    with pytest.raises(openai.BadRequestError, match=advice) as caught:
        await endpoint.client.conversations.create(**given)
    assert caught.value.param == param


async def test_what_was_said_is_neither_added_to_nor_taken_out(endpoint):
    items, said = endpoint.client.conversations.items, {"role": "user", "content": "a"}
    made = await endpoint.client.conversations.create(items=[said])
    [item] = (await items.list(made.id)).data
    with pytest.raises(openai.BadRequestError, match="POST /v1/responses") as caught:
        await items.create(made.id, items=[said])
    assert caught.value.param == "items"
    with pytest.raises(openai.BadRequestError, match=f"DELETE /v1/conversations/{made.id}"):
        await items.delete(item.id, conversation_id=made.id)


@pytest.mark.parametrize("name", ["unknown", "conv_1", f"conv_{'0' * 48}"])
async def test_unknown_conversation_is_not_found(endpoint, name):
    conversations = endpoint.client.conversations
    for attempt in (
        conversations.retrieve(name),
        conversations.delete(name),
        conversations.update(name, metadata={}),
        conversations.items.list(name),
        conversations.items.retrieve("msg_r1_in", conversation_id=name),
        conversations.items.create(name, items=[]),
        conversations.items.delete("msg_r1_in", conversation_id=name),
    ):
        with pytest.raises(openai.NotFoundError, match=name):
            await attempt


@asynccontextmanager
async def clients_of(*tenants: str):
    """Official clients of one app, each a tenant's."""
    settings = Settings(store=":memory:")
    async with Runtime(workflows=SERVED, settings=settings) as runtime:
        app = create_app(runtime, SERVED, settings=settings)

        async def guarded(scope, receive, send):
            key = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
            await app({**scope, "tenant": key}, receive, send)

        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=guarded)) as http:
            yield [
                openai.AsyncOpenAI(
                    base_url="http://127.0.0.1/v1", api_key=tenant, http_client=http, max_retries=0
                )
                for tenant in tenants
            ]


async def test_tenant_sees_nothing_of_another_ones_responses_and_conversations():
    async with clients_of("a", "b") as (a, b):
        made = await a.conversations.create(metadata={"a": "b"})
        reply = await a.responses.create(model="echo", input="secret", conversation=made.id)
        [item, _] = (await a.conversations.items.list(made.id)).data
        for attempt in (
            b.responses.retrieve(reply.id),
            b.responses.cancel(reply.id),
            b.responses.delete(reply.id),
            b.responses.input_items.list(reply.id),
            b.responses.create(model="echo", input="hi", previous_response_id=reply.id),
            b.conversations.retrieve(made.id),
            b.conversations.update(made.id, metadata={}),
            b.conversations.delete(made.id),
            b.conversations.items.list(made.id),
            b.conversations.items.retrieve(item.id, conversation_id=made.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await attempt
        same_name = await b.responses.create(model="echo", input="hi", conversation=made.id)

    assert same_name.output_text == "hi (0 before)"


async def test_turn_that_comes_while_another_runs_waits_for_it(endpoint, gate, request):
    client = endpoint.client.responses
    in_conversation = {"model": "echo", "conversation": "t1", "background": True}
    first = await client.create(input=request.node.name, **in_conversation)
    second = await client.create(input="second", **in_conversation)
    with pytest.raises(openai.ConflictError):
        await client.create(input="third", metadata={"when_busy": "reject"}, **in_conversation)
    assert (first.conversation.id, second.status) == ("t1", "queued")
    gate.set()

    async with asyncio.timeout(10):
        while (response := await client.retrieve(second.id)).status != "completed":
            await asyncio.sleep(0.02)
    assert response.output_text == "second (2 before)"
