"""A recorded run, run again on its records: no model, no tool, no effect."""

from typing import NoReturn

from crew.errors import Diverged, InputInvalid
from crew.event import Event, from_data
from crew.fold import Ending, Origin, folded
from crew.fold.past import Past
from crew.graph import Workflow
from crew.hosts import Hosts
from crew.journal import NewRun, RunRow, Started, Store
from crew.journal.memory import MemoryStore
from crew.journal.reading import JournalReader
from crew.journal.writer import OpenRun, Writer, seal
from crew.message import Json, Message
from crew.run.account_rows import AccountRows
from crew.run.asked import OpenQuestions
from crew.run.dependencies import Dependencies
from crew.run.driver import Driver
from crew.run.followers import Followers
from crew.run.handle import Run
from crew.run.lookup import Rules
from crew.run.surroundings import Children
from crew.run.workflows import Workflows
from crew.thread import Conversations, Thread


async def replay(store: Store, row: RunRow, workflow: Workflow, dependencies: Dependencies) -> Run:
    """Run a workflow's code on the records of one of its runs; return the run that this gives.

    Its code finds what it depends on open, and calls nothing of it in an effect.

    Raises:
        InputInvalid: the run has not ended by itself, so that its records are not whole.
        Diverged: the code asks for another call than was recorded, or comes to another end.
    """
    if row.status not in ("completed", "failed"):
        raise InputInvalid(message=f"run {row.id} is {row.status}; only one that ended is replayed")
    events = JournalReader(store, row).every(upto=row.offset)
    copy = _Copy(store, row, workflow, events[0], dependencies)
    driver = Driver(copy, workflow, copy.row)
    driver.course.fold(events[:1])
    past = Past()
    for event in events:
        typed = from_data(event.kind, event.path, event.data)
        driver.calls.lookup.offered.apply(typed, event.offset)
        past.apply(typed, event.offset)
    driver.calls.lookup.rules = Rules(live=False, strict=True, effects=False)
    driver.calls.past = past
    driver.open.crc = copy.row.crc
    driver.go()
    await driver.ended
    if driver.divergence is not None:
        raise driver.divergence
    again = Run(copy, copy.row)
    _compare(row, events[-1], (await again.recorded())[-1])
    return again


def _compare(row: RunRow, recorded: Event, again: Event) -> None:
    ends = [_lasting_parts(folded([event], Ending())) for event in (recorded, again)]
    if ends[0] != ends[1]:
        texts = [f"run.{kind} with {value!r:.300}" for kind, value in ends]
        raise Diverged(run=row.id, path="the end", recorded=texts[0], asked=texts[1])


def _lasting_parts(ending: Ending) -> tuple[str, Json]:
    """Return what of an end is the same at each run of the code; a traceback need not be."""
    error = ending.error
    if error is None:
        return ending.kind, ending.output
    return ending.kind, {"type": error.type, "message": error.message, "path": error.path}


class _Copy:
    """A run's surroundings in memory, in which nothing outside can be reached."""

    def __init__(
        self,
        store: Store,
        row: RunRow,
        workflow: Workflow,
        first: Event,
        dependencies: Dependencies,
    ) -> None:
        self.dependencies = dependencies
        self.store: Store = MemoryStore()
        self.writer = Writer(self.store, on_commit=lambda grown: None)
        self.hosts: Hosts = self
        self.children: Children = self
        self.accounts = AccountRows(self.store, self.writer)
        self.workflows = Workflows([workflow])
        self.asked = OpenQuestions(self.store)
        self.followers = Followers({}, self._never, self._never)
        self._original = store
        self._original_row = row
        self.row = self._start(first)

    def _start(self, first: Event) -> RunRow:
        row = self._original_row
        event = from_data(first.kind, first.path, first.data)
        new = NewRun(
            id=row.id,
            tenant=row.tenant,
            workflow=row.workflow,
            version=row.version,
            key=None,
            input_hash=row.input_hash,
            thread=row.thread,
            parent=row.parent,
            owner="replay",
            when_busy="queue",
            first=seal(OpenRun(row.id, 0, 1, 0, 0), 1, event),
            at=row.created_at,
        )
        (started,) = self.store.commit([new])
        assert isinstance(started, Started)
        return started.row._replace(turn=row.turn, base=row.base)

    def read_thread(self, row: RunRow) -> Thread:
        return Conversations(self._original).before(row)

    def read_spoken(self, run: int, agent: str) -> tuple[Message, ...]:
        return Conversations(self._original).spoken(run, agent)

    def read_metadata(self, row: RunRow) -> dict[str, Json]:
        return folded([JournalReader(self._original, self._original_row).one(1)], Origin()).metadata

    def look(self) -> None:
        """No letter comes for what has ended."""

    def hand_out(self, number: int, before: float) -> bool:
        return False

    async def close(self) -> None:
        """There is nothing to close."""

    def _never(self, *_: object, **__: object) -> NoReturn:  # pragma: no cover  as it says
        """A replay's rules refuse every call first, and it has ended when it is handed out."""
        raise AssertionError

    conversation_of = read_notes = place = perform = start = result = usage = cancel = spawn = (
        poke
    ) = check_answer = cancel_unowned = is_loaded = _never
