"""A run's events as they go over the wire: one JSON form, and a stream of it."""

import asyncio
from collections.abc import AsyncIterator

from crew.errors import CrewError
from crew.fold import Event, readable
from crew.message import Json
from crew.run import Run
from crew.value import json_text
from serving.access.addressed import IsFor
from serving.chat.frames import PING
from serving.chat.tail import Outcome, watch
from serving.http.errors import ApiError

__all__ = ["event_frames", "event_shape"]


def event_shape(event: Event, is_mine: IsFor) -> dict[str, Json]:
    """One event as JSON, for a reader whom the questions are for of which `is_mine` says so."""
    place = {"offset": event.offset, "kind": event.kind, "path": event.path}
    return {**place, "data": readable(event, is_mine), "at": event.at}


async def event_frames(
    run: Run, *, after: int, heartbeat: float, closing: asyncio.Event, is_mine: IsFor
) -> AsyncIterator[bytes]:
    """The stream of a run's events behind `after`, with a comment in each `heartbeat` of silence.

    It ends after the run's last event. When it breaks off before, the reader comes back with the
    last offset it saw, and is told by a status what the matter is.
    """
    yield PING  # the status goes out with the first bytes, and a run may be quiet for long
    try:
        after = min(after, await run.offset())
        batches = watch(run, Outcome(), after=after, idle=heartbeat, closing=closing, to_rest=False)
        async for batch in batches:
            yield b"".join(_frame(event, is_mine) for event in batch) or PING
    except (ApiError, CrewError):
        return


def _frame(event: Event, is_mine: IsFor) -> bytes:
    return f"id: {event.offset}\ndata: {json_text(event_shape(event, is_mine))}\n\n".encode()
