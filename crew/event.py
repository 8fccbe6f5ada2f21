"""The vocabulary of a run: frozen events, one closed union, and their stored form.

A stored event is (kind, path, data): `kind` is a stable name such as `step.completed`, `path` the
place in the program, `data` a JSON object. Kinds never follow Python's import paths, so code may
move without touching what is on disk.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args

from crew.define import frozen
from crew.errors import NewerEvent
from crew.message import Json

CallKind = Literal[
    "function", "agent", "model", "tool", "effect", "ask", "timer", "deadline", "child", "value"
]
"""What a journalled operation inside a step is."""

_STARTED: dict[CallKind, str] = {
    call: f"{call}.{'opened' if call == 'ask' else 'started'}" for call in get_args(CallKind)
}
_WORDS: dict[CallKind, str] = {"ask": "answered", "deadline": "passed"}
"""How it is said that a call has completed, where that has a word of its own."""
_COMPLETED: dict[CallKind, str] = {
    call: f"{call}.{_WORDS.get(call, 'completed')}" for call in get_args(CallKind)
}

FORMAT = 1
"""Version of the stored form; written into `run.started`, raised when a kind changes its data."""


@dataclass(frozen=True, slots=True)
class Event:
    """One record of a run's journal, as its readers see it.

    `offset` is dense from 1 within the run; `at` is the writer's wall clock in unix seconds, for
    people: nothing is decided by it.
    """

    offset: int
    kind: str
    path: str
    data: dict[str, Json]
    at: float = 0.0


@frozen
class Failure:
    """An error as it is recorded: its class's name, its message, and where it came up.

    `traceback` is the user's, as text. `form` is what `crew.failure` makes the error again from;
    an error that was never raised has neither.
    """

    type: str
    message: str
    path: str = ""
    traceback: str = ""
    form: dict[str, Json] = field(default_factory=dict)


@frozen
class RunStarted:
    kind: ClassVar[str] = "run.started"
    workflow: str
    version: str
    input: Json
    thread: str | None = None
    budget: int | None = None
    budget_calls: int | None = None
    budget_seconds: float | None = None
    budget_strict: bool | None = None
    code: str = ""
    parent: str | None = None
    above: list[Json] | None = None
    """Of a child: the accounts of those above it that it draws on, the outermost first."""
    metadata: dict[str, Json] | None = None
    """What its caller keeps with the run; no code of the run sees it."""
    format: int = FORMAT
    path: str = ""
    budget_money: float | None = None


@frozen
class RunTaken:
    """A worker took the run over; everything before was written under an older epoch."""

    kind: ClassVar[str] = "run.taken"
    host: str
    pid: int
    epoch: int
    code: str = ""
    proven: bool = True
    """Whether the old owner was proven dead; one that was only silent may still wake up."""
    died: bool = False
    """Whether the old owner was found dead with the run under way: its end may be the run's doing.

    One that left in order had given the run up.
    """
    gap: float = 0.0
    """For how many seconds nobody drove the run, as far as is known."""
    path: str = ""


@frozen
class RunDriven:
    """The run was driven until here; written where that counts, as for the `timeout` of a call."""

    kind: ClassVar[str] = "run.driven"
    path: str = ""


@frozen
class RunForked:
    """The first event of a fork: from here on it is a run of its own.

    `run` and `at` name what it stands on. `live` says whether calls without a record are made;
    `reuse`, whether later records of `run` answer equal calls; `effects`, whether new effects may
    happen. `before` is the number of its base's turn, if that is one. The limits are those that it
    has beside its base's.
    """

    kind: ClassVar[str] = "run.forked"
    run: str
    at: int
    live: bool = True
    reuse: bool = False
    effects: bool = True
    before: int | None = None
    overrides: list[str] = field(default_factory=list)
    budget: int | None = None
    budget_calls: int | None = None
    budget_seconds: float | None = None
    budget_strict: bool | None = None
    path: str = ""
    budget_money: float | None = None


@frozen
class RunCompleted:
    kind: ClassVar[str] = "run.completed"
    output: Json
    usage: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] | None = None
    """Of a fork: what it did not pay again, since records of its base answered."""
    path: str = ""
    thread: dict[str, Json] | None = None
    """What the run has changed of its thread's state; see `crew.value.changes`."""


@frozen
class RunEndedInFailure:
    kind: ClassVar[str] = "run.failed"
    error: Failure
    usage: dict[str, int] = field(default_factory=dict)
    path: str = ""


@frozen
class RunEndedByCancel:
    kind: ClassVar[str] = "run.cancelled"
    usage: dict[str, int] | None = None
    """What it cost; None where nobody drove it when it ended, and no account is shared."""
    path: str = ""


@frozen
class RunParked:
    """The run waits for a person to choose a way on.

    `reason` is `diverged`, `unreadable`, `poisoned` or `unrecorded`; `path` is where that came up.
    What the journal holds there and what the code asks for are empty where nothing differs. `given`
    is what the recorded call was given, as text; `effects_refused` says that the code asks for an
    effect, and that new ones are not allowed.
    """

    kind: ClassVar[str] = "run.parked"
    reason: str
    detail: str
    path: str = ""
    recorded: str = ""
    asked: str = ""
    given: str | None = None
    effects_refused: bool | None = None


@frozen
class StepStarted:
    kind: ClassVar[str] = "step.started"
    path: str


@frozen
class StepCompleted:
    """A node returned. `patch` holds the fields of the run's state it changed, encoded.

    `thread` is what it changed of the state of the run's thread; see `crew.value.changes`.
    """

    kind: ClassVar[str] = "step.completed"
    path: str
    output: Json
    patch: dict[str, Json] | None = None
    thread: dict[str, Json] | None = None


@frozen
class StepFailed:
    """A node raised on its `attempt` (from 1).

    `final` ends the run; else it is tried again, not before `until` (unix seconds).
    """

    kind: ClassVar[str] = "step.failed"
    path: str
    error: Failure
    attempt: int
    final: bool
    until: float = 0.0


@frozen
class QuorumAwaited:
    """Enough has arrived for a join to fire at `until` (unix seconds), if the rest does not come.

    `scope` is the fan-out's number.
    """

    kind: ClassVar[str] = "quorum.awaited"
    path: str
    scope: int
    until: float


@frozen
class QuorumReached:
    """A join fires with what has arrived; what is still on its way to it is cancelled."""

    kind: ClassVar[str] = "quorum.reached"
    path: str
    scope: int


@frozen
class BudgetGiven:
    """Whatever is called at `path` and beneath it may spend so much; `since` is in unix seconds.

    The path of all items of a map is that of the map, and `[]`.
    """

    kind: ClassVar[str] = "budget.given"
    path: str
    since: float
    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None
    strict: bool | None = None
    money: float | None = None


@frozen
class CallStarted:
    """The intent of a call; `data` holds what is asked, and its `fingerprint`."""

    path: str
    call: CallKind
    data: dict[str, Json]

    @property
    def kind(self) -> str:
        return _STARTED[self.call]


@frozen
class CallCompleted:
    path: str
    call: CallKind
    data: dict[str, Json]

    @property
    def kind(self) -> str:
        return _COMPLETED[self.call]


@frozen
class CallFailed:
    """A call raised; `usage` is what it cost all the same, or None where nobody knows.

    `swallowed` counts the cancels that came while it was under way and that it raised this instead
    of; the data of a call that completed may hold the same.
    """

    path: str
    call: CallKind
    error: Failure
    usage: dict[str, int] | None = None
    swallowed: int | None = None

    @property
    def kind(self) -> str:
        return f"{self.call}.failed"


@frozen
class CallUnknown:
    """A crash or a cancel hid whether the call happened."""

    path: str
    call: CallKind

    @property
    def kind(self) -> str:
        return f"{self.call}.unknown"


@frozen
class CallCancelled:
    """The code of the run cancelled the call, and it has ended.

    `by_end` says that the end of the run did: a fork of it makes the call again.
    """

    path: str
    call: CallKind
    by_end: bool = False

    @property
    def kind(self) -> str:
        return f"{self.call}.cancelled"


@frozen
class AnswerRefused:
    """An answer to the question at `path` was not of its type; the question stays open."""

    kind: ClassVar[str] = "ask.refused"
    path: str
    reason: str


@frozen
class AgentDrifted:
    """The agent at `path` is not defined as it was when its call was recorded.

    Its name and its task are the same, so the record stands; both are hashes of definitions.
    """

    kind: ClassVar[str] = "agent.drifted"
    path: str
    recorded: str
    now: str


@frozen
class TextEmitted:
    """A piece of the workflow's answer, in order.

    `streamed` says that it is a piece of what a model says in the call at `path`.
    """

    kind: ClassVar[str] = "text.emitted"
    path: str
    text: str
    streamed: bool | None = None


@frozen
class TextDiscarded:
    """What was emitted at `path` and beneath it so far is no part of the answer: it comes anew."""

    kind: ClassVar[str] = "text.discarded"
    path: str


@frozen
class ProgressMade:
    """A line about the work, for whoever watches it."""

    kind: ClassVar[str] = "progress.made"
    path: str
    text: str


RunEvent = (
    RunStarted
    | RunTaken
    | RunDriven
    | RunForked
    | RunCompleted
    | RunEndedInFailure
    | RunEndedByCancel
    | RunParked
    | StepStarted
    | StepCompleted
    | StepFailed
    | QuorumAwaited
    | QuorumReached
    | BudgetGiven
    | CallStarted
    | CallCompleted
    | CallFailed
    | CallUnknown
    | CallCancelled
    | AnswerRefused
    | AgentDrifted
    | TextEmitted
    | TextDiscarded
    | ProgressMade
)

ENDS = frozenset({RunCompleted.kind, RunEndedInFailure.kind, RunEndedByCancel.kind})
"""The kinds after which a run's journal has no further event."""

_WITH_DATA: dict[str, tuple[CallKind, type[CallStarted] | type[CallCompleted]]] = {
    **{kind: (call, CallStarted) for call, kind in _STARTED.items()},
    **{kind: (call, CallCompleted) for call, kind in _COMPLETED.items()},
}
"""The kinds of events whose stored data is that of their call, and whose they are."""
_FAILED: dict[str, CallKind] = {f"{call}.failed": call for call in get_args(CallKind)}
_UNKNOWN: dict[str, CallKind] = {f"{call}.unknown": call for call in get_args(CallKind)}
_CANCELLED: dict[str, CallKind] = {f"{call}.cancelled": call for call in get_args(CallKind)}
_SIMPLE: dict[str, Any] = {
    kind.kind: kind
    for kind in (
        RunStarted,
        RunTaken,
        RunDriven,
        RunForked,
        RunCompleted,
        RunEndedInFailure,
        RunEndedByCancel,
        RunParked,
        StepStarted,
        StepCompleted,
        StepFailed,
        QuorumAwaited,
        QuorumReached,
        BudgetGiven,
        AnswerRefused,
        AgentDrifted,
        TextEmitted,
        TextDiscarded,
        ProgressMade,
    )
}
_FIELDS = {
    kind: tuple(item.name for item in fields(kind) if item.name != "path")
    for kind in _SIMPLE.values()
}


def to_data(event: RunEvent) -> dict[str, Json]:
    """Return the JSON object stored for `event`; kind and path are stored beside it."""
    if isinstance(event, (CallStarted, CallCompleted)):
        return event.data
    if isinstance(event, CallFailed):
        return _failed_data(event)
    if isinstance(event, CallCancelled):
        return {"by_end": True} if event.by_end else {}
    if isinstance(event, CallUnknown):
        return {}
    data: dict[str, Json] = {
        name: value for name in _FIELDS[type(event)] if (value := getattr(event, name)) is not None
    }
    if "error" in data:
        data["error"] = failure_data(data["error"])
    return data


def _failed_data(event: CallFailed) -> dict[str, Json]:
    data: dict[str, Json] = {"error": failure_data(event.error)}
    if event.usage is not None:
        data["usage"] = event.usage
    if event.swallowed is not None:
        data["swallowed"] = event.swallowed
    return data


def from_data(kind: str, path: str, data: dict[str, Json]) -> RunEvent:
    """Return the event that was stored as `kind`, `path` and `data`.

    Raises:
        NewerEvent: the kind is not one of this release.
    """
    if (with_data := _WITH_DATA.get(kind)) is not None:
        call, event = with_data
        return event(path, call, data)
    if (simple := _SIMPLE.get(kind)) is not None:
        known = {name: data[name] for name in _FIELDS[simple] if name in data}
        if "error" in known:
            known["error"] = failure_from(known["error"])
        if simple is StepCompleted:
            known.setdefault("output", None)
        if simple is RunCompleted:
            known.setdefault("output", None)
        if simple is RunStarted:
            known.setdefault("input", None)
        return simple(path=path, **known)
    if kind in _FAILED:
        error = failure_from(data["error"])
        return CallFailed(path, _FAILED[kind], error, data.get("usage"), data.get("swallowed"))
    if kind in _UNKNOWN:
        return CallUnknown(path, _UNKNOWN[kind])
    if kind in _CANCELLED:
        return CallCancelled(path, _CANCELLED[kind], data.get("by_end", False))
    raise NewerEvent(path=path, kind=kind)


def is_known(kind: str) -> bool:
    """Return whether this release knows events of a kind; a newer one may write others."""
    return any(kind in kinds for kinds in (_WITH_DATA, _SIMPLE, _FAILED, _UNKNOWN, _CANCELLED))


def failure_data(error: Failure) -> dict[str, Json]:
    """Return a failure as JSON."""
    data: dict[str, Json] = {"type": error.type, "message": error.message}
    more = {"path": error.path, "traceback": error.traceback, "form": error.form}
    return data | {name: value for name, value in more.items() if value}


def failure_from(data: dict[str, Json]) -> Failure:
    """Return the failure that `failure_data` described."""
    return Failure(**data)
