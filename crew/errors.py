"""Every exception of the package.

CrewError
├── GraphError            a workflow's definition cannot work
├── InputInvalid          a value given to a run, an answer or a setting does not validate
├── OutputInvalid         a node or an agent returned what its annotation does not allow
├── SettingsInvalid       a setting cannot be used as it is
├── ExtraMissing          an optional dependency is not installed
├── RunError
│   ├── RunFailed         the run ended without an answer
│   │   └── NoOutput      nothing is left to run and no output was produced
│   ├── RunCancelled      somebody cancelled the run
│   ├── RunNotFound       no run of that id in this store
│   ├── StepLimit         one token went through more steps than `max_steps`
│   ├── StepTimeout       a step or call took longer than its `timeout`
│   ├── NotAnException    a step or call raised what would end more than itself
│   ├── EffectUnknown     a crash hid whether an effect happened
│   ├── Diverged          the code asks for another call than the journal holds
│   │   ├── Unrecorded    the call is not on record, where no new ones are made
│   │   └── Unreadable    the code cannot read what the journal holds
│   ├── BudgetExceeded    the run asked for more than its budget has left
│   ├── NewerEvent        the run's journal holds what only a newer release knows
│   └── Fenced            another worker drives the run now
├── RuntimeLeft           the runtime that was asked is not open any more
├── ThreadBusy            a turn is still running on the thread
├── KeyReused             an idempotency key came back with another input
├── AskError              an answer fits no open question
├── StoreError            the journal's database could not do what it was asked
├── LinkRefused           a link between two hosts could not be made
├── ModelError            the model's endpoint gave no usable reply
├── ToolError             a tool could not be run
└── SandboxUnavailable    this machine cannot isolate code

Each is a keyword dataclass, so that it survives pickling (Ray carries errors between
processes) with its class and its facts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


@dataclass(eq=False, repr=False, kw_only=True)
class CrewError(Exception):
    """Root of everything this package raises on purpose."""

    message: str = ""

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        facts = [f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr]
        return f"{type(self).__qualname__}({', '.join(facts)})"

    def __reduce__(self) -> tuple[Callable[..., "CrewError"], tuple[Any, ...]]:
        facts = {item.name: getattr(self, item.name) for item in fields(self)}
        return _rebuild, (type(self), facts)


def _rebuild(kind: type[CrewError], facts: dict[str, Any]) -> CrewError:
    return kind(**facts)


@dataclass(eq=False, repr=False, kw_only=True)
class GraphError(CrewError):
    """The workflow's definition cannot work; the message says what to write instead."""


@dataclass(eq=False, repr=False, kw_only=True)
class InputInvalid(CrewError):
    """A value given from outside does not validate. Nothing was stored."""


@dataclass(eq=False, repr=False, kw_only=True)
class OutputInvalid(CrewError):
    """A node, function or agent returned what its annotation does not allow."""

    received: str = ""


@dataclass(eq=False, repr=False, kw_only=True)
class SettingsInvalid(CrewError):
    """A setting cannot be used as it is; the message names it and its source."""


@dataclass(eq=False, repr=False, kw_only=True)
class ExtraMissing(CrewError):
    """An optional dependency is needed and not installed."""

    extra: str = ""

    def __str__(self) -> str:
        return (
            f"{self.message} needs the extra '{self.extra}'; "
            f'install it with: pip install "raycrew[{self.extra}]"'
        )


@dataclass(eq=False, repr=False, kw_only=True)
class RunError(CrewError):
    """Something about one run."""

    run: str = ""
    path: str = ""


@dataclass(eq=False, repr=False, kw_only=True)
class RunFailed(RunError):
    """The run ended without an answer.

    `cause_type`, `cause_message` and `traceback` (empty if unknown) are those of the error that
    ended it, as recorded. `__cause__` is that error itself, where `Run.result()` raises this.
    """

    cause_type: str = ""
    cause_message: str = ""
    traceback: str = field(default="", repr=False)

    def __str__(self) -> str:
        place = f" at {self.path}" if self.path else ""
        return f"run {self.run} failed{place}: {self.cause_type}: {self.cause_message}"


@dataclass(eq=False, repr=False, kw_only=True)
class RunCancelled(RunError):
    """Somebody cancelled the run."""

    def __str__(self) -> str:
        return self.message or f"run {self.run} was cancelled"


@dataclass(eq=False, repr=False, kw_only=True)
class RunNotFound(RunError):
    """The store holds no run of that id (of this tenant)."""

    def __str__(self) -> str:
        return self.message or f"no run {self.run!r} in this store; `crew runs` lists what there is"


@dataclass(eq=False, repr=False, kw_only=True)
class NoOutput(RunFailed):
    """Nothing is left to run, and no node produced the workflow's output type."""


@dataclass(eq=False, repr=False, kw_only=True)
class StepLimit(RunError):
    """One token went through more steps than the graph's `max_steps`: a loop without an end."""


@dataclass(eq=False, repr=False, kw_only=True)
class StepTimeout(RunError):
    """A step or call took longer than its `timeout`."""


@dataclass(eq=False, repr=False, kw_only=True)
class NotAnException(RunError):
    """Code raised `CancelledError` though nobody cancelled it, `SystemExit`, or their like."""


@dataclass(eq=False, repr=False, kw_only=True)
class EffectUnknown(RunError):
    """A crash hid whether an effect happened, and its policy is not to retry it."""


EFFECTS_REFUSED = ", and new effects are not allowed"


@dataclass(eq=False, repr=False, kw_only=True)
class Diverged(RunError):
    """The code asks for another call than the journal holds at this path."""

    parked_as: ClassVar[str] = "diverged"
    """The reason by which its run is parked."""
    recorded: str = ""
    asked: str = ""
    given: str = ""
    """What the recorded call was given, as text, where its record says so."""

    def __str__(self) -> str:
        return (
            f"run {self.run} diverged at {self.path}: the journal holds {self.recorded}, "
            f"the code asks for {self._asked()}; give this call a `key=` so that it keeps its place"
        )

    def _asked(self) -> str:
        return self.asked


@dataclass(eq=False, repr=False, kw_only=True)
class Unrecorded(Diverged):
    """The code asks for a call that is not on record, where no new ones are made.

    A replay makes none at all, and a fork only those that it is allowed.
    """

    parked_as: ClassVar[str] = "unrecorded"
    effects_refused: bool = False
    """Whether it is an effect, and new ones are not allowed there."""

    def _asked(self) -> str:
        return f"{self.asked}{EFFECTS_REFUSED if self.effects_refused else ''}"


@dataclass(eq=False, repr=False, kw_only=True)
class Unreadable(Diverged):
    """The code cannot read what the journal holds at this path, as where a type has changed.

    Nothing is lost: the code that wrote it can go on with the run. `where` says of what it is the
    value, `reason` what is wrong with it.
    """

    parked_as: ClassVar[str] = "unreadable"
    where: str = ""
    reason: str = ""

    def __str__(self) -> str:
        run = f"run {self.run} cannot go on at {self.path or 'its start'}: " if self.run else ""
        of = f" for {self.where}" if self.where else ""
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"{run}the journal holds {self.recorded}{of}; the code here has {self.asked}{why}; "
            "resume it with the code that wrote it, fork it, or cancel it"
        )


@dataclass(eq=False, repr=False, kw_only=True)
class BudgetExceeded(RunError):
    """The run asked for more than its budget has left. The call was not made."""

    needed: float = 0
    left: float = 0
    unit: str = "tokens"
    """What is short: tokens, calls or seconds."""

    def __str__(self) -> str:
        hint = " or shorten the thread" if self.unit == "tokens" else ""
        return (
            f"{self.needed} {self.unit} needed at {self.path or self.run}, {self.left} left; "
            f"raise `budget=`{hint}"
        )


@dataclass(eq=False, repr=False, kw_only=True)
class NewerEvent(RunError):
    """The run's journal holds a kind of event that this release does not know. Nothing is lost."""

    kind: str = ""

    def __str__(self) -> str:
        where = f"run {self.run}" if self.run else "the journal"
        return (
            f"{where} holds an event of the unknown kind {self.kind!r}, which a newer release "
            "wrote; update crew, or leave the run to a process of that release"
        )


@dataclass(eq=False, repr=False, kw_only=True)
class Fenced(RunError):
    """Another worker drives the run now. Nothing was written; do not retry."""

    def __str__(self) -> str:
        return self.message or f"run {self.run} is driven by another worker now"


@dataclass(eq=False, repr=False, kw_only=True)
class RuntimeLeft(CrewError):
    """The runtime was left; whoever waits for a run of it opens it again."""

    def __str__(self) -> str:
        return self.message or "the runtime was left; open it again to follow its runs"


@dataclass(eq=False, repr=False, kw_only=True)
class ThreadBusy(CrewError):
    """A turn is still running on the thread, and the policy is to reject a second one."""

    thread: str = ""


@dataclass(eq=False, repr=False, kw_only=True)
class KeyReused(CrewError):
    """The same idempotency key came with another input. Nothing was stored."""

    key: str = ""


@dataclass(eq=False, repr=False, kw_only=True)
class AskError(CrewError):
    """An answer fits no open question, or more than one."""


@dataclass(eq=False, repr=False, kw_only=True)
class StoreError(CrewError):
    """The journal's database could not do what it was asked. Nothing was stored half."""


@dataclass(eq=False, repr=False, kw_only=True)
class LinkRefused(CrewError):
    """Two hosts cannot talk: their tokens or releases differ, or no port is free."""


@dataclass(eq=False, repr=False, kw_only=True)
class ModelError(CrewError):
    """The model's endpoint gave no usable reply; the message names the endpoint and the way on.

    `broke_off`: for a passing reason, after a part of the answer was passed on, and the endpoint
    cannot go on from there. Asked again, it begins the answer anew. `input_tokens` and
    `output_tokens` are what that part cost, as far as is known: as the endpoint says, or by
    estimate if they are `uncounted`. `is_refusal`: the model, or a filter before or behind it,
    refused what it was asked, so that it makes no sense to ask another one.
    """

    endpoint: str = ""
    status: int | None = None
    broke_off: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: bool = False
    is_refusal: bool = False

    @property
    def is_counted(self) -> bool:
        """Whether its tokens are what the endpoint counted."""
        return not self.uncounted and self.input_tokens + self.output_tokens > 0


@dataclass(eq=False, repr=False, kw_only=True)
class ToolError(CrewError):
    """A tool could not be run, or raised."""

    tool: str = ""


@dataclass(eq=False, repr=False, kw_only=True)
class SandboxUnavailable(CrewError):
    """This machine cannot isolate code, so code written by a model is not run on it."""
