"""The course of one run so far: the state and the calls that its journal's events have left."""

from collections.abc import Sequence

from crew.errors import CrewError
from crew.event import (
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallStarted,
    CallUnknown,
    Event,
    RunEvent,
    RunStarted,
    from_data,
)
from crew.graph import Workflow
from crew.graph.engine import apply
from crew.graph.state import Command, RunState
from crew.journal import Snapshot
from crew.journal.reading import snapshot_of
from crew.journal.writer import OpenRun, TimedEvent, Writer
from crew.message import Json
from crew.run.calls import RunCalls
from crew.run.snapshot import size_of, snapshot_version, state_from, state_to_data
from crew.run.unreadable import unreadable_event

SNAPSHOT_EVENTS = 128
"""A snapshot is due after so many events, or twice as many as what is live, if that is more."""


_OF_CALLS = frozenset({CallStarted, CallCompleted, CallFailed, CallUnknown, CallCancelled})
"""Most of a journal; the graph does not move by them."""


class Course:
    """Folds the events of a run into what it has come to; carries out nothing.

    Args:
        workflow: whose run it is.
        open_run: where its events are appended.
        calls: the calls of the run, which learn from the same events.
        writer: appends them.
    """

    def __init__(
        self, workflow: Workflow, open_run: OpenRun, calls: RunCalls, writer: Writer
    ) -> None:
        self.workflow = workflow
        self.wiring = workflow.build()
        self.state = RunState()
        self.calls = calls
        self.open = open_run
        self.writer = writer
        self._snapshot_offset = 0

    def load(self, snapshot: dict[str, Json], offset: int) -> None:
        """Bring the state to where a snapshot was taken, after the event at `offset`."""
        self.state = state_from(snapshot["state"])
        self.calls.load(snapshot["calls"])
        self.open.offset = self.open.durable_offset = self._snapshot_offset = offset

    def fold(self, events: Sequence[Event]) -> None:
        """Bring the state on by what the journal holds; nothing is carried out yet.

        Raises:
            Diverged: it holds what this workflow would not have done.
            Unreadable: the graph is another one than that which wrote it.
            NewerEvent: a newer release wrote it.
        """
        known = list[TimedEvent]()
        for event in events:
            try:
                typed = from_data(event.kind, event.path, event.data)
                self.calls.fold(typed, event.offset)
                apply(self.wiring, self.state, typed)
            except CrewError:
                raise
            except Exception as error:
                raise unreadable_event(self.open.id, event, error, self.wiring) from error
            known.append((event.at, typed))
        if events:
            self.open.offset = self.open.durable_offset = events[-1].offset
        self._folded(known)

    def begin(self, started: RunStarted, at: float) -> None:
        """Bring the state to the first event of a run, which was just written, at `at`."""
        self.calls.fold(started, 1)
        apply(self.wiring, self.state, started)
        self.open.offset = self.open.durable_offset = 1
        self._folded([(at, started)])

    def _folded(self, known: Sequence[TimedEvent]) -> None:
        self.writer.reopened(self.open, known)
        assert self.state.started is not None
        self.calls.accounts.apply(self.state.started)  # a snapshot has it in the state alone
        self._forget_let_go()

    def _forget_let_go(self) -> None:
        """Forget the calls of steps that a quorum cancelled: nobody asks for them any more."""
        for step in self.state.let_go:
            self.calls.drop(step)

    def bring_on(self, event: RunEvent, offset: int) -> list[Command]:
        """Bring state and calls on by an event that was appended; return what follows from it."""
        self.calls.fold(event, offset)
        return [] if type(event) in _OF_CALLS else apply(self.wiring, self.state, event)

    def snapshot(self) -> Snapshot | None:
        """Spare the next worker the fold, unless what is live is nearly as long as the journal."""
        since = self.open.offset - self._snapshot_offset
        if since < SNAPSHOT_EVENTS or self.wiring.plain:
            return None
        if self.calls.end is not None or self.state.outcome is not None:
            return None
        if since < 2 * (size_of(self.state) + len(self.calls.records)):
            return None
        body = {"state": state_to_data(self.state), "calls": self.calls.to_data()}
        packed = self.open.text.refer(body)
        version = snapshot_version(self.workflow)
        self._snapshot_offset = self.open.offset
        return snapshot_of(self.open.offset, self.open.crc, version, packed)
