"""Who goes on with a conversation: the agent that it was handed on to, in the turns that follow.

Of each agent that a turn calls, its thread's state says who has the conversation by now. Agents
that tools ask, and those that get `messages=`, are asked beside it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeGuard

from crew.call.driven import Driven
from crew.call.record import AgentTask, Performer
from crew.content import Content, split
from crew.message import Json, Message
from crew.thread import OWN, Compaction
from crew.value.changes import Changes, joined

__all__ = ["converses", "leading", "noted", "task_of"]


class HandsOn(Performer, Protocol):
    """An agent that may hand a conversation on."""

    def reached(self, name: str, around: Sequence[str] = ()) -> Performer | None:
        """Return the agent of this name, of those that conversations are handed on to, or None."""
        ...


def leading(driver: Driven, front: HandsOn, path: str) -> Performer:
    """Return who has the conversation that `front` is called for, at `path`.

    One that is no more, or that nobody hands on to any more, has it no longer.
    """
    name = driver.performer_at(path) or driver.thread_view().values.get(_name(front))
    if name is None or name == front.name:
        return front
    return front.reached(name) or front


async def noted(
    driver: Driven,
    front: Performer,
    lead: Performer,
    work: Callable[[], Awaitable[dict[str, Json]]],
) -> dict[str, Json]:
    """Return what the work of `lead` comes to, with who has the conversation from now on."""
    result = await work()
    name, now = _name(front), result.get("agent", lead.name)
    changes: Changes = {}
    if driver.thread_view().values.get(name, front.name) != now:
        changes = {"removed": [name]} if now == front.name else {"set": {name: now}}
    changes = joined(result.get("thread", {}), changes)
    if lead is not front:
        result = {**result, "agent": now}
    return {**result, "thread": changes} if changes else result


def converses(agent: Performer, driver: Driven) -> TypeGuard[HandsOn]:
    """Return whether an agent that the code of an attempt calls may hand its thread's turns on."""
    in_step = driver.attempt.outer is None
    return in_step and driver.thread_id is not None and getattr(agent, "hands_on", False)


def _name(front: Performer) -> str:
    return f"{OWN}agent{OWN}{front.name}"


def task_of(
    driver: Driven,
    agent: Performer,
    path: str,
    content: Content,
    history: tuple[Message, ...],
    compacted: Compaction | None,
    *,
    emit: bool,
) -> AgentTask:
    """Return the work of an agent's call at `path`."""
    text, parts = split(content)
    return AgentTask(
        driver.run_id,
        path,
        text,
        history,
        f"{driver.thread_id or driver.run_id}/{agent.name}",
        driver.epoch,
        emit,
        driver.tenant,
        driver.limits_amounts(path),
        parts,
        compacted=compacted,
    )
