"""A conversation: the ordered messages of a thread's turns, read from their runs' journals."""

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from crew.content import content_data, content_from, content_in
from crew.fold import Ending, Origin, folded
from crew.journal import OPEN, RunRow, Store, ThreadRow
from crew.journal.reading import JournalReader
from crew.message import Message, message_with
from crew.value import text_of

MOST_REMEMBERED = 256
"""Conversations that a process remembers; the one used longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class Thread:
    """The messages of a thread, the oldest first.

    A turn is a user's message and what answered it; one that failed or was cancelled keeps its
    user's message, with `(not answered: …)` in the answer's place.

    The first `opening` messages were there before the first turn.
    """

    id: str
    messages: tuple[Message, ...] = ()
    opening: int = 0


def opening_text(messages: Iterable[Message]) -> str:
    """Return messages of user and assistant as a thread's opening is stored."""
    return json.dumps([[message.role, content_data(message.content)] for message in messages])


class Conversations:
    """Reads the conversations of a store, and remembers what cannot change in them any more.

    A turn that has ended is read once; a conversation that was erased meanwhile is not remembered.

    Args:
        store: where their runs' journals lie.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def whole(self, tenant: str, thread: str) -> Thread:
        """Return a conversation, empty if nothing was said on it."""
        messages = tuple(self._messages(tenant, thread, None))
        return Thread(thread, messages, len(_opening(self._store.thread(tenant, thread))))

    def before(self, row: RunRow) -> Thread:
        """Return the conversation before a run's turn; a fork has that of what it stands on.

        A message's place is its turn's number, whatever run ended first.
        """
        if row.thread is None:
            return Thread("")
        first = row
        while first.base is not None and (base := self._store.numbered(first.base)) is not None:
            first = base
        if first.turn is None:
            return Thread(row.thread)
        return Thread(row.thread, tuple(self._messages(row.tenant, row.thread, first.turn)))

    def _messages(self, tenant: str, thread: str, before: int | None) -> list[Message]:
        known = self._remembered(tenant, thread)
        if before is not None and before <= known.turn:
            known = _Known()  # an earlier turn than the last one that was read
        if not known.number:
            known.messages = _opening(self._store.thread(tenant, thread))
        messages, is_settled = list(known.messages), True
        for row in self._store.turns(tenant, thread, after=known.turn):
            turn = row.turn or 0
            if before is not None and turn >= before:
                break
            of_turn = _turn(self._store, row)
            messages += of_turn
            is_settled = is_settled and row.status not in OPEN
            if is_settled:
                known.turn, known.number = turn, row.number
                known.messages += of_turn
        return messages

    def _remembered(self, tenant: str, thread: str) -> "_Known":
        name = (tenant, thread)
        known = self._known.pop(name, None) or _Known()
        if known.number and self._store.numbered(known.number) is None:
            known = _Known()
        self._known[name] = known
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return known


@dataclass(slots=True)
class _Known:
    """The turns of a conversation up to number `turn`, the last of which is run `number`."""

    turn: int = 0
    number: int = 0
    messages: list[Message] = field(default_factory=list)


def _opening(kept: ThreadRow | None) -> list[Message]:
    if kept is None:
        return []
    return [message_with(role, content_from(said)) for role, said in json.loads(kept.opening)]


def _turn(store: Store, row: RunRow) -> list[Message]:
    reader = JournalReader(store, row)
    given = folded([reader.one(1)], Origin()).input
    asked = message_with("user", content_in(given) or text_of(given))
    if row.status == "completed":
        output = folded([reader.one(row.offset)], Ending()).output
        return [asked, Message("assistant", text_of(output))]
    if row.status in ("failed", "cancelled"):
        return [asked, Message("assistant", f"(not answered: the run {row.status})")]
    return [asked]
