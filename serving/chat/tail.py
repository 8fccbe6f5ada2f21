"""The tail of a run's journal, as far as the one who asked wants to wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

from crew.errors import RunCancelled, RunFailed
from crew.fold import Ending, Event, Failure, Questions, fold
from crew.run import Run
from serving.chat.stuck import parked_error
from serving.http.errors import ApiError, from_crew

__all__ = ["Outcome", "watch"]

_LOOK_SECONDS = 0.25  # how often a run with an open question is asked whether it waits
_MAX_QUEUED_BATCHES = 16  # a slow reader holds back the tail, never the run


@dataclass
class Outcome:
    """What a run's events so far come to.

    `pending` is the path of a question that was just answered, until the run has taken or refused
    the answer.
    """

    questions: Questions = field(default_factory=Questions)
    ending: Ending = field(default_factory=Ending)
    pending: str = ""

    def add(self, event: Event) -> None:
        if event.path == self.pending:
            self.pending = ""
        fold([event], self.questions, self.ending)

    @property
    def has_ended(self) -> bool:
        return self.ending.is_final

    @property
    def waits(self) -> bool:
        """Whether a person has to do something, as far as the events tell."""
        return bool(self.questions.open or self.ending.parked) and not self.pending

    def error(self, run: str) -> ApiError | None:
        """The error that an end without an answer is."""
        match self.ending:
            case Ending(error=Failure() as error):
                return from_crew(_failure(run, error))
            case Ending(kind="cancelled"):
                return from_crew(RunCancelled(run=run))
            case Ending(parked=parked) if parked is not None:
                return parked_error(run, f"{parked.reason}: {parked.detail}")
            case _:
                return None


def _failure(run: str, error: Failure) -> RunFailed:
    return RunFailed(run=run, path=error.path, cause_type=error.type, cause_message=error.message)


def _stopping(run: str) -> ApiError:
    return ApiError(
        status=503,
        message=f"the server stops; the run is kept, go on with it by: crew resume {run}",
        type="server_error",
        code="server_stopping",
    )


async def watch(
    run: Run,
    outcome: Outcome,
    *,
    after: int,
    idle: float,
    closing: asyncio.Event,
    to_rest: bool = True,
) -> AsyncIterator[list[Event]]:
    """Yield the run's events behind `after`, those that arrived together in one list.

    Ends after the last event, or when the run waits for a person: then nobody knows how long.

    Args:
        run: whose tail.
        outcome: takes in every event before it is yielded.
        after: the offset of the last event that is known already.
        idle: seconds of silence after which an empty list is yielded, so that a reader can show
            that the connection lives.
        closing: set when the server stops.
        to_rest: whether it ends when the run waits for a person; else after the last event alone.

    Raises:
        ApiError: the server stops.
    """
    queue: asyncio.Queue[list[Event] | None] = asyncio.Queue(_MAX_QUEUED_BATCHES)
    pump = asyncio.create_task(_pump(run, after, queue))
    stopping = asyncio.create_task(closing.wait())
    stopping.add_done_callback(lambda _: pump.cancel())
    pump.add_done_callback(lambda _: _cut(queue, pump))
    try:
        quiet = 0.0
        while not outcome.has_ended:
            patience = min(_LOOK_SECONDS, idle) if to_rest and outcome.waits else idle
            events = await _together(queue, patience)
            if events is None:
                if closing.is_set():
                    raise _stopping(run.id)
                await pump  # raises what ended the tail early
                return
            for event in events:
                outcome.add(event)
            quiet = 0.0 if events else quiet + patience
            if events or quiet >= idle:
                quiet = 0.0
                yield events
            if to_rest and not events and outcome.waits and await run.status() == "waiting":
                return
    finally:
        stopping.cancel()
        pump.cancel()
        await asyncio.gather(pump, stopping, return_exceptions=True)


async def _pump(run: Run, after: int, queue: asyncio.Queue[list[Event] | None]) -> None:
    async with aclosing(run.batches(after)) as batches:
        async for batch in batches:
            await queue.put(batch)
    await queue.put(None)


def _cut(queue: asyncio.Queue[list[Event] | None], pump: asyncio.Task[None]) -> None:
    """Wake the reader of a tail that broke off: what it has not read yet is not worth reading."""
    if pump.cancelled() or pump.exception() is not None:
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


def _wake(queue: asyncio.Queue[list[Event] | None]) -> None:
    if queue.empty():
        queue.put_nowait([])


async def _together(
    queue: asyncio.Queue[list[Event] | None], patience: float
) -> list[Event] | None:
    """Wait for events and take all that came with them; empty after `patience`, None at the end."""
    timer = asyncio.get_running_loop().call_later(patience, _wake, queue)
    try:
        events = await queue.get()
    finally:
        timer.cancel()
    if events is None:
        return None
    while not queue.empty():
        more = queue.get_nowait()
        if more is None:
            queue.put_nowait(None)
            break
        events = events + more
    return events
