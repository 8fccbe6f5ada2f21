"""What a context needs of the driver of its run."""

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from crew.budget import Budget, BudgetLeft
from crew.call.attempt import Attempt
from crew.call.deadline import Timing
from crew.call.gate import Order
from crew.call.record import AgentTask, Calls, Performer
from crew.call.thread_view import ThreadView
from crew.errors import Diverged
from crew.event import CallKind, Failure
from crew.fold.calls import Record
from crew.graph import Workflow
from crew.journal.notes import Note
from crew.message import Json, Message
from crew.thread import Thread
from crew.value import Codec


class Driven(Calls, Timing, Protocol):
    """The driver, as the calls of one attempt of a step see it."""

    run_id: str
    thread_id: str | None
    tenant: str
    epoch: int
    attempt: Attempt

    @property
    def deps(self) -> Any:
        """What the workflow's code depends on; None if it says nothing of it."""
        ...

    def metadata(self) -> dict[str, Json]: ...

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new may begin: the attempt is over, or the run is about to end here."""
        ...

    def confirm(self) -> None: ...

    def thread(self) -> Thread: ...

    def spoken(self, run: int, agent: str) -> tuple[Message, ...]:
        """Return the calls of tools, with results, that an agent made in a turn that is over."""
        ...

    def thread_view(self) -> ThreadView:
        """Return the state of the run's thread as this attempt sees it; the first look is noted."""
        ...

    async def write_note(self, path: str, name: str, text: str, scope: str) -> None:
        """Write a note of the id `name`, together with the end of the call at `path`."""
        ...

    async def forget_notes(
        self, path: str, *, note: str | None, scope: str | None, run: str | None
    ) -> None:
        """Remove notes, together with the end of the call at `path`."""
        ...

    async def find_notes(
        self, path: str, scopes: Sequence[str], words: str, limit: int
    ) -> list[Note]:
        """Return the notes found, once they are on record at `path`."""
        ...

    def is_function(self, path: str) -> bool:
        """Return whether the call at `path` is that of a function."""
        ...

    def emit(self, path: str, text: str) -> None: ...

    def has_streamed(self, path: str) -> bool:
        """Return whether the agent called at `path` passed text on as it came."""
        ...

    def progress(self, path: str, text: str) -> None: ...

    async def passed_on(self, codec: Codec, value: object) -> tuple[Json, Any]:
        """Return a big value as the end of a call is to hold it, and the copy that goes on.

        The event loop is not held for it, as it would be by `Codec.passed_on`.
        """
        ...

    async def encoded(self, codec: Codec, value: object) -> Json:
        """Return the same without the copy."""
        ...

    async def fail(
        self,
        path: str,
        call: CallKind,
        error: Failure,
        usage: dict[str, int] | None = None,
        swallowed: int | None = None,
    ) -> None:
        """Record that a call failed, and how many cancels came before it, and did not end it."""
        ...

    def order_of(self, path: str) -> Order:
        """Return the order in which what came of the call at `path` is handed out."""
        ...

    async def turn(self, path: str) -> None:
        """Return when what came of the call at `path` may be handed to the step's code."""
        ...

    async def cancelled(self, path: str, call: CallKind) -> None:
        """Record that the step's code cancelled a call, and return when its end is handed out."""
        ...

    async def until_cancelled(self, path: str) -> NoReturn:
        """Wait for the cancel that is on record of the call at `path`, until its turn."""
        ...

    def begin_at_once(self, path: str, call: CallKind, fingerprint: str) -> Record | None:
        """Begin a call that needs no intent; return its record: started, or with the end it had.

        None says that something is to be waited for, or refused: see `begin`.
        """
        ...

    async def answer(self, path: str, codec: Codec) -> Json:
        """Wait for an answer that validates, and return it once it is recorded."""
        ...

    async def sleep_until(self, path: str, until: float) -> None: ...

    def standing_in(self, agent: Performer) -> Performer:
        """Return what does an agent's work, as in a fork that was given another one."""
        ...

    def performer_at(self, path: str) -> str | None:
        """Return the name of the agent that was at work for the call at `path`, if one was."""
        ...

    async def agent(self, agent: Performer, path: str, fingerprint: str) -> Record | None:
        """Return what is on record of an agent's call; one in flight as a record without an end."""
        ...

    async def perform(self, agent: Performer, task: AgentTask, fingerprint: str) -> dict[str, Json]:
        """Have an agent's task done in a host, after its start was recorded."""
        ...

    async def child(self, workflow: Workflow, value: object, path: str) -> dict[str, Json]:
        """Run a workflow as a run of its own; return its id, its encoded output and its usage."""
        ...

    def budget_left(self, path: str) -> BudgetLeft:
        """Return what is left of all the budgets around the code at `path`."""
        ...

    def limits_amounts(self, path: str) -> bool:
        """Return whether what is called at `path` may spend so many tokens, or so much money."""
        ...

    def give(self, path: str, budget: Budget) -> None:
        """Let what is called at `path` and beneath it spend so much at most."""
        ...

    def diverge(self, error: Diverged) -> None:
        """Stop the run, since its code is not that of its journal."""
        ...
