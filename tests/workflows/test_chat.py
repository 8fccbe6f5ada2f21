"""The bundled chat streams, remembers, and goes on in mid-sentence when its engine dies."""

import asyncio
from dataclasses import replace

import pytest

from crew import Runtime
from crew.config import Settings
from serving.gallery import load_workflow
from tests.engine import Engine, text_of


@pytest.fixture
async def engine():
    engine = Engine(words=40, pace=200)
    engine.port = await engine.serve()
    yield engine
    engine.die()


def settings(tmp_path, engine) -> Settings:
    url = f"http://127.0.0.1:{engine.port}/v1"
    return replace(Settings(), store=f"sqlite:///{tmp_path}/runs.db", base_url=url, model="numbers")


def said(events) -> str:
    assert not any(event.kind == "text.discarded" for event in events)
    return "".join(e.data["text"] for e in events if e.kind == "text.emitted")


async def test_a_chat_streams_and_remembers(tmp_path, engine):
    chat = load_workflow("chat")
    async with Runtime(settings=settings(tmp_path, engine)) as runtime:
        first = await runtime.start(chat, "one", thread="t")
        assert await first.result() == text_of(40) == said(await first.recorded())
        second = await runtime.start(chat, "two", thread="t")
        await second.result()
    asked = [message["content"] for message in engine.requests[1]["messages"]]
    assert asked[1:] == ["one", text_of(40), "two"]


async def test_an_engine_that_dies_in_mid_sentence_costs_no_character(tmp_path, engine):
    chat = load_workflow("chat")
    async with Runtime(settings=settings(tmp_path, engine)) as runtime:
        run = await runtime.start(chat, "one")
        while "w9 " not in said(await run.recorded()):
            await asyncio.sleep(0.01)
        engine.die()
        await asyncio.sleep(0.1)
        await engine.serve(engine.port)
        assert await run.result() == text_of(40)
        assert said(await run.recorded()) == text_of(40)
    assert engine.requests[1]["messages"][-1]["content"].startswith("w0 w1 w2")
