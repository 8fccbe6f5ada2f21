"""A conversation: the ordered messages of a thread's turns, read from their runs' journals."""

from dataclasses import dataclass

from crew.journal import RunRow, Store
from crew.journal.reading import JournalReader
from crew.message import Message
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


def thread_before(store: Store, row: RunRow) -> Thread:
    """Return the conversation before a run's turn; a fork has that of the turn it stands on."""
    if row.thread is None:
        return Thread("")
    first = row
    while first.base is not None and (base := store.numbered(first.base)) is not None:
        first = base
    if first.turn is None:
        return Thread(row.thread)
    return read_thread(store, row.tenant, row.thread, before=first.turn)


def _turn(store: Store, row: RunRow) -> list[Message]:
    reader = JournalReader(store, row)
    said = Message("user", text_of(reader.one(1).data.get("input")))
    if row.status == "completed":
        return [said, Message("assistant", text_of(reader.one(row.offset).data.get("output")))]
    if row.status in ("failed", "cancelled"):
        return [said, Message("assistant", f"(not answered: the run {row.status})")]
    return [said]
