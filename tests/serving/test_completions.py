import asyncio

import openai
import pytest

from tests.serving.conftest import SERVED


async def test_workflows_are_listed_as_models(endpoint):
    models = [model.id async for model in await endpoint.client.models.list()]

    assert models == [served.name for served in SERVED]


@pytest.mark.parametrize("name", ["echo", "crew/echo", "echo@1", "crew/echo@1"])
async def test_model_answers_to_each_of_its_names(endpoint, name):
    assert (await endpoint.client.models.retrieve(name)).id == name
    assert (await endpoint.ask(name, "hi")).model == name


async def test_chat_is_a_run(endpoint):
    reply = await endpoint.ask("echo", "hi")

    assert reply.choices[0].message.content == "hi (0 before)"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.crew["output"] == {"text": "hi (0 before)", "sources": ["/docs"]}
    assert await (await endpoint.runtime.get(reply.crew["run_id"])).status() == "completed"


async def test_stream_shows_progress_as_reasoning_and_then_the_answer(endpoint):
    chunks = await endpoint.stream("echo", "hi")
    deltas = [chunk.choices[0].delta for chunk in chunks]
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)

    assert thought == "▸ say[0]\n  thinking\n"
    assert "".join(delta.content or "" for delta in deltas) == "hi (0 before)"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_emitted_text_is_the_streamed_answer(endpoint):
    chunks = await endpoint.stream("telling", "hi")

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two thrée"


async def test_usage_comes_last_when_it_is_asked_for(endpoint):
    chunks = await endpoint.stream("echo", "hi", stream_options={"include_usage": True})

    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_usage_is_summed_over_all_agents(endpoint):
    usage = (await endpoint.ask("greeting", "hi")).usage
    runs = await endpoint.runtime.runs()
    spent = [e.data["usage"] for e in await runs[0].recorded() if e.kind == "model.completed"]

    assert len(spent) == 2
    assert usage.prompt_tokens == sum(each["input_tokens"] for each in spent) > 0
    assert usage.completion_tokens == sum(each["output_tokens"] for each in spent) > 0


async def test_every_event_comes_along_when_it_is_asked_for(endpoint):
    chunks = await endpoint.stream("echo", "hi", stream_options={"include_events": True})
    events = [chunk.model_extra["crew"] for chunk in chunks if "crew" in chunk.model_extra]

    assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["kind"] == "run.completed"


async def test_second_turn_on_a_thread_sees_the_first(endpoint):
    await endpoint.ask("echo", "first", extra_body={"metadata": {"thread_id": "t1"}})
    reply = await endpoint.ask("echo", "second", extra_headers={"X-Thread-Id": "t1"})

    assert reply.choices[0].message.content == "second (2 before)"


async def test_history_that_a_client_sends_to_a_thread_is_not_appended(endpoint):
    in_thread = {"extra_body": {"conversation": "t2"}}
    await endpoint.ask("echo", "first", **in_thread)
    history = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "first (0 before)"},
        {"role": "user", "content": "second"},
    ]
    await endpoint.ask("echo", "", messages=history, **in_thread)

    thread = await endpoint.runtime.thread("t2")
    assert [message.text for message in thread.messages][::2] == ["first", "second"]


async def test_body_names_the_thread_before_any_header(endpoint):
    headers = {"X-Thread-Id": "header", "X-OpenWebUI-Chat-Id": "webui"}
    body = {"metadata": {"thread_id": "body"}}
    reply = await endpoint.ask("echo", "hi", extra_headers=headers, extra_body=body)
    assert reply.crew["thread_id"] == "body"

    reply = await endpoint.ask("echo", "hi", extra_headers={"X-OpenWebUI-Chat-Id": "webui"})
    assert reply.crew["thread_id"] == "webui"


async def test_history_without_a_thread_goes_to_the_input_or_is_said_not_to(endpoint):
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    reply = await endpoint.ask("remembering", "", messages=history)
    assert reply.choices[0].message.content == "user: a | assistant: b"

    reply = await endpoint.ask("echo", "", messages=history)
    assert "only the last message" in reply.crew["note"]


async def test_same_idempotency_key_is_the_same_run(endpoint):
    headers = {"Idempotency-Key": "k-1"}
    first = await endpoint.ask("echo", "hi", extra_headers=headers)
    again = await endpoint.ask("echo", "hi", extra_headers=headers)
    assert again.crew["run_id"] == first.crew["run_id"]

    with pytest.raises(openai.BadRequestError) as caught:
        await endpoint.ask("echo", "other", extra_headers=headers)
    assert caught.value.code == "idempotency_key_reused"


async def test_text_parts_are_joined(endpoint):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    reply = await endpoint.ask("echo", "", messages=[{"role": "user", "content": parts}])

    assert reply.choices[0].message.content == "one\ntwo (0 before)"


async def test_typed_input_is_read_as_json(endpoint):
    reply = await endpoint.ask("ordering", '{"item": "tea", "count": 2}')

    assert reply.choices[0].message.content == "2 of tea"


async def test_question_of_a_run_is_the_answer_and_the_next_message_answers_it(endpoint):
    in_thread = {"extra_body": {"conversation": "t3"}}
    asked = await endpoint.ask("asking", "I want my money", **in_thread)
    assert asked.choices[0].message.content == "Refund?"
    assert asked.crew["status"] == "waiting"

    again = await endpoint.ask("asking", "perhaps", **in_thread)
    assert again.choices[0].message.content == "Refund?"

    done = await endpoint.ask("asking", "Yes.", **in_thread)
    assert done.choices[0].message.content == "refunded"
    assert done.crew["run_id"] == asked.crew["run_id"]


async def test_request_sent_again_is_no_answer_to_a_question_of_its_thread(endpoint):
    again = {"extra_body": {"conversation": "t4"}, "extra_headers": {"Idempotency-Key": "k"}}
    asked = await endpoint.ask("asking", "yes", **again)

    assert (await endpoint.ask("asking", "yes", **again)).crew == asked.crew
    await endpoint.ask("asking", "yes", extra_body=again["extra_body"])
    await endpoint.ask("asking", "yes", extra_body=again["extra_body"])
    # A later run of the thread waits now.
    old = await endpoint.ask("asking", "yes", **again)
    assert (old.choices[0].message.content, old.crew["run_id"]) == (
        "refunded",
        asked.crew["run_id"],
    )


async def test_answer_sent_again_with_its_key_is_the_same_answer(endpoint):
    thread = {"extra_body": {"metadata": {"thread_id": "t1"}}}
    await endpoint.ask("asking", "I want my money", **thread)
    again = {**thread, "extra_headers": {"Idempotency-Key": "k"}}
    done = await endpoint.ask("asking", "yes", **again)
    repeated = await endpoint.ask("asking", "yes", **again)

    assert repeated.choices == done.choices
    assert repeated.crew == done.crew
    chunks = await endpoint.stream("asking", "yes", **again)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "refunded"
    assert len(await endpoint.runtime.runs()) == 1


async def test_text_that_is_taken_back_ends_the_stream_with_an_error_that_names_the_run(
    endpoint, gate, request
):
    again = {"extra_headers": {"Idempotency-Key": "k"}}
    chunks = aiter(await endpoint.ask("stumbling", request.node.name, stream=True, **again))
    while (await anext(chunks)).choices[0].delta.content != "first ":
        pass
    gate.set()
    with pytest.raises(openai.APIError) as caught:
        _ = [chunk async for chunk in chunks]

    [run] = await endpoint.runtime.runs()
    assert (caught.value.code, run.id in caught.value.message) == ("text_taken_back", True)
    await run.result()
    rest = await endpoint.stream("stumbling", request.node.name, **again)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in rest) == "second "


async def test_client_that_leaves_does_not_stop_the_run(endpoint, gate, request):
    text = request.node.name
    stream = await endpoint.ask("echo", text, stream=True)
    await anext(aiter(stream))
    await stream.close()
    run = await endpoint.run_of(text)
    gate.set()

    async with asyncio.timeout(5):
        assert (await run.result()).text == f"{text} (0 before)"


async def test_run_is_durable_before_the_first_byte(endpoint, gate):
    async with endpoint.client.chat.completions.with_streaming_response.create(
        model="echo", messages=[{"role": "user", "content": "hi"}], stream=True
    ) as response:
        run = await endpoint.runtime.get(response.headers["x-run-id"])
        assert (await run.recorded())[0].kind == "run.started"


async def test_quiet_stream_is_kept_open_by_comments(tmp_path, opening, gate, request):
    async with opening(f"sqlite:///{tmp_path}/runs.db", heartbeat=0.05) as endpoint:
        raw = endpoint.client.chat.completions.with_streaming_response
        messages = [{"role": "user", "content": request.node.name}]
        async with raw.create(model="echo", messages=messages, stream=True) as response:
            seen = b""
            async for part in response.iter_bytes():
                seen += part
                if seen.count(b": ping\n\n") == 2:
                    gate.set()

    assert seen.endswith(b"data: [DONE]\n\n")
    assert b"event:" not in seen


async def test_title_that_a_front_end_wants_starts_no_run(endpoint):
    prompt = (
        "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history."
        '\n### Output:\nJSON format: { "title": "your concise title here" }\n### Chat History:\n'
        "<chat_history>\nUSER: How do actors restart?\nASSISTANT: By Ray.\n</chat_history>"
    )
    reply = await endpoint.ask("echo", prompt)
    streamed = await endpoint.stream("echo", prompt)

    assert reply.choices[0].message.content == '{"title": "How do actors restart?"}'
    assert any("How do actors" in (c.choices[0].delta.content or "") for c in streamed)
    assert await endpoint.runtime.runs() == []
