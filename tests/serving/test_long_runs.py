"""What the endpoint and the command line read of a long run."""

import asyncio
import json
from contextlib import aclosing

from serving.access.caller import Caller
from serving.access.limits import Limits, Tally, Usage
from serving.chat.asks import give_answer
from serving.runs.events import event_frames
from serving.runs.handlers import _run_data
from tests.long_runs import FEW, kept, long_run

__all__ = ["kept", "long_run"]


def anybody(to: str | None) -> bool:
    """Everything is for this reader."""
    return True


async def test_a_stream_of_events_behind_an_offset_reads_those(long_run):
    _, store, run = long_run
    last, store.read = await run.offset(), 0
    frames = event_frames(
        run, after=last - 5, heartbeat=60.0, closing=asyncio.Event(), is_mine=anybody
    )
    async with aclosing(frames):
        told = [await anext(frames), await anext(frames)][1].decode()
    offsets = [json.loads(line[6:])["offset"] for line in told.splitlines() if line[:5] == "data:"]
    assert offsets == list(range(last - 4, last + 1))
    assert store.read < FEW


async def test_a_second_look_at_a_long_run_reads_what_is_new(long_run):
    _, store, run = long_run
    first, store.read = await _run_data(run, anybody), 0
    assert await _run_data(run, anybody) == first
    assert [question["key"] for question in first["questions"]] == ["go"]
    assert store.read < FEW


async def test_an_answer_in_a_chat_reads_the_tail_alone(long_run):
    runtime, store, run = long_run
    usage = Usage(Limits(), Tally())
    caller = Caller(runtime, "default", key=None, usage=usage, closing=asyncio.Event())
    store.claim_owner("server")
    store.serve("server", [("chatty", "1")])  # somebody drives such runs
    (question,) = await run.questions()
    last, store.read = await run.offset(), 0
    given = await give_answer(caller, run, question, "yes", key="chat")
    store.release_owner("server")
    assert (given.offset, given.path) == (last, question.path)
    assert store.read < FEW
