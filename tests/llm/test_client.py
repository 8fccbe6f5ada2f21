"""What a user's endpoint can do to us, and what the user is told."""

import asyncio
import json
import pickle
from dataclasses import replace

import openai
import pytest

from crew.errors import ModelError
from crew.llm import ModelRequest, ToolSpec
from crew.llm.bucket import turn_at
from crew.llm.client import OpenAIModel
from crew.llm.wire import INVALID_ARGUMENTS, prompt_text
from crew.message import Message, ToolCall, Usage

ASK = ModelRequest((Message("system", "Be brief."), Message("user", "Hello?")))
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SEARCH = ToolSpec("search", "Finds.", {"type": "object", "properties": {"q": {"type": "string"}}})


@pytest.fixture(params=[False, True], ids=["httpx2", "aiohttp"])
def by_aiohttp(request):
    return request.param


@pytest.fixture
async def model(endpoint, by_aiohttp):
    model = OpenAIModel(
        "big-1",
        base_url=endpoint.base_url,
        api_key="k-123",
        max_attempts=3,
        will_close=by_aiohttp,
    )
    yield model
    await model.close()


async def test_a_reply_carries_text_usage_and_the_endpoints_model_id(model, endpoint, says):
    endpoint.answers = [says("Hi.")]
    reply = await model.complete(ASK)
    assert (reply.text, reply.model, reply.finish_reason) == ("Hi.", "big-1", "stop")
    assert reply.usage == Usage(input_tokens=9, output_tokens=2, cached_tokens=4, calls=1)
    assert "stream" not in endpoint.requests[0]
    assert endpoint.headers[0]["authorization"] == "Bearer k-123"


async def test_text_streams_piece_by_piece_and_adds_up(model, endpoint, streams):
    endpoint.answers = [streams({"role": "assistant"}, {"content": "Hel"}, {"content": "lo"})]
    pieces: list[str] = []
    reply = await model.complete(ASK, on_text=pieces.append)
    assert pieces == ["Hel", "lo"]
    assert (reply.text, reply.usage.input_tokens) == ("Hello", 9)
    assert endpoint.requests[0]["stream_options"] == {"include_usage": True}


async def test_tools_go_out_and_their_calls_come_back(model, endpoint, says):
    function = {"name": "search", "arguments": '{"q": "cats"}'}
    endpoint.answers = [says("", tool_calls=[{"id": "a", "function": function}])]
    history = (Message("assistant", tool_calls=(ToolCall("search", {"q": "x"}, "0"),)),)
    reply = await model.complete(
        ModelRequest((*ASK.messages, *history, Message("tool", "y", tool_call_id="0")), (SEARCH,))
    )
    assert reply.tool_calls == (ToolCall("search", {"q": "cats"}, "a"),)
    sent = endpoint.requests[0]
    assert sent["tools"][0]["function"]["name"] == "search"
    assert sent["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"q": "x"}'
    assert sent["messages"][3]["tool_call_id"] == "0"


async def test_tool_calls_are_put_together_from_a_stream(model, endpoint, streams):
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "search", "arguments": '{"q"'}},
        {"index": 1, "id": "b", "function": {"name": "search", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": ': "cats"}'}},
    ]
    endpoint.answers = [streams(*({"tool_calls": [piece]} for piece in pieces))]
    reply = await model.complete(ASK, on_text=lambda _: None)
    assert reply.tool_calls == (ToolCall("search", {"q": "cats"}, "a"), ToolCall("search", {}, "b"))


@pytest.mark.parametrize("written", ['{"q": ', "[1]"])
async def test_arguments_that_are_no_object_come_back_as_written(model, endpoint, says, written):
    call = {"id": "a", "function": {"name": "search", "arguments": written}}
    endpoint.answers = [says("", tool_calls=[call])]
    reply = await model.complete(ASK)
    assert reply.tool_calls[0].arguments == {INVALID_ARGUMENTS: written}


async def test_a_schema_becomes_a_response_format(model, endpoint, says):
    endpoint.answers = [says('{"n": 1}')]
    await model.complete(ModelRequest(ASK.messages, schema=SCHEMA))
    format_ = endpoint.requests[0]["response_format"]
    assert format_["json_schema"] == {"name": "output", "schema": SCHEMA, "strict": False}


async def test_an_endpoint_without_grammar_is_asked_in_words_from_then_on(
    model, endpoint, says, refuses
):
    endpoint.answers = [
        refuses(400, "unknown field response_format"),
        says('```json\n{"n": 1}\n```'),
        says('{"n": 2}'),
    ]
    request = ModelRequest(ASK.messages, schema=SCHEMA)
    assert (await model.complete(request)).text == '{"n": 1}'
    assert (await model.complete(request)).text == '{"n": 2}'
    assert len(endpoint.requests) == 3
    assert "response_format" not in endpoint.requests[2]
    assert json.dumps(SCHEMA) in endpoint.requests[2]["messages"][0]["content"]


async def test_a_longer_conversation_begins_with_the_bytes_of_the_shorter(model, endpoint, says):
    endpoint.answers = [says("a"), says("b")]
    await model.complete(ASK)
    await model.complete(ModelRequest((*ASK.messages, Message("user", "More?"))))
    first, second = (json.dumps(request["messages"]) for request in endpoint.requests)
    assert second.startswith(first.removesuffix("]"))


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_passing_failure_is_tried_again(model, endpoint, says, refuses, status):
    endpoint.answers = [refuses(status, retry_after="0"), says("Hi.")]
    assert (await model.complete(ASK)).text == "Hi."


async def test_retry_after_is_honoured(model, endpoint, says, refuses):
    endpoint.answers = [refuses(429, retry_after="1"), says("Hi.")]
    started = asyncio.get_running_loop().time()
    await model.complete(ASK)
    assert 0.95 < asyncio.get_running_loop().time() - started < 3


async def test_retry_after_holds_up_all_who_ask_the_endpoint(endpoint, says, refuses):
    rate = {"requests_per_second": 100.0}
    one, other = (OpenAIModel("big-1", base_url=endpoint.base_url, **rate) for _ in range(2))
    endpoint.answers = [refuses(429, retry_after="1"), says("Hi."), says("Hi.")]
    answer, loop, held = asyncio.ensure_future(one.complete(ASK)), asyncio.get_running_loop(), 0.0
    while held < 0.3 and not answer.done():
        started = loop.time()
        await turn_at(other)
        held = loop.time() - started
    assert held >= 0.3
    assert (await answer).text == "Hi."
    for each in (one, other):
        await each.close()


@pytest.mark.parametrize("date", ["Wed, 21 Oct 2015 07:28:00 GMT", "soon"])
async def test_a_date_to_retry_after_is_understood(model, endpoint, says, refuses, date):
    endpoint.answers = [refuses(503, retry_after=date), says("Hi.")]
    assert (await model.complete(ASK)).text == "Hi."


@pytest.mark.parametrize(
    ("status", "hint"), [(400, "odd"), (401, "CREW_API_KEY"), (403, "KEY"), (501, "BASE_URL")]
)
async def test_a_mistake_of_ours_is_not_tried_again(model, endpoint, refuses, status, hint):
    endpoint.answers = [refuses(status, "odd")]
    with pytest.raises(ModelError, match=hint) as caught:
        await model.complete(ASK)
    assert caught.value.status == status
    assert len(endpoint.requests) == 1


async def test_a_request_too_long_for_the_endpoint_says_what_to_shorten(model, endpoint, refuses):
    endpoint.answers = [refuses(400, "This model's maximum context length is 4096 tokens")]
    with pytest.raises(ModelError, match="4096 tokens; shorten the thread"):
        await model.complete(ASK)


@pytest.mark.parametrize(("status", "hint"), [(429, "quota"), (502, "log")])
async def test_a_lasting_failure_ends_after_the_attempts(model, endpoint, refuses, status, hint):
    endpoint.answers = [refuses(status, retry_after="0") for _ in range(3)]
    with pytest.raises(ModelError, match=hint) as caught:
        await model.complete(ASK)
    assert (caught.value.status, len(endpoint.requests)) == (status, 3)


async def test_an_unknown_model_is_told_which_there_are(model, endpoint, refuses):
    endpoint.answers = [refuses(404, "model not found")]
    with pytest.raises(ModelError, match=r"offers big-1, small-1; set CREW_MODEL"):
        await model.complete(ASK)


async def test_an_unreachable_endpoint_is_named_with_the_way_to_check_it(by_aiohttp):
    model = OpenAIModel(
        "m", base_url="http://127.0.0.1:9/v1", max_attempts=1, will_close=by_aiohttp
    )
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9/v1 .*CREW_BASE_URL.*curl") as caught:
        await model.complete(ASK)
    assert caught.value.status is None
    assert "\n" not in str(caught.value)
    await model.close()


async def test_an_endpoint_that_says_nothing_times_out(endpoint, answers, by_aiohttp):
    endpoint.answers = [answers(headers={"content-length": "9"}, body="{", hang=True)]
    model = OpenAIModel(
        "m", base_url=endpoint.base_url, timeout=0.2, max_attempts=1, will_close=by_aiohttp
    )
    with pytest.raises(ModelError, match="in time"):
        await model.complete(ASK)
    await model.close()


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("<html>", "not JSON"),
        ({"choices": []}, "without choices"),
        ({"hello": 1}, "without choices"),
        ({"error": {"message": "x"}}, "with an error"),
    ],
)
async def test_a_reply_that_is_none_says_what_came(model, endpoint, answers, body, hint):
    endpoint.answers = [answers(body=body)]
    with pytest.raises(ModelError, match=hint):
        await model.complete(ASK)


async def test_a_stream_that_broke_is_tried_again_only_while_nothing_was_told(
    model, endpoint, streams
):
    broken = streams({"role": "assistant"}, end=False, cut=True)
    endpoint.answers = [broken, streams({"content": "Hi."})]
    pieces: list[str] = []
    await model.complete(ASK, on_text=pieces.append)
    endpoint.answers = [streams({"content": "Hal"}, end=False, cut=True)]
    with pytest.raises(ModelError) as caught:
        await model.complete(ASK, on_text=pieces.append)
    assert pieces == ["Hi.", "Hal"]
    assert caught.value.broke_off


async def test_a_stream_without_an_end_is_an_error(model, endpoint, streams):
    endpoint.answers = [streams({"content": "Hal"}, end=False)]
    with pytest.raises(ModelError, match="before its end"):
        await model.complete(ASK, on_text=lambda _: None)


async def test_an_endpoint_that_cannot_stream_is_understood(model, endpoint, says):
    endpoint.answers = [says("Hi.")]
    pieces: list[str] = []
    assert (await model.complete(ASK, on_text=pieces.append)).text == "Hi."
    assert pieces == ["Hi."]


@pytest.mark.parametrize("stream", [True, False])
async def test_cancelling_closes_the_request_at_the_endpoint(
    model, endpoint, streams, answers, stream
):
    silent = answers(headers={"content-length": "9"}, body="{", hang=True)
    endpoint.answers = [streams({"content": "a"}, end=False, hang=True) if stream else silent]
    task = asyncio.create_task(model.complete(ASK, on_text=(lambda _: None) if stream else None))
    while not endpoint.requests:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(endpoint.gone.wait(), 1)


async def test_without_a_model_the_first_on_offer_is_taken(endpoint, says):
    endpoint.answers = [says("a"), says("b")]
    model = OpenAIModel("", base_url=endpoint.base_url)
    await model.complete(ASK)
    endpoint.models = []
    await model.complete(ASK)
    assert [request["model"] for request in endpoint.requests] == ["big-1", "big-1"]
    assert model.name == "big-1"
    await model.close()


async def test_without_a_model_and_none_on_offer_the_user_is_told(endpoint):
    endpoint.models = []
    model = OpenAIModel("", base_url=endpoint.base_url)
    with pytest.raises(ModelError, match="offers no model"):
        await model.complete(ASK)
    await model.close()


@pytest.mark.parametrize(
    ("session", "sent"), [("t1/a", "t1/a"), ("東\n京", "%E6%9D%B1%0A%E4%BA%AC")]
)
async def test_a_session_is_named_to_the_router(model, endpoint, says, session, sent):
    endpoint.answers = [says("a"), says("b")]
    await model.complete(ModelRequest(ASK.messages, session=session))
    await model.complete(ASK)
    assert endpoint.headers[0]["x-session-id"] == sent
    assert "x-session-id" not in endpoint.headers[1]


@pytest.mark.parametrize(("owner", "sent"), [("vllm", "s1"), ("somebody", None)])
async def test_a_cache_salt_is_sent_to_vllm_alone(model, endpoint, says, owner, sent):
    endpoint.owner, endpoint.answers = owner, [says("a")]
    await model.complete(ModelRequest(ASK.messages, cache_salt="s1"))
    assert endpoint.requests[0].get("cache_salt") == sent


async def test_aiohttp_reads_for_a_model_that_will_be_closed(model, by_aiohttp):
    assert isinstance(model._client()._client, openai.DefaultAioHttpClient) == by_aiohttp


@pytest.mark.parametrize(("status", "calls"), [(200, 16), (404, 16), (501, 16), (503, 8)])
async def test_many_calls_ask_once_whose_an_endpoint_is(model, endpoint, says, status, calls):
    endpoint.lists, endpoint.answers = status, [says("a") for _ in range(calls)]
    request = ModelRequest(ASK.messages, cache_salt="s1")
    while endpoint.answers:
        await asyncio.gather(*(model.complete(request) for _ in range(8)))
    assert endpoint.listed == 1


async def test_what_vllm_had_said_is_neither_asked_nor_counted_twice(model, endpoint, streams):
    broken = streams({"content": "Hel"}, {"content": "lo"}, end=False, cut=True)
    endpoint.owner, endpoint.answers = "vllm", [broken, streams({"content": " you."})]
    pieces: list[str] = []
    request = ModelRequest(ASK.messages, max_tokens=9)
    reply = await model.complete(request, on_text=pieces.append)
    again = endpoint.requests[1]
    assert pieces == ["Hel", "lo", " you."]
    assert reply.text == "Hello you."
    assert again["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert (again["continue_final_message"], again["add_generation_prompt"]) == (True, False)
    assert again["max_tokens"] == 7


async def test_tokens_of_a_stream_that_broke_are_counted_with_those_of_the_next(
    model, endpoint, streams
):
    broken = streams({"content": "four"}, {"content": " char"}, end=False, cut=True)
    endpoint.owner, endpoint.answers = "vllm", [broken, streams({"content": "acters"})]
    usage = (await model.complete(ASK, on_text=lambda _: None)).usage
    asked = len(prompt_text(endpoint.requests[0]))
    assert usage == Usage(9 + -(-asked // 4), 2 + 3, calls=1)


async def test_what_the_endpoint_counted_before_its_stream_broke_is_not_estimated(
    model, endpoint, streams
):
    broken = streams({"content": "Hel"}, end=False, cut=True)
    counted = {"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": 1}}
    broken.body += f"data: {json.dumps(counted)}\n\n"
    endpoint.owner, endpoint.answers = "vllm", [broken, streams({"content": "lo"})]
    usage = (await model.complete(ASK, on_text=lambda _: None)).usage
    assert usage == Usage(70 + 9, 1 + 2, calls=1)


async def test_requests_that_were_not_answered_cost_nothing(model, endpoint, says, refuses):
    endpoint.answers = [refuses(503), says("Hi.")]
    assert (await model.complete(ASK)).usage == Usage(9, 2, 4, calls=1)


async def test_an_answer_that_broke_off_says_what_it_cost(model, endpoint, streams):
    endpoint.answers = [streams({"content": "Hal"}, end=False, cut=True)]
    with pytest.raises(ModelError) as caught:
        await model.complete(ASK, on_text=lambda _: None)
    assert caught.value.input_tokens > 5
    assert caught.value.output_tokens == 1


async def test_a_key_of_another_service_is_not_sent(endpoint, says, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-elsewhere")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-elsewhere")
    endpoint.answers = [says("a")]
    model = OpenAIModel("m", base_url=endpoint.base_url)
    await model.complete(ASK)
    assert "elsewhere" not in str(endpoint.headers)
    await model.close()


async def test_tokens_nobody_counted_are_estimated(model, endpoint, answers):
    choice = {"message": {"content": "four char"}, "finish_reason": "stop"}
    endpoint.answers = [answers(body={"choices": [choice]})]
    usage = (await model.complete(ASK)).usage
    assert (usage.output_tokens, usage.calls) == (3, 1)
    assert usage.input_tokens > 5


async def test_a_pickled_model_works_where_it_arrives(model, endpoint, says):
    endpoint.answers = [says("a"), says("b")]
    await model.complete(ASK)
    copy = pickle.loads(pickle.dumps(model))
    assert (await copy.complete(ASK)).text == "b"
    assert "k-123" not in repr(copy)
    await copy.close()


def test_one_model_serves_one_event_loop_after_another(says, endpoint_class, running_endpoint):
    async def call(model: list[OpenAIModel]) -> str:
        async with running_endpoint(endpoint_class([says("a")])) as endpoint:
            if not model:
                model.append(OpenAIModel("m", base_url=endpoint.base_url))
            model[0].base_url = endpoint.base_url
            reply = await model[0].complete(ASK)
            await model[0].close()
            return reply.text

    kept: list[OpenAIModel] = []
    assert [asyncio.run(call(kept)), asyncio.run(call(kept))] == ["a", "a"]


@pytest.mark.parametrize("count", ["50", 50.0, 50])
async def test_a_whole_number_of_tokens_counts_in_whatever_form(model, endpoint, says, count):
    answer = says("Hello there, you.")
    answer.body["usage"] = {"prompt_tokens": count, "completion_tokens": count}
    endpoint.answers = [answer]
    reply = await model.complete(ASK)
    assert (reply.usage, reply.is_counted) == (Usage(50, 50, calls=1), True)


@pytest.mark.parametrize("count", ["five", 5.5, -1, None, 0, True, [5]])
async def test_what_is_no_count_of_tokens_is_estimated(model, endpoint, says, count):
    answer = says("Hello there, you.")
    answer.body["usage"] = {"prompt_tokens": count, "completion_tokens": count}
    endpoint.answers = [answer]
    reply = await model.complete(ASK)
    assert reply.usage.input_tokens > 5
    assert reply.usage.output_tokens == 5
    assert not reply.is_counted


async def test_an_endpoint_that_takes_the_newer_name_of_a_limit_gets_it(
    model, endpoint, says, refuses
):
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    endpoint.answers = [refuses(400, message), says("Hi."), says("Hi.")]
    for _ in range(2):
        await model.complete(replace(ASK, max_tokens=7))
    sent = [(r.get("max_tokens"), r.get("max_completion_tokens")) for r in endpoint.requests]
    assert sent == [(7, None), (None, 7), (None, 7)]


async def test_a_request_that_may_be_paid_is_sent_once_if_that_is_asked(model, endpoint, refuses):
    endpoint.answers = [refuses(500)] * 3
    with pytest.raises(ModelError) as caught:
        await model.complete(replace(ASK, once=True))
    assert len(endpoint.requests) == 1
    assert (caught.value.broke_off, caught.value.is_counted) == (True, False)


async def test_a_request_that_is_sent_once_is_repeated_where_it_was_refused(
    model, endpoint, says, refuses
):
    endpoint.answers = [refuses(429, retry_after="0"), says("Hi.")]
    assert (await model.complete(replace(ASK, once=True))).text == "Hi."


@pytest.mark.parametrize(
    ("owner", "bodies", "count"),
    [
        ("vllm", [{"count": 12}], 12),
        ("llamacpp", [{"prompt": "<s>Hello?"}, {"tokens": [1, 2, 3]}], 3),
        ("vllm", [{"detail": "no such path"}], None),
        ("somebody", [], None),
    ],
)
async def test_engines_that_can_count_the_tokens_of_a_request(
    model, endpoint, answers, owner, bodies, count
):
    endpoint.owner = owner
    endpoint.answers = [answers(body=body) for body in bodies]
    assert await model.count_tokens(ASK) == count
    assert endpoint.answers == []


@pytest.mark.parametrize(
    ("owner", "facts", "props", "window"),
    [
        ("vllm", {"max_model_len": 4096}, None, 4096),
        ("crew", {"max_model_len": 2048}, None, 2048),
        (
            "llamacpp",
            {"meta": {"n_ctx_train": 9}},
            {"default_generation_settings": {"n_ctx": 512}},
            512,
        ),
        ("llamacpp", {}, {"default_generation_settings": {"n_ctx": "many"}}, None),
        ("llamacpp", {}, [], None),
        ("llamacpp", {}, None, None),
        ("somebody", {"max_model_len": 0}, {"default_generation_settings": {"n_ctx": 512}}, None),
    ],
)
async def test_engines_that_say_how_much_fits_into_a_model(
    model, endpoint, owner, facts, props, window
):
    endpoint.owner, endpoint.facts, endpoint.props = owner, facts, props
    assert await model.context_window() == window
    assert endpoint.requests == []
