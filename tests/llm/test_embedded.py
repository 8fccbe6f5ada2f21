"""The real engine on the real small model."""

import asyncio
import json
import pickle
import subprocess
import sys
import time

import pytest
from pydantic import BaseModel, Field

from crew import Agent, Fallback, Image, OpenAIModel, tool
from crew.errors import ModelError
from crew.llm import ModelRequest, ToolSpec
from crew.llm.embedded import EmbeddedModel
from crew.llm.llamacpp import Engine, usable_cores
from crew.message import Message

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


class Person(BaseModel):
    name: str = Field(max_length=12)
    age: int


@tool(effect="read")
async def look_up(name: str) -> str:
    """Return what is known of a person."""
    return f"nothing is known of {name}"


def shared(seed: str, rules: int = 40) -> Message:
    """A system prompt of about 16 tokens a rule."""
    text = " ".join(f"Rule {i} of {seed}: be kind and brief, number {i * 7}." for i in range(rules))
    return Message("system", text)


def ask(text: str, *before: Message, max_tokens: int = 4, **rest) -> ModelRequest:
    return ModelRequest((*before, Message("user", text)), max_tokens=max_tokens, **rest)


@pytest.fixture(scope="module")
def path(weights):
    return str(weights)


@pytest.fixture
async def model(path):
    model = EmbeddedModel(path)
    yield model
    await model.close()


async def test_it_answers_streams_and_counts(model):
    pieces: list[str] = []
    reply = await model.complete(
        ask("What is the capital of France?", max_tokens=20), on_text=pieces.append
    )
    assert "Paris" in reply.text
    assert "".join(pieces) == reply.text
    assert len(pieces) > 3
    assert (reply.usage.calls, reply.usage.output_tokens > 3) == (1, True)


async def test_a_schema_binds_the_output(model):
    reply = await model.complete(ask("Give me a person.", max_tokens=60, schema=SCHEMA))
    assert set(json.loads(reply.text)) == {"name", "age"}


async def test_an_answer_cut_at_its_limit_says_so(model):
    assert (await model.complete(ask("Tell a long story."))).finish_reason == "length"


async def test_a_request_longer_than_the_context_says_what_to_shorten(model):
    with pytest.raises(ModelError, match=r"\d+ tokens long .* 4096 .*shorten") as caught:
        await model.complete(ask("word " * 6000))
    assert caught.value.status == 400


async def test_a_schema_that_is_none_is_refused(model):
    with pytest.raises(ModelError, match="schema cannot be used"):
        await model.complete(ask("x", schema={"type": "nonsense"}))


async def test_a_turn_reads_only_what_is_new(model):
    question = Message("user", "Say hi.")
    before = (shared("turns"), question)
    first = await model.complete(ModelRequest(before, max_tokens=8))
    history = (*before, Message("assistant", first.text))
    second = await model.complete(ask("And again.", *history))
    new = second.usage.input_tokens - second.usage.cached_tokens
    assert new <= 8 + 16 + 16


async def test_agents_that_share_a_prefix_read_it_once(model):
    requests = [ask(f"Say {word}.", shared("gate")) for word in ("one", "two", "three", "four")]
    replies = await asyncio.gather(*(model.complete(request) for request in requests))
    cached = sorted(reply.usage.cached_tokens for reply in replies)
    length = replies[0].usage.input_tokens
    assert cached[0] < 50
    assert all(tokens > length - 20 for tokens in cached[1:])


async def test_different_prefixes_are_computed_side_by_side(model):
    requests = [ask("Go on.", shared(seed, 10), max_tokens=30) for seed in ("left", "right")]
    seen: list[int] = []
    await asyncio.gather(
        *(
            model.complete(request, on_text=lambda _, i=i: seen.append(i))
            for i, request in enumerate(requests)
        )
    )
    assert seen.index(1) < len(seen) - 1 - seen[::-1].index(0)


@pytest.mark.parametrize("moment", [0.3, 1.2])
async def test_cancelling_stops_the_engine_long_before_its_answer_ends(model, moment):
    await model.complete(ask("warm"))
    long = ask("Tell a long story.", shared(f"cancel {moment}", 15), max_tokens=2000)
    task = asyncio.create_task(model.complete(long))
    await asyncio.sleep(moment)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slots = model._engine._gate._slots
    while any(slot.holder for slot in slots):
        await asyncio.sleep(0.01)
        assert time.monotonic() - started < 10  # the whole answer takes far longer


async def test_a_follower_goes_on_when_its_leader_is_cancelled(model):
    prefix = shared("lost leader", 25)
    leader = asyncio.create_task(model.complete(ask("a", prefix, max_tokens=500)))
    await asyncio.sleep(0.2)
    follower = asyncio.create_task(model.complete(ask("b", prefix)))
    await asyncio.sleep(0.1)
    leader.cancel()
    assert (await asyncio.wait_for(follower, 20)).usage.output_tokens == 4


async def test_one_engine_serves_all_models_of_a_file_and_is_freed_by_the_last(path):
    first, second = EmbeddedModel(path), EmbeddedModel(path)
    await asyncio.gather(first.complete(ask("a")), second.complete(ask("b")))
    engine = first._engine
    assert engine is second._engine
    await first.close()
    await first.close()
    await second.complete(ask("c"))
    await second.close()
    with pytest.raises(ModelError, match="closed"):
        await engine.load()


async def test_a_closed_model_opens_again_when_asked(model):
    await model.complete(ask("a"))
    await model.close()
    assert (await model.complete(ask("b"))).text


async def test_a_pickled_model_loads_its_own_engine(model):
    await model.complete(ask("a"))
    copy = pickle.loads(pickle.dumps(model))
    assert copy._engine is None
    assert (await copy.complete(ask("b"))).usage.calls == 1
    await copy.close()


def test_one_engine_serves_one_event_loop_after_another(path):
    model = EmbeddedModel(path)
    replies = [asyncio.run(model.complete(ask("a"))) for _ in range(2)]
    assert replies[0].text == replies[1].text
    asyncio.run(model.close())


async def test_closing_while_it_computes_ends_the_request_with_an_error(weights):
    engine = Engine(weights)
    body = {"messages": [{"role": "user", "content": "Tell a story."}], "max_tokens": 2000}
    task = asyncio.create_task(engine.chat(body))
    await asyncio.sleep(1.5)
    await engine.close()
    with pytest.raises(ModelError, match="closed"):
        await asyncio.wait_for(task, 5)


async def test_more_requests_than_slots_are_all_answered(weights):
    engine = Engine(weights, slots=2, context_tokens=256)
    bodies = [
        {"messages": [{"role": "user", "content": f"{i}"}], "max_tokens": 3} for i in range(6)
    ]
    replies = await asyncio.wait_for(asyncio.gather(*map(engine.chat, bodies)), 30)
    await engine.close()
    assert all(reply["choices"][0]["message"]["content"] for reply in replies)


async def test_cancelled_requests_leave_the_others_running(weights):
    engine = Engine(weights, slots=2, context_tokens=512)
    prefix = shared("crowd", 12)
    system = {"role": "system", "content": prefix.text}
    bodies = [
        {"messages": [system, {"role": "user", "content": f"{i}"}], "max_tokens": 3 + 40 * (i % 3)}
        for i in range(9)
    ]
    tasks = [asyncio.create_task(engine.chat(body)) for body in bodies]
    for doomed in tasks[::2]:
        await asyncio.sleep(0.15)
        doomed.cancel()
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 40)
    await engine.close()
    assert all(isinstance(reply, dict) for reply in done[1::2])


async def test_a_model_not_made_for_tools_says_so_once(model, caplog):
    tools = (ToolSpec("search", "Finds.", {"type": "object", "properties": {}}),)
    for _ in range(2):
        assert (await model.complete(ask("Search.", tools=tools))).tool_calls == ()
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "CREW_BASE_URL" in warnings[0].getMessage()
    assert len(warnings) == 1


async def test_an_agent_with_tools_gets_its_typed_answer(model):
    agent = Agent(
        "agent", model=model, output=Person, tools=[look_up], max_tokens=60, temperature=0.0
    )
    answer = await agent.run("Make up a person.")
    assert isinstance(answer.output, Person)


async def test_images_are_refused_by_name_of_the_model(model):
    agent = Agent("agent", model=model)
    with pytest.raises(ModelError, match=r"SmolLM2.* at the embedded engine takes no images"):
        await agent.run(["What is this?", Image(b"\x89PNG", "image/png")])


async def test_a_conversation_without_instructions_gets_a_plain_one(weights):
    engine = Engine(weights)
    question = {"role": "user", "content": "What is the capital of France?"}
    plain = {"role": "system", "content": "You are a helpful assistant. Answer briefly."}
    rest = {"max_tokens": 8, "temperature": 0}
    bare = await engine.chat({"messages": [question], **rest})
    said = await engine.chat({"messages": [plain, question], **rest})
    await engine.close()
    assert bare["choices"] == said["choices"]
    assert said["usage"]["prompt_tokens"] == bare["usage"]["prompt_tokens"]


@pytest.mark.parametrize("how", ["return", "sys.exit(3)", "os._exit(3)"])
def test_a_process_may_end_while_it_computes(path, how):
    code = f"""
import asyncio, os, sys
from crew.llm import ModelRequest, ToolSpec
from crew.llm.embedded import EmbeddedModel
from crew.message import Message
async def main():
    model = EmbeddedModel({path!r})
    story = ModelRequest((Message("user", "Tell a story."),), max_tokens=2000)
    task = asyncio.create_task(model.complete(story, on_text=lambda _: started.set()))
    await started.wait()
    {how}
started = asyncio.Event()
asyncio.run(main())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode == (0 if how == "return" else 3), done.stderr


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1)])
def test_a_container_that_may_use_one_core_gets_one(tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path / "cpu.max") == cores


def test_without_a_quota_all_cores_count(tmp_path):
    (tmp_path / "cpu.max").write_text("max 100000")
    assert usable_cores(tmp_path / "cpu.max") == usable_cores(tmp_path / "none") >= 1


async def test_a_file_that_is_no_model_is_refused(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and nothing more")
    model = EmbeddedModel(str(broken))
    with pytest.raises(ModelError, match=r"cannot load .*broken\.gguf"):
        await model.complete(ask("a"))
    await model.close()


async def test_it_stands_in_for_an_endpoint_that_is_gone(path, closed_port):
    gone = OpenAIModel("m", base_url=f"http://127.0.0.1:{closed_port}/v1", max_attempts=1)
    agent = Agent("agent", model=Fallback(gone, EmbeddedModel(path)), max_tokens=4)
    answer = await agent.run("Say hello.")
    assert answer.output
    assert answer.usage.output_tokens <= 4
