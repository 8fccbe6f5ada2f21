"""Requests that cannot be used: each is refused at once, in OpenAI's shape, and starts nothing."""

import asyncio
import json
import re

import pytest

from serving.routes import OPERATIONS
from tests.serving.raw import Reply, request, send

CHAT = "/v1/chat/completions"
USER = '{"role": "user", "content": "hi"}'


def chat(field: str = "", *, messages: str = f"[{USER}]", model: str = '"echo"') -> bytes:
    """A chat whose only fault is what is given, as JSON text."""
    return f'{{"model": {model}, "messages": {messages}{field and ", "}{field}}}'.encode()


def said(content: str) -> bytes:
    return chat(messages=f'[{{"role": "user", "content": {content}}}]')


NOT_JSON = {
    "open brace": b"{",
    "open bracket": b"[",
    "lone brace": b"}",
    "single quotes": b"{'model': 'echo'}",
    "bare word": b"echo",
    "bare name": b'{model: "echo"}',
    "trailing comma": b'{"model": "echo",}',
    "comment": b'{"model": "echo"} // hi',
    "two values": b"{} {}",
    "python": b"None",
    "white space": b"  \n ",
    "html": b"<html></html>",
    "form": b"model=echo&messages=hi",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\necho\r\n--x--\r\n',
    "NUL": b"\x00",
    "NUL in a string": b'{"model": "ec\x00ho"}',
    "newline in a string": b'{"model": "ec\nho"}',
    "latin-1": '{"model": "é"}'.encode("latin-1"),
    "utf-16": '{"model": "echo"}'.encode("utf-16"),
    "overlong utf-8": b'{"model": "\xc0\xaf"}',
    "surrogate as utf-8": b'{"model": "\xed\xa0\x80"}',
    "cut utf-8": b'{"model": "\xe2\x82"}',
    "binary": bytes(range(128, 256)),
    "bad escape": b'{"model": "\\x"}',
    "short escape": b'{"model": "\\u12"}',
    "high surrogate": chat(model='"\\ud800"'),
    "low surrogate": said('"\\udc00"'),
    "surrogates in the wrong order": said('"\\udc00\\ud800"'),
    "surrogate as a name": chat('"\\ud83d": 1'),
    "surrogate in metadata": chat('"metadata": {"a": "\\uD800"}'),
    "NaN": chat('"temperature": NaN'),
    "infinity": chat('"temperature": -Infinity'),
    "1e999": chat('"temperature": 1e999'),
    "number of 5,000 digits": chat(f'"seed": {"9" * 5_000}'),
    "leading zero": chat('"n": 01'),
    "hexadecimal": chat('"n": 0x1'),
    "plus sign": chat('"n": +1'),
    "name twice": b'{"model": "echo", "model": "asking", "messages": []}',
    "name twice inside": chat('"metadata": {"a": 1, "a": 2}'),
    "name twice by escape": chat('"metadata": {"a": 1, "\\u0061": 2}'),
    "65 lists": chat(f'"metadata": {{"a": {"[" * 65}{"]" * 65}}}'),
    "1,000 lists": chat(f'"metadata": {{"a": {"[" * 1_000}{"]" * 1_000}}}'),
    "70 objects": b'{"a":' * 70 + b"1" + b"}" * 70,
    "100,000 open lists": b"[" * 100_000,
    "100,000 closed lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 open objects": b'{"a":' * 100_000,
}

MISSHAPEN = {
    "a list": (b"[]", None),
    "a string": (b'"hi"', None),
    "a number": (b"7", None),
    "null": (b"null", None),
    "true": (b"true", None),
    "nothing": (b"{}", "model"),
    "no body": (b"", "model"),
    "no model": (f'{{"messages": [{USER}]}}'.encode(), "model"),
    "no messages": (b'{"model": "echo"}', "messages"),
    "model a number": (chat(model="7"), "model"),
    "model null": (chat(model="null"), "model"),
    "model a list": (chat(model='["echo"]'), "model"),
    "model an object": (chat(model='{"id": "echo"}'), "model"),
    "messages a string": (chat(messages='"hi"'), "messages"),
    "messages an object": (chat(messages=USER), "messages"),
    "messages null": (chat(messages="null"), "messages"),
    "no message": (chat(messages="[]"), "messages"),
    "1,001 messages": (chat(messages=f"[{', '.join([USER] * 1_001)}]"), "messages"),
    "message a string": (chat(messages='["hi"]'), "messages[0]"),
    "message null": (chat(messages="[null]"), "messages[0]"),
    "message a list": (chat(messages="[[]]"), "messages[0]"),
    "no role": (chat(messages='[{"content": "hi"}]'), "messages[0].role"),
    "role null": (chat(messages='[{"role": null, "content": "hi"}]'), "messages[0].role"),
    "role unknown": (chat(messages='[{"role": "king", "content": "hi"}]'), "messages[0].role"),
    "role in capitals": (chat(messages='[{"role": "User", "content": "x"}]'), "messages[0].role"),
    "second message": (chat(messages=f'[{USER}, {{"role": 7}}]'), "messages[1].role"),
    "nobody asks": (chat(messages='[{"role": "system", "content": "hi"}]'), "messages"),
    "content empty": (said('""'), "messages"),
    "content blank": (said('" \\n\\t "'), "messages"),
    "content null": (said("null"), "messages"),
    "content left out": (chat(messages='[{"role": "user"}]'), "messages"),
    "content a number": (said("7"), "messages[0].content"),
    "content true": (said("true"), "messages[0].content"),
    "content an object": (said('{"text": "hi"}'), "messages[0].content"),
    "content an empty list": (said("[]"), "messages"),
    "content of a list": (said("[[]]"), "messages[0].content"),
    "content of strings": (said('["hi"]'), "messages[0].content"),
    "content of a null": (said("[null]"), "messages[0].content"),
    "content an image": (
        said('[{"type": "image_url", "image_url": {"url": "data:"}}]'),
        "messages[0].content",
    ),
    "content audio": (said('[{"type": "input_audio"}]'), "messages[0].content"),
    "text a number": (said('[{"type": "text", "text": 7}]'), "messages[0].content"),
    "text left out": (said('[{"type": "text"}]'), "messages[0].content"),
    "content too long": (said(f'"{"x" * 1_100_000}"'), "messages[0].content"),
    "stream a string": (chat('"stream": "true"'), "stream"),
    "stream a number": (chat('"stream": 1'), "stream"),
    "options a list": (chat('"stream_options": []'), "stream_options"),
    "options true": (chat('"stream_options": true'), "stream_options"),
    "usage a string": (
        chat('"stream_options": {"include_usage": "yes"}'),
        "stream_options.include_usage",
    ),
    "n two": (chat('"n": 2'), "n"),
    "n nothing": (chat('"n": 0'), "n"),
    "n below": (chat('"n": -1'), "n"),
    "n a string": (chat('"n": "1"'), "n"),
    "n half": (chat('"n": 1.5'), "n"),
    "n of 4,000 digits": (chat(f'"n": {"9" * 4_000}'), "n"),
    "tools": (chat('"tools": [{"type": "function"}]'), "tools"),
    "tools an object": (chat('"tools": {}'), "tools"),
    "format unknown": (chat('"response_format": {"type": "grammar"}'), "response_format"),
    "functions": (chat('"functions": [{"name": "f"}]'), "functions"),
    "logprobs": (chat('"logprobs": true'), "logprobs"),
    "audio": (chat('"modalities": ["text", "audio"]'), "modalities"),
    "too warm": (chat('"temperature": 2.1'), "temperature"),
    "seed a word": (chat('"seed": "x"'), "seed"),
    "stop a number": (chat('"stop": [7]'), "stop[0]"),
    "half tokens": (chat('"max_tokens": 1.5'), "max_tokens"),
    "metadata large": (chat(f'"metadata": {{"a": "{"x" * 20_000}"}}'), "metadata"),
    "format schema": (chat('"response_format": {"type": "json_schema"}'), "response_format"),
    "format a string": (chat('"response_format": "text"'), "response_format"),
    "metadata a list": (chat('"metadata": []'), "metadata"),
    "metadata a string": (chat('"metadata": "a"'), "metadata"),
    "thread a number": (chat('"metadata": {"thread_id": 7}'), "metadata.thread_id"),
    "thread a list": (chat('"metadata": {"thread_id": []}'), "metadata.thread_id"),
    "thread empty": (chat('"metadata": {"thread_id": ""}'), "metadata.thread_id"),
    "thread long": (chat(f'"metadata": {{"thread_id": "{"x" * 257}"}}'), "metadata.thread_id"),
    "thread NUL": (chat('"metadata": {"thread_id": "a\\u0000"}'), "metadata.thread_id"),
    "thread newline": (chat('"metadata": {"thread_id": "a\\nb"}'), "metadata.thread_id"),
    "thread bidirectional": (chat('"metadata": {"thread_id": "\\u202e"}'), "metadata.thread_id"),
    "policy": (chat('"metadata": {"when_busy": "x"}'), "metadata.when_busy"),
    "policy a list": (chat('"metadata": {"when_busy": []}'), "metadata.when_busy"),
    "budget nothing": (chat('"metadata": {"budget_tokens": 0}'), "metadata.budget_tokens"),
    "budget below": (chat('"metadata": {"budget_tokens": -5}'), "metadata.budget_tokens"),
    "budget half": (chat('"metadata": {"budget_tokens": 1.5}'), "metadata.budget_tokens"),
    "budget true": (chat('"metadata": {"budget_tokens": true}'), "metadata.budget_tokens"),
    "budget a word": (chat('"metadata": {"budget_tokens": "much"}'), "metadata.budget_tokens"),
    "budget huge": (chat('"metadata": {"budget_tokens": 1e20}'), "metadata.budget_tokens"),
    "budget of 5,000 digits": (
        chat(f'"metadata": {{"budget_tokens": "{"9" * 5_000}"}}'),
        "metadata.budget_tokens",
    ),
    "conversation a number": (chat('"conversation": 7'), "conversation"),
    "conversation empty": (chat('"conversation": ""'), "conversation"),
    "conversation without id": (chat('"conversation": {}'), "conversation"),
    "conversation's id null": (chat('"conversation": {"id": null}'), "conversation"),
    "no order": (chat(messages=f"[{USER}]", model='"ordering"'), "messages"),
    "order without count": (
        chat(
            messages='[{"role": "user", "content": "{\\"item\\": \\"tea\\"}"}]', model='"ordering"'
        ),
        "messages",
    ),
    "order in 9,000 lists": (
        chat(
            messages=f'[{{"role": "user", "content": "{"[" * 9_000}"}}]',
            model='"ordering"',
        ),
        "messages",
    ),
    "order with a half pair": (
        chat(
            messages='[{"role": "user", "content": "{\\"item\\": \\"\\\\ud800\\"}"}]',
            model='"ordering"',
        ),
        "messages",
    ),
}

UNKNOWN_MODELS = [
    "ecko",
    "",
    " ",
    "ECHO",
    "echo@2",
    "crew/",
    "a/b/c",
    "../echo",
    "echo\\u0000",
    "🦜",
]

NO_PATHS = [
    "//",
    "/v1",
    "/v1/",
    "/v2/models",
    "/v1/nothing",
    "/v1/models/",
    "/v1/chat",
    "/v1/chat/completions/",
    "/v1/chat/completions/x",
    "/v1//models",
    "/V1/models",
    "/v1/models/ecko",
    "/v1/models/crew%2Fecko",
    "/v1/models/%00",
    "/v1/models/echo%0d%0aX-A:%20b",
    "/v1/models/%ff%fe",
    "/v1/models/%ed%a0%80",
    "/v1/models/..%2f..%2fetc%2fpasswd",
    "/v1/models/%",
    "/v1/models/" + "x" * 9_000,
    "/v1/models/" + "%2e%2e/" * 500,
    "/healthz/",
    "/readyz/x",
    "/openapi.json/",
    "/openapi.yaml",
    "/.env",
    "/%2e%2e/%2e%2e/etc/passwd",
]

METHODS = [
    (method, path)
    for path, methods in {
        CHAT: ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"],
        "/v1/models": ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
        "/v1/models/echo": ["POST", "PUT", "DELETE", "OPTIONS"],
        "/healthz": ["POST", "DELETE", "OPTIONS"],
        "/readyz": ["POST", "PUT"],
        "/openapi.json": ["POST", "PATCH"],
    }.items()
    for method in methods
]

CONTENT_TYPES = [
    "text/plain",
    "text/html",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/xml",
    "application/octet-stream",
    "application/jsonp",
    "application/json; charset=utf-16",
    "application/json; charset=latin-1",
    "application/json, text/plain",
    "json",
    "*/*",
    ";",
    "application/json\x0b",
]

HEADERS = [
    ({"X_Thread_Id": "x" * 300}, 400, "X-Thread-Id"),
    ({"X_Thread_Id": "\x85"}, 400, "X-Thread-Id"),
    ({"X_Thread_Id": "a\tb"}, 400, "X-Thread-Id"),
    ({"X_OpenWebUI_Chat_Id": "x" * 300}, 400, "X-OpenWebUI-Chat-Id"),
    ({"Idempotency_Key": "x" * 300}, 400, "Idempotency-Key"),
    ({"Idempotency_Key": "a\tb"}, 400, "Idempotency-Key"),
    ({"Idempotency_Key": "\x80"}, 400, "Idempotency-Key"),
    ({"Host": "evil.example"}, 403, None),
    ({"Host": "127.0.0.1.evil.example"}, 403, None),
    ({"Host": "127.0.0.1@evil.example"}, 403, None),
    ({"Host": "[::1"}, 403, None),
    ({"Host": "0.0.0.0"}, 403, None),
    ({"Host": "2130706433"}, 403, None),
    ({"Host": "é"}, 403, None),
    ({"Host": "x" * 5_000}, 403, None),
    ({"Host": ""}, 403, None),
    ({"Origin": "https://evil.example"}, 403, None),
    ({"Origin": "null"}, 403, None),
    ({"Origin": "http://localhost.evil.example"}, 403, None),
    ({"Origin": "http://[::1"}, 403, None),
    ({"Origin": "file:///etc"}, 403, None),
]

RAW = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET /v1/models HTTP/9.9\r\n\r\n",
    "method unknown": b"FETCH /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "method in small letters": b"get /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "path with a space": b"GET /v1/mod els HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "path without a slash": b"GET v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "path in utf-8": "GET /v1/é HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(),
    "path of 70,000 bytes": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "header without a colon": b"GET /v1/models HTTP/1.1\r\nHost\r\n\r\n",
    "header without a name": b"GET /v1/models HTTP/1.1\r\n: x\r\n\r\n",
    "space before the colon": b"GET /v1/models HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
    "NUL in a header": b"GET /v1/models HTTP/1.1\r\nHost: 127\x00.0.0.1\r\n\r\n",
    "header of 100,000 bytes": b"GET /v1/models HTTP/1.1\r\nX: " + b"x" * 100_000,
    "9,000 headers": b"GET /v1/models HTTP/1.1\r\n" + b"X-A: b\r\n" * 9_000,
    "length a word": b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    "length below zero": b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "length of 40 digits": b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
    ),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "chunk without a length": (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"
    ),
}

KEYLESS = [
    "",
    "k1",
    "Bearer",
    "Bearer ",
    "Bearer k2",
    "Bearer k1 k1",
    "Bearer k1,k1",
    "Bearer K1",
    "BearerÂ k1",
    "Basic azE6",
    "Token k1",
    "Bearer \x80\xff",
    "Bearer " + "x" * 50_000,
    "Bearer 67bd8e0f9ea5d3c8b7f5b1bb5e2d6a7a0f0b3f6e6f7b4a4f9d5d0b5c2f3e1a7b",
    "bearer\tk1",
    "'; DROP TABLE runs; --",
]


def table():
    """Each: its name, its bytes, and the status, the place and the code that are due.

    A status may be one of several, and what is `...` may be anything.
    """
    for name, body in NOT_JSON.items():
        yield name, request("POST", CHAT, body), 400, None, "invalid_json"
    for name, (body, param) in MISSHAPEN.items():
        yield name, request("POST", CHAT, body), 400, param, ...
    for model in UNKNOWN_MODELS:
        body = chat(model=f'"{model}"')
        yield f"model {model}", request("POST", CHAT, body), 404, "model", "model_not_found"
    for path in NO_PATHS:
        yield f"path {path:.40}", request("GET", path), 404, ..., ...
    for method, path in METHODS:
        yield f"{method} {path}", request(method, path), 405, None, "method_not_allowed"
    for kind in CONTENT_TYPES:
        raw = request("POST", CHAT, chat(), Content_Type=kind)
        yield f"type {kind}", raw, (400, 415), None, ...
    for headers, status, param in HEADERS:
        raw = request("POST", CHAT, chat(), **headers)
        yield f"{headers!r:.60}", raw, (status, 400), param, ...
    for name, raw in RAW.items():
        yield name, raw, (400, 403, 404, 431), None, ...
    for host in ("[::1", "a:b:c", "127.0.0.1:x"):
        for method, path, status in (("GET", "/v1/x", 404), ("PUT", "/v1/models", 405)):
            yield f"{method} {host}", request(method, path, Host=host), status, None, ...
    large = request("POST", CHAT, b'{"model": "' + b"x" * (5 << 20))
    yield "5 MiB", large, 413, None, "request_too_large"


def everywhere():
    """What no operation may take, whichever there are."""
    for item in OPERATIONS:
        path = re.sub(r"\{.*?\}", "nosuch", item.path)
        what = f"{item.method} {path}"
        yield f"no method {what}", request("PURGE", path), 405, None, "method_not_allowed"
        if "{" in item.path:
            yield f"no id {what}", request(item.method, path), (400, 404), ..., ...
            for garbage in ("%00", "%ff", "..%2f..", "%F0%9F%A6%9C", "'--", "x" * 3_000):
                bad = re.sub(r"\{.*?\}", garbage, item.path)
                yield f"{garbage:.9} {what}", request(item.method, bad), (400, 404), ..., ...
        if not item.public:
            raw = request(item.method, path, Host="evil.example")
            yield f"host {what}", raw, 403, None, "host_not_allowed"
        if item.body is not None:
            for name in ("open brace", "NUL", "a high surrogate", "100,000 open lists"):
                body = NOT_JSON.get(name, b'{"a": "\\ud800"}')
                raw = request(item.method, path, body)
                yield f"{name} {what}", raw, (400, 404), ..., ...
            raw = request(item.method, path, b"{}", Content_Type="text/plain")
            yield f"type {what}", raw, 415, None, "unsupported_media_type"
        for name in item.query.model_fields if item.query is not None else ():
            raw = request(item.method, f"{path}?{name}=%00")
            yield f"query {name} {what}", raw, (400, 404), ..., ...


def problem(reply: Reply, method: str, status, param, code) -> str:
    """Say what is wrong with a refusal; nothing if it is right."""
    if reply.status not in (status if isinstance(status, tuple) else (status,)):
        return f"{reply.status} {reply.body[:200]!r}"
    if method == "HEAD":
        return "" if not reply.body else "a body"
    error = reply.error
    if set(error) != {"message", "type", "param", "code"} or not error["message"]:
        return f"not OpenAI's shape: {error}"
    if not isinstance(error["type"], str) or b"Traceback" in reply.body:
        return f"no type, or too much: {reply.body[:200]!r}"
    if (param, code) != (
        param if param is ... else error["param"],
        code if code is ... else error["code"],
    ):
        return f"another place or code: {error}"
    if reply.status == 405 and not reply.headers.get("allow"):
        return "no Allow"
    return ""


async def problems_of(url: str, cases) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, raw, *due in cases:
        try:
            reply = await send(url, raw)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            found[name] = repr(error)
            continue
        if told := problem(reply, raw.split(b" ")[0].decode("latin-1"), *due):
            found[name] = told
    return found


async def test_every_bad_request_is_refused_at_once_in_openais_shape(endpoint):
    cases = list(table())

    assert len(cases) > 250
    assert await problems_of(endpoint.url, cases) == {}
    assert await endpoint.runtime.runs() == []


async def test_no_operation_takes_what_none_may_take(endpoint):
    assert await problems_of(endpoint.url, everywhere()) == {}
    assert await endpoint.runtime.runs() == []


async def test_wrong_key_is_refused_by_every_operation_that_needs_one(opening):
    async with opening(":memory:", api_keys=["k1"]) as endpoint:
        cases = [
            (f"{sent!r:.30} {item.method} {item.path}", item, sent)
            for item in OPERATIONS
            for sent in KEYLESS
            if not item.public
        ]
        requests = [
            (name, request(item.method, item.path, Authorization=sent), (401, 400), None, ...)
            for name, item, sent in cases
        ]
        hostile = request("GET", "/v1/models/nosuch", Host="[::1", Authorization="Bearer k1")
        requests.append(("host", hostile, 404, "model", ...))
        assert len(requests) > 40
        assert await problems_of(endpoint.url, requests) == {}


async def test_head_that_does_not_arrive_ends_the_connection(endpoint, monkeypatch):
    monkeypatch.setattr("serving.http.protocol.HEAD_SECONDS", 0.1)
    for part in (b"", b"GET /v1/models HTTP/1.1\r\nHost: 127"):
        reply = await send(endpoint.url, part)
        assert (reply.status, reply.error["code"]) == (408, "invalid_http")


async def test_body_that_does_not_arrive_ends_the_request(endpoint, monkeypatch):
    monkeypatch.setattr("serving.http.body.BODY_SECONDS", 0.1)
    reply = await send(endpoint.url, request("POST", CHAT, chat())[:-5])

    assert (reply.status, reply.error["code"]) == (408, "request_timeout")


async def test_body_that_is_cut_off_starts_nothing(endpoint):
    host, port = endpoint.url.split("/")[2].split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(request("POST", CHAT, chat())[:-5])
    writer.close()
    await writer.wait_closed()

    assert (await send(endpoint.url, request("GET", "/healthz"))).status == 200
    assert await endpoint.runtime.runs() == []


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ('"a\\u0000b"', "a\0b (0 before)"),
        ('"\\ud83e\\udd9c"', "🦜 (0 before)"),
        (f'"{"x" * 900_000}"', f"{'x' * 900_000} (0 before)"),
        ('[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]', "a\nb (0 before)"),
    ],
)
async def test_unusual_text_is_answered(endpoint, content, answer):
    reply = await send(endpoint.url, request("POST", CHAT, said(content)))

    assert reply.status == 200
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == answer


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=UTF-8", ""])
async def test_json_is_known_by_its_content_type(endpoint, kind):
    reply = await send(endpoint.url, request("POST", CHAT, chat(), Content_Type=kind))

    assert reply.status == 200


async def test_method_that_a_path_does_not_know_is_told_those_it_knows(endpoint):
    reply = await send(endpoint.url, request("DELETE", "/v1/models"))

    assert reply.headers["allow"] == "GET, HEAD"
    assert "this path knows GET, HEAD" in reply.error["message"]
