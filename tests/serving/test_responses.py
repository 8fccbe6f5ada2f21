"""The Responses API by its official client, on a real runtime."""

import asyncio
import json

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_item_list import ResponseItemList
from pydantic import TypeAdapter

from serving.responses.reading import Reading

API_EVENT: TypeAdapter = TypeAdapter(ResponseStreamEvent)


async def events_of(stream) -> list:
    """All events of a stream, each as the client's own types have it."""
    events = [event async for event in stream]
    for event in events:
        API_EVENT.validate_python(event.to_dict())
    return events


async def create(endpoint, model, text, **options):
    reply = await endpoint.client.responses.create(model=model, input=text, **options)
    if not options.get("stream"):
        Response.model_validate(reply.to_dict())
    return reply


async def until(endpoint, response_id, *statuses):
    """The response once it has one of these statuses."""
    async with asyncio.timeout(10):
        while True:
            response = await endpoint.client.responses.retrieve(response_id)
            if response.status in statuses:
                return response
            await asyncio.sleep(0.02)


async def test_response_is_a_run(endpoint):
    reply = await create(endpoint, "echo", "hi")

    run = await endpoint.runtime.get(reply.crew["run_id"])
    assert reply.id == f"resp_{run.id}"
    assert (reply.status, reply.output_text, reply.model) == ("completed", "hi (0 before)", "echo")
    assert reply.crew["output"] == {"text": "hi (0 before)", "sources": ["/docs"]}
    assert await endpoint.client.responses.retrieve(reply.id) == reply


async def test_stream_has_the_events_that_the_official_client_puts_together(endpoint):
    async with endpoint.client.responses.stream(model="telling", input="hi") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]

    assert "".join(deltas) == final.output_text == "one two thrée"
    assert [e.type for e in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == "response.completed"


async def test_response_that_is_asked_for_again_with_its_key_is_the_same(endpoint):
    again = {"extra_headers": {"Idempotency-Key": "k"}}
    first = await create(endpoint, "echo", "hi", **again)
    assert (await create(endpoint, "echo", "hi", **again)).id == first.id
    with pytest.raises(openai.BadRequestError, match="another input"):
        await create(endpoint, "echo", "ho", **again)


async def test_progress_is_a_reasoning_summary(endpoint):
    events = await events_of(await create(endpoint, "echo", "hi", stream=True))
    lines = [e.delta for e in events if e.type == "response.reasoning_summary_text.delta"]

    assert "".join(lines) == "▸ say[0]\n  thinking\n"
    assert [item.type for item in events[-1].response.output] == ["reasoning", "message"]


async def test_background_returns_at_once_and_its_stream_can_be_joined_anywhere(
    endpoint, gate, request
):
    reply = await create(endpoint, "echo", request.node.name, background=True)
    assert reply.status in ("queued", "in_progress")
    assert reply.background
    gate.set()
    await until(endpoint, reply.id, "completed")

    whole = await events_of(await endpoint.client.responses.retrieve(reply.id, stream=True))
    for number in {0, *(event.sequence_number for event in whole)}:
        rest = await endpoint.client.responses.retrieve(
            reply.id, stream=True, starting_after=number
        )
        later = [event for event in whole if event.sequence_number > number]
        assert await events_of(rest) == later


async def test_client_that_leaves_gets_the_rest_from_another_replica(
    opening, tmp_path, gate, request
):
    store = f"sqlite:///{tmp_path}/runs.db"
    async with opening(store) as one, opening(store) as two:
        stream = await create(one, "echo", request.node.name, stream=True)
        first = [await anext(aiter(stream)) for _ in range(3)]
        await stream.close()
        id, last = first[0].response.id, first[-1].sequence_number  # noqa: A001
        gate.set()
        rest = await events_of(
            await two.client.responses.retrieve(id, stream=True, starting_after=last)
        )
        whole = await events_of(await one.client.responses.retrieve(id, stream=True))

    assert first + rest == whole
    assert whole[-1].response.output_text.startswith(request.node.name)


async def test_server_that_stops_says_so_and_leaves_off_where_the_stream_can_go_on(
    endpoint, gate, request
):
    reply = await create(endpoint, "echo", request.node.name, background=True)
    run, closing = await endpoint.runtime.get(reply.crew["run_id"]), asyncio.Event()
    closing.set()
    reading = Reading(run=run, is_mine=bool, closing=closing)
    frames = [frame async for frame in reading.frames(starting_after=-1, heartbeat=1.0)]
    told = [json.loads(each.split(b"data: ")[1]) for each in b"".join(frames).split(b"\n\n")[:-1]]
    gate.set()

    assert API_EVENT.validate_python(told[-1]).code == "server_stopping"
    assert told[-1]["sequence_number"] == told[-2]["sequence_number"]


async def test_cancel_stops_the_run(endpoint, gate, request):
    reply = await create(endpoint, "echo", request.node.name, background=True)
    stream = asyncio.create_task(
        events_of(await endpoint.client.responses.retrieve(reply.id, stream=True))
    )
    cancelled = await endpoint.client.responses.cancel(reply.id)

    assert cancelled.status == "cancelled"
    assert (await stream)[-1].response.status == "cancelled"
    assert (await endpoint.client.responses.cancel(reply.id)).status == "cancelled"


async def test_failed_run_is_a_response_that_says_why(endpoint):
    reply = await create(endpoint, "failing", "hi")
    events = await events_of(await create(endpoint, "failing", "hi", stream=True))

    assert (reply.status, reply.error.code) == ("failed", "server_error")
    assert reply.error.message == "ValueError: cannot do hi"
    assert events[-1].type == "response.failed"
    assert reply.output_text == ""


async def test_usage_is_summed_over_all_agents(endpoint):
    usage = (await create(endpoint, "greeting", "hi")).usage
    [run] = await endpoint.runtime.runs()
    spent = await run.usage()

    assert usage.input_tokens == spent["input_tokens"] > 0
    assert usage.total_tokens == spent["input_tokens"] + spent["output_tokens"]


async def test_response_goes_on_by_its_id(endpoint):
    first = await create(endpoint, "echo", "first")
    second = await create(endpoint, "echo", "second", previous_response_id=first.id)

    assert second.output_text == "second (2 before)"
    assert second.previous_response_id == first.id
    assert second.conversation.id == first.conversation.id
    assert await endpoint.client.responses.retrieve(second.id) == second


async def test_branch_off_an_earlier_response_is_refused(endpoint):
    first = await create(endpoint, "echo", "first")
    second = await create(endpoint, "echo", "second", previous_response_id=first.id)
    with pytest.raises(openai.ConflictError, match=f"go on from {second.id}") as caught:
        await create(endpoint, "echo", "other", previous_response_id=first.id)

    assert caught.value.code == "previous_response_not_last"
    assert len(await endpoint.runtime.runs()) == 2


async def test_two_that_go_on_from_one_response_at_once_do_not_both_get_in(endpoint, gate, request):
    first = await create(endpoint, "echo", "first")
    going_on = {"previous_response_id": first.id, "background": True}
    texts = [request.node.name] * 3
    replies = await asyncio.gather(
        *(create(endpoint, "echo", text, **going_on) for text in texts), return_exceptions=True
    )
    gate.set()

    assert sum(isinstance(reply, openai.ConflictError) for reply in replies) == 2


async def test_same_idempotency_key_is_the_same_response(endpoint):
    first = await create(endpoint, "echo", "first")
    again = {"previous_response_id": first.id, "extra_headers": {"Idempotency-Key": "k"}}
    second = await create(endpoint, "echo", "second", **again)

    assert await create(endpoint, "echo", "second", **again) == second
    with pytest.raises(openai.BadRequestError) as caught:
        await create(endpoint, "echo", "third", **again)
    assert caught.value.code == "idempotency_key_reused"


async def test_metadata_is_kept_with_the_run(endpoint):
    reply = await create(endpoint, "echo", "hi", metadata={"topic": "tea"})

    assert reply.metadata == {"topic": "tea"}
    assert (await endpoint.client.responses.retrieve(reply.id)).metadata == {"topic": "tea"}


async def test_question_of_a_run_is_answered_by_going_on_from_it(endpoint):
    asked = await create(endpoint, "asking", "I want my money")
    assert (asked.status, asked.output_text) == ("completed", "Refund?")
    assert asked.crew["status"] == "waiting"
    assert asked.output[-1].crew["questions"][0]["key"] == "refund"

    done = await create(endpoint, "asking", "Yes.", previous_response_id=asked.id)
    assert (done.status, done.output_text) == ("completed", "refunded")
    assert done.crew["run_id"] == asked.crew["run_id"]
    assert done.previous_response_id == asked.id
    assert await endpoint.client.responses.retrieve(done.id) == done


async def test_what_is_no_answer_is_refused_and_the_question_stays(endpoint):
    in_conversation = {"conversation": "t1"}
    await create(endpoint, "asking", "I want my money", **in_conversation)
    with pytest.raises(openai.BadRequestError, match=r"the question is: Refund\?") as caught:
        await create(endpoint, "asking", "perhaps", **in_conversation)

    assert caught.value.code == "not_an_answer"
    assert (await create(endpoint, "asking", "no", **in_conversation)).output_text == "kept"


async def test_question_ends_the_stream_and_the_answers_stream_goes_on(endpoint):
    client = endpoint.client
    first = await events_of(await create(endpoint, "asking", "hi", stream=True))
    waiting = first[-1]
    assert (waiting.type, waiting.response.output_text) == ("response.completed", "Refund?")

    going_on = {"previous_response_id": waiting.response.id, "stream": True}
    second = await events_of(await create(endpoint, "asking", "yes", **going_on))
    assert [event.type for event in second[:2]] == ["response.created", "response.in_progress"]
    assert second[-1].response.output_text == "refunded"

    rest = await events_of(
        await client.responses.retrieve(
            waiting.response.id, stream=True, starting_after=waiting.sequence_number
        )
    )
    assert rest[-1].response.output_text == "Refund?refunded"


async def test_request_sent_again_is_no_answer_to_the_question_that_it_led_to(endpoint):
    again = {"conversation": "t1", "extra_headers": {"Idempotency-Key": "k"}}
    asked = await create(endpoint, "asking", "yes", **again)

    assert await create(endpoint, "asking", "yes", **again) == asked
    assert (await create(endpoint, "asking", "yes", conversation="t1")).output_text == "refunded"


async def test_answer_sent_again_with_its_key_is_the_same_response(endpoint):
    asked = await create(endpoint, "asking", "I want my money")
    again = {"previous_response_id": asked.id, "extra_headers": {"Idempotency-Key": "k"}}
    done = await create(endpoint, "asking", "yes", **again)
    assert await create(endpoint, "asking", "yes", **again) == done
    assert done.output_text == "refunded"

    await create(endpoint, "echo", "another turn", previous_response_id=done.id)
    assert await create(endpoint, "asking", "yes", **again) == done
    assert len(await endpoint.runtime.runs()) == 2
    with pytest.raises(openai.BadRequestError) as caught:
        await create(endpoint, "asking", "no", **again)
    assert caught.value.code == "idempotency_key_reused"


async def test_answer_sent_again_is_no_answer_to_the_next_question(endpoint):
    in_conversation = {"conversation": "t1"}
    await create(endpoint, "asking_twice", "hi", **in_conversation)
    again = {**in_conversation, "extra_headers": {"Idempotency-Key": "k"}}
    asked = await create(endpoint, "asking_twice", "Ada", **again)
    assert asked.output_text == "Your town?"

    assert await create(endpoint, "asking_twice", "Ada", **again) == asked
    done = await create(endpoint, "asking_twice", "London", **in_conversation)
    assert done.output_text == "Ada of London"


async def test_question_is_answered_through_another_replica(opening, tmp_path):
    store = f"sqlite:///{tmp_path}/runs.db"
    async with opening(store) as one, opening(store) as two:
        asked = await create(one, "asking", "I want my money")
        going_on = {"model": "asking", "input": "yes", "previous_response_id": asked.id}
        async with two.client.responses.stream(**going_on) as stream:
            assert (await stream.get_final_response()).output_text == "refunded"
        rest = one.client.responses.stream(response_id=asked.id, starting_after=128)
        async with rest as stream:
            assert (await stream.get_final_response()).output_text == "Refund?refunded"


async def test_input_items_are_what_the_run_was_given(endpoint):
    given = [
        {"role": "user", "content": "a"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "c"}]},
    ]
    reply = await create(endpoint, "remembering", given)
    assert reply.output_text == "user: a | assistant: b"

    items = await endpoint.client.responses.input_items.list(reply.id, order="asc", limit=2)
    ResponseItemList.model_validate(items.to_dict())
    assert [(item.role, item.content[0].text) for item in items.data] == [
        ("user", "a"),
        ("assistant", "b"),
    ]
    assert [item.content[0].text async for item in items] == ["a", "b", "c"]


async def test_history_that_is_not_read_is_said_not_to_be(endpoint):
    given = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]

    assert "only the last message" in (await create(endpoint, "echo", given)).crew["note"]


async def test_deleted_response_is_gone(endpoint):
    reply = await create(endpoint, "echo", "hi")
    await endpoint.client.responses.delete(reply.id)

    with pytest.raises(openai.NotFoundError):
        await endpoint.client.responses.retrieve(reply.id)
    assert await endpoint.runtime.runs() == []


async def test_response_that_others_stand_on_is_not_deleted_by_itself(endpoint):
    first = await create(endpoint, "echo", "first", conversation="t1")
    await create(endpoint, "echo", "second", previous_response_id=first.id)

    with pytest.raises(openai.ConflictError, match="DELETE /v1/conversations/t1"):
        await endpoint.client.responses.delete(first.id)


async def test_response_that_runs_is_not_deleted(endpoint, gate, request):
    reply = await create(endpoint, "echo", request.node.name, background=True)

    with pytest.raises(openai.ConflictError, match=f"POST /v1/responses/{reply.id}/cancel"):
        await endpoint.client.responses.delete(reply.id)
    gate.set()


@pytest.mark.parametrize("id", ["resp_unknown", "resp_r1_2_3", "chatcmpl-1"])
async def test_unknown_response_is_not_found(endpoint, id):  # noqa: A002
    responses = endpoint.client.responses
    for attempt in (
        responses.retrieve(id),
        responses.cancel(id),
        responses.delete(id),
        responses.input_items.list(id),
        create(endpoint, "echo", "hi", previous_response_id=id),
    ):
        with pytest.raises(openai.NotFoundError, match=id):
            await attempt


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": "  "}, "input"),
        ({"input": [{"role": "system", "content": "x"}]}, "input"),
        ({"input": [{"type": "function_call_output", "role": "user"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
        ({"store": False}, "store"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"instructions": "Be brief."}, "instructions"),
        ({"metadata": {"a": 7}}, "metadata.a"),
        ({"metadata": {"when_busy": "x"}, "conversation": "t"}, "metadata.when_busy"),
        ({"conversation": ""}, "conversation"),
        ({"conversation": "t", "previous_response_id": "resp_r"}, "previous_response_id"),
    ],
)
async def test_what_cannot_be_true_is_refused_where_it_stands(endpoint, given, param):
    body = {"model": "echo", "input": "hi", **given}
    with pytest.raises(openai.BadRequestError) as caught:
        await endpoint.client.post("/responses", body=body, cast_to=object)

    assert caught.value.param == param
    assert await endpoint.runtime.runs() == []


async def test_settings_of_sampling_are_ignored(endpoint):
    ignored = {"temperature": 0.5, "max_output_tokens": 9, "reasoning": {"effort": "low"}}

    assert (await create(endpoint, "echo", "hi", **ignored)).output_text == "hi (0 before)"


async def test_typed_input_that_is_none_names_the_input(endpoint):
    with pytest.raises(openai.BadRequestError, match="must be a Order as JSON") as caught:
        await create(endpoint, "ordering", "tea, please")

    assert caught.value.param == "input"


async def test_title_that_a_front_end_wants_starts_no_run(endpoint):
    prompt = '### Task:\nGenerate a title.\nJSON format: { "title": "…" }\n'
    reply = await create(endpoint, "echo", prompt)
    events = await events_of(await create(endpoint, "echo", prompt, stream=True))

    assert json.loads(reply.output_text) == {"title": "Chat"}
    assert events[-1].response.output_text == reply.output_text
    assert await endpoint.runtime.runs() == []


async def test_quiet_stream_is_kept_open_by_comments_and_its_events_have_names(
    tmp_path, opening, gate, request
):
    async with opening(f"sqlite:///{tmp_path}/runs.db", heartbeat=0.05) as endpoint:
        raw = endpoint.client.responses.with_streaming_response
        async with raw.create(model="echo", input=request.node.name, stream=True) as response:
            seen = b""
            async for part in response.iter_bytes():
                seen += part
                if seen.count(b": ping\n\n") == 2:
                    gate.set()

    assert seen.startswith(b"event: response.created\ndata: {")
    assert b"event: response.completed\n" in seen


async def test_run_of_another_door_is_a_response_too(endpoint):
    chat = await endpoint.ask("echo", "hi")
    response = await endpoint.client.responses.retrieve(f"resp_{chat.crew['run_id']}")

    Response.model_validate(response.to_dict())
    assert response.output_text == "hi (0 before)"
    with pytest.raises(openai.ConflictError, match="crew prune"):
        await endpoint.client.responses.delete(response.id)
