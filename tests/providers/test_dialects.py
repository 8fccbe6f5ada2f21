"""What else endpoints do: they want things back, refuse in their own words, cut as they like."""

import json
import logging
from dataclasses import replace
from typing import Literal

import pytest
from pydantic import BaseModel

from crew.content import Image
from crew.errors import ModelError
from crew.llm import ModelRequest, ToolSpec
from crew.llm.client import OpenAIModel
from crew.llm.thought import Thought
from crew.message import Message
from tests.providers import ALL, VLLM, Gemini, LlamaCpp, Ollama, OpenAIChat, OpenAIReasoning, mind
from tests.providers.conversation import PIXEL, TOOLS, model_of, talk
from tests.providers.server import Refused

both_ways = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


class DeepSeek(LlamaCpp):
    """Wants the reasoning of each turn with calls back."""

    owner = "deepseek"

    def check(self, body):
        for message in body["messages"]:
            if message.get("tool_calls") and message.get("reasoning_content") is None:
                raise Refused(
                    "The `reasoning_content` in the thinking mode must be passed back to the API."
                )
        super().check(body)


class Groq(OpenAIChat):
    """Says what it reasoned, and refuses to hear it."""

    def whole(self, said, body):
        answer = super().whole(said, body)
        answer["choices"][0]["message"]["reasoning"] = said.thought
        return answer


class Magistral(OpenAIChat):
    """Puts thoughts into the content."""

    def whole(self, said, body):
        answer = super().whole(said, body)
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": said.thought}]}
        text = [{"type": "text", "text": said.text}] if said.text else []
        answer["choices"][0]["message"]["content"] = [thought, *text]
        return answer

    def _check_part(self, at, role, part):
        if part["type"] != "thinking":
            super()._check_part(at, role, part)


class Gemma(LlamaCpp):
    """Its template knows no system, and wants user and assistant in turn."""

    def check(self, body):
        roles = [message["role"] for message in body["messages"]]
        if "system" in roles:
            raise Refused("System role not supported", status=400)
        if any(role != ("user", "assistant")[place % 2] for place, role in enumerate(roles)):
            raise Refused("Conversation roles must alternate user/assistant/user/assistant/...")
        super().check(body)


@both_ways
async def test_reasoning_goes_back_to_the_model_that_wants_it(streams):
    async with model_of(endpoint := DeepSeek()) as model:
        came = await talk(model, "parallel", streams=streams, tools=True)
    assert came.text == "found a; found b"
    assert endpoint.requests[-1]["messages"][2]["reasoning_content"] == "Twice."


async def test_reasoning_is_not_sent_again_to_a_model_that_refuses_it(caplog):
    async with model_of(endpoint := Groq()) as model:
        for _ in range(2):
            assert (await talk(model, "tools", tools=True)).text == "found a"
    sent = ["reasoning" in json.dumps(request["messages"]) for request in endpoint.requests]
    assert sent == [False, True, False, False, False]
    assert [record.fact for record in caplog.records] == ["reasoning is not sent back"]


async def test_reasoning_of_another_model_is_not_sent():
    async with model_of(LlamaCpp()) as model:
        reply = (await talk(model, "text")).replies[-1]
    assert reply.extra == {"model": "m", "reasoning_content": "They greet me."}
    async with OpenAIChat().running() as endpoint:
        other = OpenAIModel("another", base_url=endpoint.url)
        said = (Message("user", "text"), reply.message(), Message("user", "text"))
        assert (await other.complete(ModelRequest(said))).text == mind.TEXT
        await other.close()


async def test_thoughts_in_the_content_go_back_in_it():
    async with model_of(endpoint := Magistral()) as model:
        came = await talk(model, "tools", tools=True)
        assert came.text == "found a"
    back = endpoint.requests[-1]["messages"][2]["content"]
    assert back == [{"type": "thinking", "thinking": [{"type": "text", "text": "I look."}]}]


@both_ways
async def test_signatures_go_back_with_their_calls(streams):
    async with model_of(endpoint := Gemini()) as model:
        await talk(model, "parallel", streams=streams, tools=True)
    first, second = endpoint.requests[-1]["messages"][2]["tool_calls"]
    assert first["extra_content"] == {"google": {"thought_signature": "c2lnbmF0dXJl"}}
    assert "extra_content" not in second


@both_ways
async def test_a_template_without_a_system_gets_the_instructions_from_the_user(streams):
    async with model_of(endpoint := Gemma()) as model:
        came = await talk(model, "text", streams=streams)
    # The first word that is said is of the instructions then.
    assert endpoint.requests[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\ntext"}]
    assert came.text == mind.TEXT


async def test_an_empty_answer_keeps_the_turns_of_user_and_assistant():
    said = (Message("user", "text"), Message("assistant", " "), Message("user", "text"))
    async with model_of(Gemma()) as model:
        assert (await model.complete(ModelRequest(said))).text == mind.TEXT


REFUSALS = [
    "Function calling with a response mime type: 'application/json' is unsupported",
    "json mode cannot be combined with tool/function calling",
    "Cannot use custom grammar constraints with tools.",
    "This response_format type is unavailable now",
    "guided decoding is not supported with tool calls",
    "'response_format.type' must be one of text, json_object",
    "tools and structured outputs: choose one",
]


@pytest.mark.parametrize("words", REFUSALS)
async def test_a_schema_that_excludes_tools_goes_into_the_prompt(words):
    class Picky(OpenAIChat):
        def check(self, body):
            if body.get("tools") and "response_format" in body:
                raise Refused(words)
            super().check(body)

    async with model_of(endpoint := Picky()) as model:
        came = await talk(model, "both", tools=True, schema=True)
        assert json.loads(came.text) == mind.CITY
        assert len(endpoint.requests) == 3  # it is asked in vain once
        if "response_format" not in words:
            await talk(model, "schema", schema=True)
            assert "response_format" in endpoint.requests[-1]  # alone it is fine


async def test_a_guess_that_is_wrong_is_neither_kept_nor_shown():
    class Broken(OpenAIChat):
        def check(self, body):
            raise Refused("the moon is full")

    async with model_of(endpoint := Broken()) as model:
        for _ in range(2):
            with pytest.raises(ModelError, match="the moon is full"):
                await talk(model, "both", tools=True, schema=True)
    assert ["response_format" in body for body in endpoint.requests] == [True, False] * 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("temperature", "Unsupported value: 'temperature' does not support 0.2 with this model."),
        ("temperature", "`temperature` is deprecated for this model"),
        ("stream_options", "Unknown parameter: stream_options"),
        ("stream_options", "body.stream_options: Extra inputs are not permitted"),
        ("temperature", "Additional properties are not allowed ('temperature' was unexpected)"),
    ],
)
async def test_a_parameter_that_is_refused_is_left_out_from_then_on(name, words, caplog):
    class Picky(OpenAIChat):
        def check(self, body):
            if name in body:
                raise Refused(words, status=422)
            super().check(body)

    async with model_of(endpoint := Picky()) as model:
        for _ in range(2):
            came = await talk(model, "text", streams=True, temperature=0.2)
            assert came.text == mind.TEXT
    assert [name in body for body in endpoint.requests] == [True, False, False]
    (record,) = caplog.records
    assert (record.message, record.fact, record.levelno) == (
        "model.learnt",
        f"-{name}",
        logging.WARNING,
    )


async def test_two_refusals_of_one_request_are_both_learnt():
    async with model_of(endpoint := OpenAIReasoning()) as model:
        for _ in range(2):
            await talk(model, "text", max_tokens=70, temperature=0.2)
    assert len(endpoint.requests) == 4
    assert endpoint.requests[-1]["max_completion_tokens"] == 70
    assert "temperature" not in endpoint.requests[-1]


async def test_a_value_that_is_wrong_is_an_error():
    class Strict(OpenAIChat):
        def check(self, body):
            if body.get("temperature", 0) > 2:
                raise Refused("Invalid 'temperature': 3 must be between 0 and 2.")

    async with model_of(Strict()) as model:
        with pytest.raises(ModelError, match="must be between 0 and 2"):
            await talk(model, "text", temperature=3)


@pytest.mark.parametrize("provider", ALL, ids=lambda kind: kind.name)
async def test_a_model_that_sees_nothing_says_so_and_is_not_asked_again(provider):
    endpoint = provider()
    endpoint.sees = False
    async with model_of(endpoint, max_attempts=3) as model:
        for _ in range(2):
            with pytest.raises(ModelError, match="takes no images.*give it text") as caught:
                await talk(model, ("image", Image(PIXEL)))
        assert caught.value.endpoint == endpoint.url
        assert len(endpoint.requests) == 1
        assert (await talk(model, "text")).text == mind.TEXT


@pytest.mark.parametrize("cut", range(1, 9))
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
async def test_events_are_read_however_they_are_cut(cut, end):
    from crew.llm.stream import event_data

    text = ": hi\n\nid: 1\nevent: message\ndata: {\ndata:  1}\n\ndata:ü\nretry: 3\n\ndata: [DONE]"
    body = text.replace("\n", end).encode()

    async def pieces():
        for first in range(0, len(body), cut):
            yield body[first : first + cut]

    assert [data.decode() async for data in event_data(pieces())] == ["{\n 1}", "ü", "[DONE]"]


@pytest.mark.parametrize("provider", ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/octet-stream"])
async def test_a_stream_is_known_by_what_it_is(provider, kind, monkeypatch):
    from tests.providers import server

    send = server._send
    monkeypatch.setattr(
        server, "_send", lambda to, status, body, *_, **how: send(to, status, body, kind, **how)
    )
    async with model_of(provider()) as model:
        came = await talk(model, "tools", streams=True, tools=True)
    assert (came.text, came.streamed) == ("found a", "found a")


class Noisy(VLLM):
    """Sends pings, nulls and empty errors between the chunks, as proxies do."""

    def chunks(self, said, body):
        yield {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        for chunk in super().chunks(said, body):
            yield chunk | {"error": ""}
            yield "null"
            yield "ping"


async def test_what_proxies_send_between_the_chunks_says_nothing():
    async with model_of(Noisy()) as model:
        came = await talk(model, "parallel", streams=True, tools=True)
    assert came.text == "found a; found b"


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "out of memory", "type": "InternalServerError", "code": 500}},
        {"error": "overloaded"},
        {"object": "error", "message": "overloaded", "code": 503},
        {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]},
    ],
    ids=["object", "text", "old vLLM", "OpenRouter"],
)
async def test_an_error_in_a_stream_breaks_the_answer_off(error):
    class Failing(OpenAIChat):
        def chunks(self, said, body):
            yield from list(super().chunks(said, body))[:3]
            yield error

    async with model_of(endpoint := Failing()) as model:
        with pytest.raises(ModelError, match="broke the answer off") as caught:
            await talk(model, "text", streams=True)
    assert caught.value.broke_off
    assert endpoint.url in caught.value.message


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"words": "[\\"b\\", \\"a\\"]"}', ["b", "a"]),
        ('"{\\"words\\": [\\"a\\"]}"', ["a"]),
        ({"words": ["a"]}, ["a"]),
        ('{"words": ["a\nb"]}', ["a\nb"]),
        ('{"words": "not [a list]"}', "not [a list]"),
    ],
)
async def test_arguments_are_read_as_models_write_them(written, read):
    from crew.llm.arguments import read_arguments

    assert read_arguments(written, TOOLS[1].parameters) == {"words": read}


async def test_a_text_that_looks_like_a_list_stays_one_where_text_is_wanted():
    from crew.llm.arguments import read_arguments

    schema = {"properties": {"code": {"anyOf": [{"type": "string"}, {"type": "array"}]}}}
    assert read_arguments({"code": "[1]"}, schema) == {"code": "[1]"}


@pytest.mark.parametrize(
    "ids",
    [["", ""], ["x", "x"], [None, None], ["a", ""]],
    ids=["empty", "equal", "null", "one"],
)
@both_ways
async def test_each_call_of_a_conversation_has_an_id_of_its_own(ids, streams):
    class Same(OpenAIChat):
        def whole(self, said, body):
            answer = super().whole(said, body)
            for call, own in zip(
                answer["choices"][0]["message"].get("tool_calls", []), ids, strict=False
            ):
                call["id"] = own
            return answer

        def chunks(self, said, body):
            for chunk in super().chunks(said, body):
                for choice in chunk["choices"]:
                    for call in choice["delta"].get("tool_calls", []):
                        if "id" in call:
                            call["id"] = ids[call["index"]]
                yield chunk

    async with model_of(Same()) as model:
        came = await talk(model, "parallel", streams=streams, tools=True)
    assert came.text == "found a; found b"
    assert len({*came.ids, ""}) == 3


async def test_ids_that_come_again_in_each_turn_are_made_unique():
    async with model_of(Gemini()) as model:
        first = await talk(model, "tools", tools=True)
        reply = first.replies[0]
        results = [Message("tool", "found a", tool_call_id=call.id) for call in reply.tool_calls]
        asked = ModelRequest(
            (Message("user", "text"), reply.message(), *results, Message("user", "text"))
        )
        again = await model.complete(replace(asked, messages=(*asked.messages,)))
    assert again.text == mind.TEXT


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nmust be {json}\n</think>\n\n%s",
        "Here it is:\n```json\n%s\n```\nAnything else?",
        "```JSON\n%s\n```",
        "%s\n\nHope this helps.",
        "I thought [of it] and say {so}: %s",
        "As [1] and {} say: %s",
        "\ufeff%s",
    ],
)
async def test_json_is_found_in_what_is_around_it(text):
    class Chatty(Ollama):
        def adapted(self, body, said):
            return replace(said, text=text % json.dumps(mind.CITY), thought="")

    async with model_of(Chatty()) as model:
        came = await talk(model, "schema", schema=True)
    assert came.text == json.dumps(mind.CITY)


AZURE = "The response was filtered due to the prompt triggering Azure's content management policy."


@pytest.mark.parametrize(
    ("code", "words", "is_refusal"),
    [
        ("content_filter", AZURE, True),
        ("content_policy_violation", "Your request was rejected by our safety system.", True),
        ("data_inspection_failed", "Input data may contain inappropriate content.", True),
        (None, "Request blocked: PROHIBITED_CONTENT", True),
        ("invalid_value", "Invalid value: 'temperature'.", False),
    ],
)
async def test_a_filter_before_the_model_refuses_what_is_asked(code, words, is_refusal):
    class Guarded(OpenAIChat):
        def check(self, body):
            raise Refused(words, code=code)

    async with model_of(endpoint := Guarded()) as model:
        with pytest.raises(ModelError, match="refused the request") as caught:
            await talk(model, "text", tools=True, schema=is_refusal)
    assert caught.value.is_refusal == is_refusal
    assert len(endpoint.requests) == 1


class OldGemini(Gemini):
    """Knows no reference and no constant in a schema."""

    def check(self, body):
        for word in ("$defs", "$ref", "const", "additionalProperties"):
            if f'"{word}"' in json.dumps([body.get("tools"), body.get("response_format")]):
                raise Refused(f'Invalid JSON payload received. Unknown name "{word}" at tools[0]')
        super().check(body)


class Order(BaseModel):
    kind: Literal["tea"]
    next: "Order | None" = None


async def test_schemas_are_said_in_plain_words_where_others_are_not_known():
    parameters = {"type": "object", "properties": {"order": {"$ref": "#/$defs/Order"}}}
    parameters["$defs"] = Order.model_json_schema()["$defs"]
    spec = ToolSpec("take", "Takes.", parameters)
    asked = ModelRequest((Message("user", "text"),), tools=(spec,))
    async with model_of(endpoint := OldGemini()) as model:
        assert (await model.complete(asked)).text == mind.TEXT
        assert (await model.complete(asked)).text == mind.TEXT
    assert len(endpoint.requests) == 3
    order = endpoint.requests[-1]["tools"][0]["function"]["parameters"]["properties"]["order"]
    assert order["properties"]["kind"] == {"enum": ["tea"], "type": "string"}
    assert order["properties"]["next"] == {"anyOf": [{}, {"type": "null"}]}


async def test_what_the_system_says_is_said_once_and_first():
    said = (
        Message("system", "Be brief."),
        Message("user", "text"),
        Message("assistant", "hm"),
        Message("system", "Be brief."),
        Message("system", "Be kind."),
        Message("user", "text"),
    )
    async with model_of(endpoint := LlamaCpp()) as model:
        assert (await model.complete(ModelRequest(said))).text == mind.TEXT
    roles = [message["role"] for message in endpoint.requests[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert endpoint.requests[-1]["messages"][0]["content"] == "Be brief.\n\nBe kind."


@pytest.mark.parametrize(
    "words",
    [
        "unsupported image format: image/tiff",
        "Failed to load image: unknown error",
        "image too large",
    ],
)
async def test_one_image_that_is_refused_says_nothing_about_the_next(words):
    class Picky(OpenAIChat):
        def check(self, body):
            if len(self.requests) == 1:
                raise Refused(words)
            super().check(body)

    async with model_of(Picky()) as model:
        with pytest.raises(ModelError, match=words):
            await talk(model, ("image", Image(PIXEL)))
        assert (await talk(model, ("image", Image(PIXEL)))).text == "8 bytes of image/png"


async def test_a_passing_error_that_comes_with_status_200_is_asked_again():
    class Router(OpenAIChat):
        def whole(self, said, body):
            if len(self.requests) == 1:
                return {"error": {"message": "Provider returned error", "code": 502}}
            return super().whole(said, body)

    async with model_of(Router(), max_attempts=2) as model:
        assert (await talk(model, "text")).text == mind.TEXT


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<think>a</think>b", "b"),
        ("\n<thought>\na\n</thought>\n\nb", "b"),
        ("<thinking>a</thinking>b", "<thinking>a</thinking>b"),
        ("a <think>b</think>", "a <think>b</think>"),
        ("<th", "<th"),
        ("<think>a", ""),
        (" \n", " \n"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_thought_at_the_beginning_is_taken_out_however_it_is_cut(written, said, size):
    thought = Thought()
    pieces = [written[first : first + size] for first in range(0, len(written), size)]
    assert "".join(map(thought.add, pieces)) + thought.end() == said


@both_ways
@pytest.mark.parametrize("provider", [Gemini, DeepSeek], ids=["signature", "reasoning"])
async def test_a_conversation_that_began_with_another_model_goes_on(provider, streams):
    async with model_of(OpenAIChat()) as first:
        reply = (await talk(first, "parallel", tools=True)).replies[0]
    results = [Message("tool", "found it", tool_call_id=call.id) for call in reply.tool_calls]
    asked = ModelRequest((Message("user", "parallel"), reply.message(), *results), tools=TOOLS)
    async with model_of(endpoint := provider()) as second:
        for _ in range(2):
            came = await second.complete(asked, on_text=(lambda piece: None) if streams else None)
            assert came.text == "found it; found it"
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("I think so.\n</think>\n\nYes.", "Yes."),
        ("Write <think> first, then </think>.", "Write <think> first, then </think>."),
    ],
)
async def test_a_thought_that_the_template_opened_ends_before_the_answer(written, said):
    class Opened(VLLM):
        def adapted(self, body, said):
            return replace(said, text=written)

    async with model_of(Opened()) as model:
        assert (await talk(model, "text")).text == said
