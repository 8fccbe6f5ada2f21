"""A conversation: the messages of a thread's turns, and its state, read from their journals."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from crew.content import content_data, content_from, content_in
from crew.define import define, frozen
from crew.errors import GraphError
from crew.fold import Ending, Origin, folded
from crew.journal import OPEN, RunRow, Store, ThreadRow
from crew.journal.reading import JournalReader
from crew.message import Json, Message, message_from, message_with
from crew.value import own_copy, text_of
from crew.value.changes import change

MOST_REMEMBERED = 256
"""Conversations that a process remembers; the one used longest ago is forgotten."""
MOST_SPOKEN = 1024
"""Turns of which a process remembers what an agent said to its tools."""


OWN = ":"
"""What the names begin with of that which this package keeps in the state of a thread itself."""


class ThreadState(MutableMapping[str, Json]):
    """What is kept with a conversation: values of JSON by name, as its last turn has left them.

    Args:
        kept: all that is kept; nobody changes it.
    """

    def __init__(self, kept: Mapping[str, Json]) -> None:
        self.kept = kept
        self._copy: dict[str, Json] | None = None

    def seen(self) -> Mapping[str, Json]:
        """Return all that is kept, for somebody who reads it."""
        if self._copy is None:
            self._copy = own_copy(self.kept)
        return self._copy

    def opened(self) -> dict[str, Json]:
        """Return all that is kept, for somebody who changes it.

        Raises:
            GraphError: it is not changed here.
        """
        raise GraphError(
            message="the state of a thread is changed in a turn of it, by ctx.thread.state[…] = …"
        )

    def __getitem__(self, name: str) -> Json:
        if _is_own(name):
            raise KeyError(name)
        return self.seen()[name]

    def __setitem__(self, name: str, value: Json) -> None:
        self.opened()[name] = value

    def __delitem__(self, name: str) -> None:
        values = self.opened()
        if _is_own(name):
            raise KeyError(name)
        del values[name]

    def setdefault(self, name: str, default: Json = None) -> Json:
        """Return the value of this name, after setting it to `default` if there is none."""
        if name not in self:
            self[name] = default
        return self[name]  # not `default`: what is set is a copy

    def __iter__(self) -> Iterator[str]:
        return iter([name for name in self.seen() if not _is_own(name)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


def _is_own(name: object) -> bool:
    return isinstance(name, str) and name.startswith(OWN)


@dataclass(frozen=True, slots=True)
class Thread:
    """The messages of a thread, the oldest first, and what is kept with it.

    A turn is a user's message and what answered it; one that failed or was cancelled keeps its
    user's message, with `(not answered: …)` in the answer's place.

    The first `opening` messages were there before the first turn. The `state` is what the turns
    that completed have left; in a run, `ctx.thread.state` is changed, and committed with its turn.
    """

    id: str
    messages: tuple[Message, ...] = ()
    opening: int = 0
    state: ThreadState = field(default_factory=lambda: ThreadState({}))
    runs: tuple[int, ...] = ()
    """The numbers of the runs of its turns, in their order."""


@frozen
class Compaction:
    """What stands for the first turns of a conversation in the prompts of one agent.

    The turns stay in their journals. They are counted by the messages of the user from the
    beginning, what was there before the first turn included; so a branch of the conversation, which
    has the same beginning, can tell whether it reaches beyond what is its own.

    Args:
        turns: how many it stands for.
        text: their summary; empty if they are left out.
    """

    turns: int = 0
    text: str = ""

    @staticmethod
    def name(agent: str) -> str:
        """Return the name under which the state of a thread keeps that of an agent."""
        return f"{OWN}history{OWN}{agent}"

    def to_data(self) -> dict[str, Json]:
        return {"turns": self.turns, "text": self.text}


NO_COMPACTION = Compaction()


def after_turns(messages: Sequence[Message], turns: int) -> tuple[Message, ...] | None:
    """Return what was said after so many messages of the user; None if there are fewer."""
    if not turns:
        return tuple(messages)
    begins = [place for place, message in enumerate(messages) if message.role == "user"]
    if turns > len(begins):
        return None
    return tuple(messages[begins[turns] :]) if turns < len(begins) else ()


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
        self._spoken: OrderedDict[tuple[int, str], tuple[Message, ...]] = OrderedDict()

    def whole(self, tenant: str, thread: str) -> Thread:
        """Return a conversation, empty if nothing was said on it."""
        opening = len(_opening(self._store.thread(tenant, thread)))
        return self._upto(tenant, thread, None, opening)

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
        return self._upto(row.tenant, row.thread, first.turn)

    def spoken(self, run: int, agent: str) -> tuple[Message, ...]:
        """Return the calls of tools by an agent in run number `run`, which has ended."""
        known = self._spoken.pop((run, agent), None)
        if known is None:
            known = self._read_spoken(run, agent)
        self._spoken[run, agent] = known
        if len(self._spoken) > MOST_SPOKEN:
            self._spoken.popitem(last=False)
        return known

    def _read_spoken(self, run: int, agent: str) -> tuple[Message, ...]:
        from crew.fold.spoken import Spoken  # only where somebody wants to see them

        row = self._store.numbered(run)
        if row is None:
            return ()
        events = JournalReader(self._store, row).every(upto=row.offset)
        return tuple(map(message_from, folded(events, Spoken(agent)).messages))

    def _upto(self, tenant: str, thread: str, before: int | None, opening: int = 0) -> Thread:
        known = self._remembered(tenant, thread)
        if before is not None and before <= known.turn:
            known = _Known()  # an earlier turn than the last one that was read
        if not known.number:
            known.said = _Said(_opening(self._store.thread(tenant, thread)))
        said, is_settled, read = known.said.copy(), True, known.turn
        for row in self._store.turns(tenant, thread, after=known.turn):
            turn = row.turn or 0
            if before is not None and turn >= before:
                break
            if is_settled and row.status in OPEN:
                is_settled, known.said = False, said.copy()
            _add(said, self._store, row)
            if is_settled:
                known.turn, known.number = turn, row.number
        if is_settled and known.turn > read:
            known.said = said.copy()
        messages, runs = tuple(said.messages), tuple(said.runs)
        return Thread(thread, messages, opening, ThreadState(said.state), runs)

    def _remembered(self, tenant: str, thread: str) -> "_Known":
        name = (tenant, thread)
        known = self._known.pop(name, None) or _Known()
        if known.number and self._store.numbered(known.number) is None:
            known = _Known()
        self._known[name] = known
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return known


@define
class _Said:
    """What turns have added to a conversation."""

    messages: list[Message] = field(default_factory=list)
    state: dict[str, Json] = field(default_factory=dict)
    runs: list[int] = field(default_factory=list)

    def copy(self) -> "_Said":
        return _Said([*self.messages], {**self.state}, [*self.runs])


@define
class _Known:
    """The turns of a conversation up to number `turn`, the last of which is run `number`."""

    turn: int = 0
    number: int = 0
    said: _Said = field(default_factory=_Said)


def _opening(kept: ThreadRow | None) -> list[Message]:
    if kept is None:
        return []
    return [message_with(role, content_from(said)) for role, said in json.loads(kept.opening)]


def _add(said: _Said, store: Store, row: RunRow) -> None:
    """Add a turn to what was said before it; only one that completed changes the state."""
    reader = JournalReader(store, row)
    said.runs.append(row.number)
    given = folded([reader.one(1)], Origin()).input
    said.messages.append(message_with("user", content_in(given) or text_of(given)))
    if row.status == "completed":
        end = folded([reader.one(row.offset)], Ending())
        said.messages.append(Message("assistant", text_of(end.output)))
        change(said.state, end.thread or {})
    elif row.status in ("failed", "cancelled"):
        said.messages.append(Message("assistant", f"(not answered: the run {row.status})"))
