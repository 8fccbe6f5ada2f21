"""What an agent is given of the earlier turns of its run's thread."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias, cast

from crew.call.driven import Driven
from crew.call.record import Performer
from crew.message import Message
from crew.thread import NO_COMPACTION, Compaction, Thread, after_turns

__all__ = ["EarlierTurns", "earlier_turns"]

EarlierTurns: TypeAlias = tuple[tuple[Message, ...], Compaction | None]
"""What was said in turns, and what stands for those before; None where they are no thread's."""


class Seeing(Protocol):
    """What is needed of a `crew.History`."""

    @property
    def tools(self) -> bool: ...


def earlier_turns(driver: Driven, agent: Performer, front: Performer) -> EarlierTurns:
    """Return the turns before this one that an agent has to see, and what stands for those before.

    Args:
        driver: that of the attempt.
        agent: who works.
        front: in whose name it does: what that one sees, it sees, too.
    """
    history = cast("Seeing", agent.history or front.history)
    thread = driver.thread()
    compaction, messages = _compacted(driver, agent.name, thread)
    if history.tools:
        return tuple(_with_tools(driver, agent.name, thread, messages)), compaction
    return messages, compaction


def _compacted(
    driver: Driven, agent: str, thread: Thread
) -> tuple[Compaction, tuple[Message, ...]]:
    """Return what was compacted of a thread, and the messages after it.

    One that reaches beyond the thread is of another branch of it.
    """
    if driver.thread_id is None or not thread.messages:
        return NO_COMPACTION, thread.messages
    kept = driver.thread_view().values.get(Compaction.name(agent))
    compaction = NO_COMPACTION if kept is None else Compaction(**kept)
    messages = after_turns(thread.messages, compaction.turns)
    return (NO_COMPACTION, thread.messages) if messages is None else (compaction, messages)


def _with_tools(
    driver: Driven, agent: str, thread: Thread, messages: Sequence[Message]
) -> Iterator[Message]:
    """Yield messages with the calls of tools, each before the answer that was made of them."""
    asked = sum(message.role == "user" for message in messages)
    # What was said before the first turn was said in no run.
    runs = [0] * asked + list(thread.runs)
    left = iter(runs[len(runs) - asked :])
    for message in messages:
        yield message
        if message.role == "user" and (run := next(left)):
            yield from driver.spoken(run, agent)
