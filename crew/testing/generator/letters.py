"""Letters that people post while no process has a program's runs."""

import asyncio
import contextlib
import math
import random

from crew.call.lineage import as_key
from crew.errors import AskError
from crew.journal import Store
from crew.run import Runtime
from crew.testing.generator.calls import weight
from crew.testing.generator.history import APPROVAL, History, key_of
from crew.testing.generator.world import UNANSWERED, ProgramLoop, World
from crew.testing.quiet import quiet

MARGIN_SECONDS = 1.0
"""How long before a deadline, or after it, something is done."""


def answer_to(path: str) -> int | bool:
    """Return what people say to the question at a path."""
    said = weight(key_of(path))
    return said % 3 > 0 if path.endswith(f"/{APPROVAL}") else said


def is_unanswered(path: str) -> bool:
    """Return whether nobody answers the question at a path in its time."""
    return key_of(path).startswith(as_key(UNANSWERED))


def last_deadline(held: History) -> float | None:
    """Return when the last open question is closed, if nothing else has a deadline."""
    questions = {(number, key_of(path)) for number, path in held.questions}
    of_questions = {
        (number, key_of(path.removesuffix("/:timeout"))) for number, path in held.deadlines
    }
    return max(held.deadlines.values()) if held.deadlines and of_questions <= questions else None


def post(seed: int, store: Store, held: History, *, now: float) -> None:
    """Answer all open questions: those that nobody answers in time once they are closed.

    Args:
        seed: of the event loop.
        store: where the runs are, which nobody drives.
        held: what is on disk of them.
        now: in unix seconds.
    """
    for number, path in held.questions:
        closed = (until for place, until in held.deadlines.items() if place[1].startswith(path))
        at = next(closed) + MARGIN_SECONDS if is_unanswered(path) else now
        world = World(random.Random(seed))  # noqa: S311  it chooses delays
        loop = ProgramLoop(seed, world, limit=math.inf, began=at)
        with asyncio.Runner(loop_factory=lambda loop=loop: loop) as runner, quiet():
            runner.run(_answer(store, number, path))


async def _answer(store: Store, number: int, path: str) -> None:
    row = store.numbered(number)
    assert row is not None
    async with Runtime(store, worker=False) as runtime:
        with contextlib.suppress(AskError):  # that it is too late may be said at once
            await (await runtime.get(row.id)).answer(path, answer_to(path))
