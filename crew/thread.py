"""A conversation: the ordered messages of a thread's turns, read from their runs' journals."""

import json
from dataclasses import dataclass

from crew.journal import RunRow, Store, StoredEvent
from crew.journal.text import TextReader
from crew.message import Json, Message
from crew.value import text_of


@dataclass(frozen=True, slots=True)
class Thread:
    """What was said on a thread, the oldest first.

    A turn is a user's message and what answered it; one that failed or was cancelled keeps its
    user's message, with `(not answered: …)` in the answer's place.
    """

    id: str
    messages: tuple[Message, ...] = ()


def read_thread(store: Store, tenant: str, thread: str, *, before: int | None = None) -> Thread:
    """Read a thread's turns, those before turn number `before` only if it is given.

    A message's place is its turn's number, whatever run ended first.
    """
    messages: list[Message] = []
    for row in store.turns(tenant, thread):
        if before is not None and (row.turn or 0) >= before:
            break
        messages += _turn(store, row)
    return Thread(thread, tuple(messages))


def _turn(store: Store, row: RunRow) -> list[Message]:
    said = Message("user", text_of(_data(store, row, 1).get("input")))
    if row.status == "completed":
        return [said, Message("assistant", text_of(_data(store, row, row.offset).get("output")))]
    if row.status in ("failed", "cancelled"):
        return [said, Message("assistant", f"(not answered: the run {row.status})")]
    return [said]


def _data(store: Store, row: RunRow, offset: int) -> dict[str, Json]:
    def fetch(wanted: int) -> Json:
        return json.loads(_event(store, row, wanted).body)

    return TextReader(fetch).unpack(offset, fetch(offset))


def _event(store: Store, row: RunRow, offset: int) -> StoredEvent:
    (event,) = store.events(row.number, after=offset - 1, limit=1)
    return event
