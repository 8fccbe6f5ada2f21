"""Two tenants of one endpoint: whatever one of them asks for, nothing of the other's comes back."""

import asyncio
import json
import re
from dataclasses import dataclass

import openai
import pytest

from serving.access.keys import key_of
from serving.http.operation import Operation
from serving.routes import OPERATIONS
from tests.serving.raw import request, send

KEYS = [key_of(name, name=name, tenant=name) for name in ("acme", "other")]


@dataclass(frozen=True)
class Belongings:
    """What one tenant has: its runs, its threads, and the words that only it may read."""

    runs: tuple[str, ...]
    threads: tuple[str, ...]
    secret: str

    @property
    def fills(self) -> dict[str, tuple[str, ...]]:
        """What each placeholder may be filled with to mean something of this tenant's."""
        responses = tuple(f"resp_{run}" for run in self.runs)
        items = tuple(f"msg_{run}_{place}" for run in self.runs for place in (0, 1))
        return {
            "run": self.runs,
            "response": responses,
            "conversation": self.threads,
            "thread": self.threads,
            "model": (*self.runs, *self.threads),
            "item": items,
        }


BODIES = {
    "/v1/chat/completions": [
        {"model": "echo", "messages": [{"role": "user", "content": "hello"}], **where}
        for where in (
            {"conversation": "<thread>"},
            {"metadata": {"thread_id": "<thread>"}},
            {"metadata": {"thread_id": "<thread>"}, "stream": True},
        )
    ],
    "/v1/responses": [
        {"model": "echo", "input": "hello", **where}
        for where in (
            {"conversation": "<thread>"},
            {"previous_response_id": "<response>"},
            {"previous_response_id": "<response>", "stream": True},
        )
    ],
    "/v1/runs": [{"workflow": "echo", "input": {"text": "hello"}, "thread": "<thread>"}],
    "/v1/runs/{run}/answer": [{"key": "refund", "value": True}],
}
"""Bodies that are as they must be, of the operations that need more than `{}`."""

REFUSING = {"/v1/conversations/{conversation:path}/items"}
"""Operations that take no body whatever."""

QUERIES = {"thread": "<thread>", "before": "<run>", "after": "<run>", "stream": "false"}
"""What the fields of a query may name."""


@pytest.fixture
async def shared(opening, tmp_path):
    async with opening(f"sqlite:///{tmp_path}/runs.db", keys=KEYS) as endpoint:
        yield endpoint


async def furnished(endpoint, name: str) -> Belongings:
    """Give a tenant a thread with two turns, an open question and a failure."""
    client, secret = endpoint.client.with_options(api_key=name), f"words-of-{name}"
    create = client.chat.completions.create
    on = {"extra_body": {"metadata": {"thread_id": f"thread-of-{name}"}}}
    asked = {"extra_body": {"metadata": {"thread_id": f"question-of-{name}"}}}
    say = {"messages": [{"role": "user", "content": secret}]}
    await create(model="echo", **say, **on)
    await create(model="echo", **say, **on, extra_headers={"Idempotency-Key": "same"})
    await create(model="asking", **say, **asked)
    with pytest.raises(openai.InternalServerError):
        await create(model="failing", **say)
    runs = await endpoint.runtime.of(name).runs()
    threads = (f"thread-of-{name}", f"question-of-{name}")
    return Belongings(tuple(run.id for run in runs), threads, secret)


def filled(text: str, fills: dict[str, tuple[str, ...]]) -> list[str]:
    """Every text that one with placeholders makes, with all of its places of one name alike."""
    found = re.search(r"<(\w+)>", text)
    if found is None:
        return [text]
    assert found[1] in fills, f"say in Belongings.fills what a {found[1]!r} may be"
    return [
        done for value in fills[found[1]] for done in filled(text.replace(found[0], value), fills)
    ]


def requests_of(item: Operation, fills: dict[str, tuple[str, ...]], token: str):
    """Every request of an operation that names something of the tenant whose `fills` they are."""
    path = re.sub(r"\{(\w+)(:\w+)?\}", r"<\1>", item.path)
    known = item.query.model_fields if item.query is not None else ()
    query = "&".join(f"{name}={value}" for name, value in QUERIES.items() if name in known)
    headers = {"Authorization": f"Bearer {token}"}
    for body in BODIES.get(item.path, [{}]) if item.method == "POST" else [None]:
        text = "" if body is None else json.dumps(body)
        for target in {path, f"{path}?{query}" if query else path}:
            for line in filled(f"{target} {text}", fills):
                place, _, said = line.partition(" ")
                yield request(item.method, place, said.encode(), **headers)


async def state_of(endpoint, name: str, mine: Belongings) -> list[object]:
    """Everything that there is of a tenant's first belongings."""
    tenant = endpoint.runtime.of(name)
    runs = [await tenant.get(run) for run in mine.runs]
    recorded = [(run.id, await run.status(), await run.recorded()) for run in runs]
    return [*recorded, *[(await tenant.thread(thread)).messages for thread in mine.threads]]


def leak(reply: bytes, asked: bytes, theirs: Belongings) -> str:
    """What of another tenant a reply holds, besides names that the request gave."""
    for word in (theirs.secret, *theirs.runs):
        if word.encode() in reply and word.encode() not in asked:
            return word
    return ""


async def test_no_operation_shows_or_changes_anything_of_another_tenant(shared):
    acme, other = await furnished(shared, "acme"), await furnished(shared, "other")
    for name, token, theirs in (("acme", "other", acme), ("other", "acme", other)):
        before = await state_of(shared, name, theirs)
        statuses: dict[str, set[int]] = {}
        for item in OPERATIONS:
            for raw in requests_of(item, theirs.fills, token):
                reply = await send(shared.url, raw)
                assert leak(reply.body, raw, theirs) == "", raw
                assert reply.status < 500 or item.path == "/metrics", (raw, reply.body)
                statuses.setdefault(f"{item.method} {item.path}", set()).add(reply.status)
        assert await state_of(shared, name, theirs) == before
        of_runs = {what: seen for what, seen in statuses.items() if re.search("{(run|resp)", what)}
        # A query that the operation reads otherwise is a 400.
        assert {w: seen for w, seen in of_runs.items() if not {404} <= seen <= {400, 404}} == {}


async def test_every_operation_is_asked_with_a_body_that_it_reads(shared):
    """Else a refusal of the body would pass for a refusal of another's id."""
    mine = await furnished(shared, "acme")
    for item in OPERATIONS:
        if item.body is not None and item.path not in REFUSING:
            asked = requests_of(item, mine.fills, "acme")
            statuses = {(await send(shared.url, raw)).status for raw in asked}
            assert statuses - {400, 415}, f"give {item.method} {item.path} a body in BODIES"


async def test_threads_of_one_name_stay_apart(shared):
    told = [
        await shared.client.with_options(api_key=key).chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": f"I am {key}"}],
            extra_body={"metadata": {"thread_id": "same"}},
        )
        for key in ("acme", "other", "acme")
    ]
    assert [one.choices[0].message.content for one in told] == [
        "I am acme (0 before)",
        "I am other (0 before)",
        "I am acme (2 before)",
    ]


STARTING = {item.path: BODIES[item.path][0] for item in OPERATIONS if item.path in BODIES}


@pytest.mark.parametrize("path", [path for path in STARTING if "{" not in path])
async def test_idempotency_keys_of_one_name_stay_apart(shared, path):
    body = json.dumps(STARTING[path]).encode()
    for token in ("acme", "acme", "other"):
        heads = {"Authorization": f"Bearer {token}", "Idempotency_Key": "same"}
        reply = await send(shared.url, request("POST", path, body, **heads))
        assert reply.status < 300, reply.body

    [mine] = await shared.runtime.of("acme").runs()
    [theirs] = await shared.runtime.of("other").runs()
    assert mine.id != theirs.id


async def test_open_question_is_not_answered_by_another_tenant(shared):
    acme = await furnished(shared, "acme")
    reply = await shared.client.with_options(api_key="other").chat.completions.create(
        model="asking",
        messages=[{"role": "user", "content": "yes"}],
        extra_body={"metadata": {"thread_id": "question-of-acme"}},
    )

    assert reply.crew["status"] == "waiting"
    assert reply.crew["run_id"] not in acme.runs
    assert len(await shared.runtime.of("acme").runs(status="waiting")) == 1


async def test_open_runs_of_one_tenant_do_not_count_for_another(opening, tmp_path):
    keys = [key.model_copy(update={"open_runs": 1}) for key in KEYS]
    async with opening(f"sqlite:///{tmp_path}/runs.db", keys=keys) as endpoint:
        asked = [
            endpoint.client.with_options(api_key=name).chat.completions.create(
                model="asking", messages=[{"role": "user", "content": "refund"}]
            )
            for name in ("acme", "other")
        ]
        told = await asyncio.gather(*asked)
        assert [one.crew["status"] for one in told] == ["waiting", "waiting"]
