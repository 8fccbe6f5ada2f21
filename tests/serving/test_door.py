"""What front ends send that no client of ours would: ids, nulls, limits, pages, notes."""

import json
import logging

import openai
import pytest

from serving.access.keys import key_of
from tests.serving.raw import request, send
from tests.serving.test_serve_options import serving

FLOW = """
from crew import Context, workflow

@workflow
async def talking(ctx: Context, text: str) -> str:
    ctx.progress("thinking")
    return text
"""
KEYS = [key_of(secret, name=name, tenant="acme") for secret, name in (("a", "ann"), ("b", "bob"))]


def said(*texts: str) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(texts)
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def text_of(reply) -> str:
    return reply.choices[0].message.content


PLACEHOLDERS = [
    *("{{chat_id}}", "{{LIBRECHAT_BODY_CONVERSATIONID}}", "${chatId}", "chat-{{id}}", "<id>"),
    *("undefined", "null", "None", "NaN", "default", "local", "0", "-1", "new", "[object Object]"),
    *("", "00000000-0000-0000-0000-000000000000", "chat_id", "N/A", "$CHAT", ":id", "{id}", "%s%"),
]


@pytest.mark.parametrize("header", ["X-Thread-Id", "X-OpenWebUI-Chat-Id"])
async def test_two_people_with_one_placeholder_share_nothing(endpoint, header):
    for placeholder in PLACEHOLDERS:
        for person in ("ann", "bob"):
            reply = await endpoint.ask("echo", person, extra_headers={header: placeholder})
            assert text_of(reply) == f"{person} (0 before)", placeholder
            assert reply.crew["thread_id"] is None
            assert header in reply.crew["note"]


@pytest.mark.parametrize("header", ["X-Thread-Id", "X-OpenWebUI-Chat-Id"])
async def test_one_id_of_two_callers_is_two_conversations(opening, header):
    async with opening(":memory:", keys=KEYS) as endpoint:
        for name, before in (("a", 0), ("b", 0), ("a", 2), ("b", 2)):
            client = endpoint.client.with_options(api_key=name)
            messages = said(f"of {name}", f"of {name} (0 before)", "more") if before else None
            reply = await client.chat.completions.create(
                model="echo",
                messages=messages or said(f"of {name}"),
                extra_headers={header: "chat-1"},
            )
            assert f"({before} before)" in text_of(reply)
            again = await client.chat.completions.create(
                model="echo", messages=said("x"), extra_headers={"X-Thread-Id": "t"}
            )
            assert again.crew["thread_id"].startswith("t~")


async def test_one_id_of_two_users_of_a_front_end_is_two_conversations(endpoint):
    threads = set()
    for user in ("ann", "bob"):
        headers = {"X-OpenWebUI-Chat-Id": "c-1", "X-OpenWebUI-User-Id": user}
        reply = await endpoint.ask("echo", "my salary", extra_headers=headers)
        assert text_of(reply) == "my salary (0 before)"
        threads.add(reply.crew["thread_id"])
    assert len(threads) == 2


async def test_name_that_an_answer_tells_goes_on_with_its_conversation(opening):
    async with opening(":memory:", keys=KEYS) as endpoint:
        client = endpoint.client.with_options(api_key="a")
        name = "chat-1"
        for before in (0, 2, 4):
            reply = await client.chat.completions.create(
                model="echo", messages=said("hi"), extra_headers={"X-Thread-Id": name}
            )
            assert text_of(reply) == f"hi ({before} before)"
            name = reply.crew["thread_id"]
        made = await client.responses.create(model="echo", input="hi")
        conversation = made.crew["thread_id"]
        reply = await client.chat.completions.create(
            model="echo", messages=said("hi"), extra_headers={"X-Thread-Id": conversation}
        )
        assert text_of(reply) == "hi (2 before)"


@pytest.mark.parametrize(
    "body",
    [
        {"stream": None, "stream_options": None, "n": None, "user": None, "tools": None},
        {"stream": False, "stream_options": {"include_usage": None, "include_events": None}},
        {"metadata": {"thread_id": None, "when_busy": None, "budget_tokens": None}},
        {"conversation": None, "crew": {"progress": None, "on_disconnect": None}, "stop": None},
        {"temperature": None, "max_tokens": None, "response_format": None, "modalities": None},
    ],
)
async def test_null_is_left_out_of_a_chat(endpoint, body):
    assert text_of(await endpoint.ask("echo", "hi", extra_body=body)) == "hi (0 before)"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/responses", {"model": "echo", "input": "x", "stream": None, "background": None}),
        ("/responses", {"model": "echo", "input": "x", "metadata": {"a": None}, "text": None}),
        ("/responses", {"model": "echo", "input": "x", "text": {"format": None}, "store": None}),
        ("/runs", {"workflow": "echo", "input": {"text": "x"}, "when_busy": None}),
        ("/runs", {"workflow": "echo", "input": {"text": "x"}, "budget": {"tokens": None}}),
        ("/conversations", {"items": None, "metadata": None}),
        ("/conversations", {"metadata": {"topic": None}}),
    ],
)
async def test_null_is_left_out_elsewhere(endpoint, path, body):
    assert await endpoint.client.post(path, cast_to=object, body=body)


async def test_limit_that_means_none_is_taken(endpoint):
    for limit in (-1, -2, 0, 0.0, 1000.0, 1e3):
        for name in ("max_tokens", "max_completion_tokens"):
            reply = await endpoint.ask("echo", "hi", extra_body={name: limit})
            assert text_of(reply) == "hi (0 before)"
        more = {"max_output_tokens": limit}
        response = await endpoint.client.responses.create(model="echo", input="x", extra_body=more)
        assert response.output_text == "x (0 before)"


async def test_limit_that_is_none_is_refused(endpoint):
    for limit in (1.5, True, "7"):
        with pytest.raises(openai.BadRequestError, match="max_tokens"):
            await endpoint.ask("echo", "hi", extra_body={"max_tokens": limit})


async def test_what_was_not_read_is_said_and_logged_once(endpoint, caplog):
    messages = [{"role": "system", "content": "Answer in French."}, *said("hi")]
    with caplog.at_level(logging.INFO, "serving"):
        for _ in range(2):
            reply = await endpoint.client.chat.completions.with_raw_response.create(
                model="echo", messages=messages, temperature=0.5, extra_body={"top_kä\n": 3}
            )
    note = reply.parse().crew["note"]
    assert "system message was not read" in note
    assert "temperature, top_kä" in note
    assert "temperature, top_k??" in reply.headers["x-crew-note"]
    assert len([item for item in caplog.records if item.msg == "request.not_read"]) == 2


async def test_stream_tells_in_its_header_what_was_not_read(endpoint):
    async with endpoint.client.chat.completions.with_streaming_response.create(
        model="echo",
        messages=[{"role": "developer", "content": "Be brief."}, *said("hi")],
        stream=True,
    ) as reply:
        assert "system message was not read" in reply.headers["x-crew-note"]


async def test_response_tells_what_was_not_read(endpoint):
    reply = await endpoint.client.responses.with_raw_response.create(
        model="echo", input="hi", temperature=0.5, truncation="auto"
    )
    assert "temperature, truncation" in reply.headers["x-crew-note"]
    assert "temperature, truncation" in reply.parse().crew["note"]


async def test_what_is_read_is_not_noted(endpoint):
    reply = await endpoint.ask("echo", "hi", user="u", n=1, metadata={"a": "b"})
    assert "note" not in reply.crew


@pytest.mark.parametrize("place", ["header", "metadata", "conversation"])
async def test_long_chat_with_a_thread_is_taken(endpoint, place):
    options = {
        "header": {"extra_headers": {"X-Thread-Id": "t"}},
        "metadata": {"extra_body": {"metadata": {"thread_id": "t"}}},
        "conversation": {"extra_body": {"conversation": "t"}},
    }[place]
    messages = said(*["x", "y"] * 501, "now")
    reply = await endpoint.ask("echo", "", messages=messages, **options)
    assert text_of(reply) == "now (1002 before)"
    with pytest.raises(openai.BadRequestError, match="at most 1000"):
        await endpoint.ask("echo", "", messages=messages)


ORIGIN = "https://chat.example.com"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access_Control_Request_Method": "POST",
    "Access_Control_Request_Headers": "authorization,content-type,x-thread-id",
}


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/responses", "/v1/models", "/v1/runs"]
)
async def test_browser_of_an_allowed_origin_may_call(opening, path):
    async with opening(":memory:", cors=[f"{ORIGIN}/"]) as endpoint:
        reply = await send(endpoint.url, request("OPTIONS", path, **PREFLIGHT))
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        assert "x-thread-id" in reply.headers["access-control-allow-headers"]
        assert reply.headers["access-control-allow-credentials"] == "true"


async def test_answers_and_errors_may_be_read_by_an_allowed_origin_alone(opening):
    async with opening(":memory:", cors=[ORIGIN, "http://localhost:3000"]) as endpoint:
        body = json.dumps({"model": "echo", "messages": said("hi")}).encode()
        for sent, status in ((body, 200), (b"{}", 400)):
            raw = request("POST", "/v1/chat/completions", sent, Origin=ORIGIN)
            reply = await send(endpoint.url, raw)
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, ORIGIN)
            assert "X-Run-Id" in reply.headers["access-control-expose-headers"]
        raw = request("POST", "/v1/chat/completions", body, Origin="https://evil.example")
        reply = await send(endpoint.url, raw)
        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers
        told = PREFLIGHT | {"Origin": "https://evil.example"}
        reply = await send(endpoint.url, request("OPTIONS", "/v1/models", **told))
        assert "access-control-allow-origin" not in reply.headers


async def test_no_page_elsewhere_may_call_unless_it_is_allowed(endpoint):
    reply = await send(endpoint.url, request("OPTIONS", "/v1/models", **PREFLIGHT))
    assert reply.status == 405
    assert "access-control-allow-origin" not in reply.headers


async def test_any_origin_may_call_where_keys_are_needed(opening):
    async with opening(":memory:", cors=["*"], keys=KEYS) as endpoint:
        raw = request("GET", "/v1/models", Origin="https://any.example", Authorization="Bearer a")
        reply = await send(endpoint.url, raw)
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "*")
        assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize("origin", ["*", "chat.example.com", "https://a.example/path", "null", ""])
async def test_what_is_no_origin_is_refused(opening, origin):
    from crew.errors import SettingsInvalid

    with pytest.raises(SettingsInvalid, match="--cors"):
        async with opening(":memory:", cors=[origin]):
            pass


async def test_command_line_names_origins_and_shows_no_progress(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    words = ("--cors", ORIGIN, "--cors", "http://b.example", "--no-progress")
    async with serving(tmp_path, *words) as server:
        reply = await send(server.told["url"], request("OPTIONS", "/v1/models", **PREFLIGHT))
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        response = await server.client.responses.create(model="talking", input="hi")
        assert [item.type for item in response.output] == ["message"]
