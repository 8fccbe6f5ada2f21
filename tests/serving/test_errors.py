import json
import urllib.error
import urllib.request

import openai
import pytest

HI = [{"role": "user", "content": "hi"}]


async def test_unknown_model_names_the_near_one(endpoint):
    with pytest.raises(openai.NotFoundError, match="did you mean 'echo'") as caught:
        await endpoint.ask("ecko", "hi")

    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


async def test_wrong_version_of_a_model_is_not_found(endpoint):
    with pytest.raises(openai.NotFoundError):
        await endpoint.client.models.retrieve("echo@2")


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "invalid_value"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", None),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", None),
        ({"messages": HI, "stream": "yes"}, "stream", "invalid_type"),
        ({"messages": HI, "tools": [{"type": "function"}]}, "tools", "invalid_value"),
        (
            {"messages": HI, "model": "telling", "response_format": {"type": "json_object"}},
            "response_format",
            "unsupported_format",
        ),
        ({"messages": HI, "n": 2}, "n", "invalid_value"),
        ({"messages": HI, "metadata": {"thread_id": 7}}, "metadata.thread_id", "invalid_type"),
        ({"messages": HI, "metadata": {"when_busy": "x"}}, "metadata.when_busy", None),
    ],
)
async def test_body_of_the_wrong_shape_is_refused_where_it_is_wrong(endpoint, body, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        await endpoint.client.post(
            "/chat/completions", body={"model": "echo", **body}, cast_to=object
        )

    assert caught.value.param == param
    assert caught.value.code == code
    assert caught.value.type == "invalid_request_error"
    assert await endpoint.runtime.runs() == []


async def test_part_that_is_not_understood_is_refused_by_name(endpoint):
    sound = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    with pytest.raises(openai.BadRequestError, match=r"only parts of text.* 'input_audio'"):
        await endpoint.ask("echo", "", messages=[{"role": "user", "content": [sound]}])


async def test_message_that_is_no_valid_input_is_refused(endpoint):
    with pytest.raises(openai.BadRequestError, match=r"must be a Order as JSON") as caught:
        await endpoint.ask("ordering", '{"item": "tea", "count": "many"}')

    assert caught.value.code == "invalid_input"
    assert await endpoint.runtime.runs() == []


async def test_failed_run_is_an_error_with_its_cause_and_is_not_tried_again(endpoint):
    client = endpoint.client.with_options(max_retries=2)
    with pytest.raises(openai.InternalServerError, match="ValueError: cannot do hi") as caught:
        await client.chat.completions.create(model="failing", messages=HI)

    assert caught.value.code == "run_failed"
    assert len(await endpoint.runtime.runs()) == 1


async def test_failure_in_mid_stream_reaches_the_client(endpoint):
    with pytest.raises(openai.APIError, match="ValueError: cannot do hi") as caught:
        await endpoint.stream("failing", "hi")

    assert caught.value.code == "run_failed"


async def test_busy_thread_is_a_conflict_if_that_is_wanted(endpoint, gate, request):
    in_thread = {"extra_body": {"metadata": {"thread_id": "t", "when_busy": "reject"}}}
    stream = await endpoint.ask("echo", request.node.name, stream=True, **in_thread)

    with pytest.raises(openai.ConflictError) as caught:
        await endpoint.ask("echo", "second", **in_thread)
    assert caught.value.code == "thread_busy"
    gate.set()
    await stream.close()


async def test_cancelled_run_ends_its_stream_with_an_error(endpoint, gate, request):
    stream = await endpoint.ask("echo", request.node.name, stream=True)
    await (await endpoint.run_of(request.node.name)).cancel()

    with pytest.raises(openai.APIError) as caught:
        _ = [chunk async for chunk in stream]
    assert caught.value.code == "run_cancelled"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/chat/completions", b"{", 400, "invalid_json"),
        ("/v1/chat/completions", b"[" * 100_000, 400, "invalid_json"),
        ("/v1/chat/completions", b" " * (5 << 20), 413, "request_too_large"),
        ("/v1/nothing", b"{}", 404, "not_found"),
    ],
)
async def test_raw_request_that_cannot_be_used(endpoint, path, body, status, code):
    import asyncio

    found = await asyncio.to_thread(_post, endpoint.url.removesuffix("/v1") + path, body)

    assert found[0] == status
    assert found[1]["error"]["code"] == code


def _post(url: str, body: bytes) -> tuple[int, dict]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=body, method="POST", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except ConnectionError:
        # The server answered and closed before it had read everything.
        return 413, {"error": {"code": "request_too_large"}}
