"""Which branch of a conversation a client goes on with, by the copy of it that the client sends.

A front end that lets its user ask again, or change an earlier message, sends the messages that come
before; and names the same conversation each time. So what was said here is compared with the copy,
turn by turn, over the conversation and all of its branches. A branch is never a mixed one: it
begins with the turns that both have, and goes on with what the client's copy has beyond them.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from crew.errors import InputInvalid
from crew.message import Message
from crew.run import Tenant
from crew.thread import Branch
from serving.conversations.comparing import Turn, follow, is_same
from serving.conversations.items import by_turn, turns_of

__all__ = ["Place", "branch_of"]

MOST_DEEP = 16
"""Branches that stand on each other; a further one begins with all of the client's copy."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A conversation as it was read."""

    branch: Branch
    turns: Sequence[Turn]

    @property
    def name(self) -> str:
        return self.branch.id

    @property
    def last(self) -> int:
        """The number of its last turn."""
        return self.turns[-1].number if self.turns else max(0, self.branch.turn)


@dataclass(frozen=True, slots=True)
class Place:
    """The thread on which a client goes on.

    `behind` is the number of the turn that its next one comes behind; None if it does not matter.
    """

    thread: str
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a conversation: behind turn number `turn` of a thread (-1: before anything).

    Args:
        thread: the conversation's name.
        turn: what both share.
        read: how many messages of the client's copy come before it.
        sure: how many answers of it are those of the turns.
        is_last: whether the conversation ends there.
        depth: how many branches it stands on.
    """

    thread: str
    turn: int = -1
    read: int = 0
    sure: int = 0
    is_last: bool = False
    depth: int = 0


async def branch_of(
    tenant: Tenant, thread: str, copy: Sequence[Message], *, key: str | None
) -> Place:
    """Return the place in a conversation that is behind a client's copy of it.

    It is on that one itself, or one of its branches, or a new branch, which is kept. What came
    there since may be found out by starting `behind` it.

    Args:
        tenant: whose conversation it is.
        thread: its name.
        copy: what user and assistant said in it before this turn, as the client has it.
        key: the idempotency key of the request: sent again it has the thread of the first time.
    """
    branches = await tenant.branches(thread)
    if key is None and len(branches) == 1 and (last := await _end(tenant, thread, copy)):
        return Place(thread, last)
    family = [await _told(tenant, branch) for branch in branches]
    for told in family:
        if key is not None and await _has_come(tenant, told, key):
            return Place(told.name)
    if len(family) == 1 and not family[0].turns and not family[0].branch.opening:
        return await _opened(tenant, thread, copy, key)
    best = await _best_place(family, copy)
    if best.read < len(copy):
        for told in reversed(family):
            if await _ends_alike(told, copy):
                return Place(told.name, told.last)
    if best.read == len(copy) and best.is_last:
        last = next(told.last for told in family if told.name == best.thread)
        return Place(best.thread, last)
    return await _branched(tenant, family[0].name, best, copy, key)


async def _has_come(tenant: Tenant, told: _Told, key: str) -> bool:
    """Return whether a request of this idempotency key has begun a turn, or answered a question."""
    if any(turn.run.key == key for turn in told.turns):
        return True
    return await tenant.answered(key, thread=told.name) is not None


async def _end(tenant: Tenant, thread: str, copy: Sequence[Message]) -> int | None:
    """Return the number of a conversation's last turn if a copy is all of it, as it mostly is."""
    newest = await tenant.runs(thread=thread, limit=1)
    whole = (await tenant.thread(thread)).messages
    is_all = _are_same(whole, copy) and bool(whole) and whole[-1].role == "assistant"
    return newest[0].turn if newest and is_all else None


def _are_same(mine: Sequence[Message], others: Sequence[Message]) -> bool:
    return len(mine) == len(others) and all(
        one.role == other.role and is_same(one.content, other.content)
        for one, other in zip(mine, others, strict=True)
    )


async def _told(tenant: Tenant, branch: Branch) -> _Told:
    turns, whole = await turns_of(tenant, branch.id), await tenant.thread(branch.id)
    said = by_turn(whole.messages[whole.opening :])
    return _Told(branch, [Turn(run, it) for run, it in zip(turns, said, strict=False)])


async def _opened(tenant: Tenant, thread: str, copy: Sequence[Message], key: str | None) -> Place:
    """Begin a conversation of which nothing is known here, with what the client has of it."""
    if not copy:
        return Place(thread, 0)
    try:
        await tenant.open_thread(thread, copy)
    except InputInvalid:  # it is kept for its metadata, or somebody was faster
        return await _branched(tenant, thread, _Place(thread), copy, key)
    return Place(thread, 0)


async def _best_place(family: Sequence[_Told], copy: Sequence[Message]) -> _Place:
    """Return where a conversation and its branches have the most of a copy in common with it."""
    start = _Place(family[0].name)
    places = dict[str, list[_Place]]()
    for told in family:
        before = [start] if told.branch.base is None else places[told.branch.base]
        turn = told.branch.turn if told.branch.base is not None else start.turn
        base = start if turn == start.turn else next((p for p in before if p.turn == turn), None)
        places[told.name] = [] if base is None else await _along(told, base, copy)
    # Of ends that are the same to the client it was at the newest, which stands last; what is no
    # end is best taken from the conversation that stands on the fewest others.
    found = [start, *(place for these in places.values() for place in these)]
    _, best = max(enumerate(found), key=lambda item: _rank(*item))
    return best


def _rank(number: int, place: _Place) -> tuple[int, int, bool, int, int]:
    nearer = number if place.is_last else -place.depth
    return place.read, place.sure, place.is_last, nearer, place.turn


async def _along(told: _Told, base: _Place, copy: Sequence[Message]) -> list[_Place]:
    """Return the places in one conversation, as far as it and the copy are the same.

    No turn may be the base of a branch that has not ended; what a copy has behind its beginning is
    taken to be its own.
    """
    opening, end = told.branch.opening, base.read + len(told.branch.opening)
    if not _are_same(opening, copy[base.read : end]):
        return []
    number = max(0, told.branch.turn)
    depth = base.depth + (told.branch.base is not None)
    place = replace(base, thread=told.name, turn=number, read=end, depth=depth)
    found = [replace(place, is_last=number == told.last)]
    for turn in told.turns:
        step = await follow(turn, copy, place.read)
        if step is None:
            break
        sure = place.sure + step.is_sure
        place = replace(place, turn=turn.number, read=step.end, sure=sure)
        ends = turn.answer is None or turn.number == told.last
        found.append(replace(place, is_last=ends))
        if turn.answer is None:
            break
    return found


async def _ends_alike(told: _Told, copy: Sequence[Message]) -> bool:
    """Return whether a conversation ends as a copy does that begins in the middle of it."""
    first = next((at for at, message in enumerate(copy) if message.role == "user"), len(copy))
    for begin in range(len(told.turns)):
        at = first
        for turn in told.turns[begin:]:
            step = await follow(turn, copy, at)
            if step is None:
                break
            at = step.end
        else:
            if at == len(copy):
                return True
    return first == len(copy) and bool(told.turns)


async def _branched(
    tenant: Tenant, root: str, place: _Place, copy: Sequence[Message], key: str | None
) -> Place:
    turn, rest = (-1, copy) if place.depth >= MOST_DEEP else (place.turn, copy[place.read :])
    mark = hashlib.sha256(key.encode()).hexdigest()[:16] if key else secrets.token_hex(8)
    name = f"{root}~~{mark}"
    await tenant.branch_thread(name, rest, base=place.thread, turn=turn)
    return Place(name, max(0, turn))
