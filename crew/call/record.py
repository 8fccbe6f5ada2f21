"""A journalled call: its record, its port to the journal, its errors, and whoever performs it."""

import asyncio
import functools
import hashlib
import inspect
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import TypeVar

from crew.budget import Allowance, Amount
from crew.config import Settings
from crew.content import Content, Part
from crew.define import frozen
from crew.errors import GraphError, OutputInvalid, Unreadable
from crew.event import CallKind, Failure, failure_data, failure_from
from crew.failure import error_of, failure_of, safe_text
from crew.fold.calls import Record
from crew.message import Json, Message
from crew.thread import Compaction
from crew.value import Codec, aside, canonical, canonical_lines, is_big

MAX_DEPTH = 16
"""How deep tools may hold the run within each other, as agents that ask agents do."""


class Calls(Protocol):
    """The journal as a step sees it; a step in another process holds a proxy of the same shape."""

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        """Return what is recorded at `path`, or write the intent of a call and return None.

        The intent of anything that leaves this process is durable on return. A record that was
        started and has no result is returned as such: its caller decides, and may `restart` it.

        Raises:
            Diverged: another call is recorded at this path.
            BudgetExceeded: a model call would pass the run's limit.
            Fenced: another worker drives the run now.
        """
        ...

    async def restart(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> None:
        """Write the intent of a call once more, after its first one got no result."""
        ...

    async def allowance(self, path: str, needed: Amount) -> Allowance | None:
        """Return what a model call at `path` may spend; None where nothing limits it.

        Where less than `needed` is left it waits for other calls of models to give some back, as
        long as any is under way here. A call that has an end on record needs nothing.
        """
        ...

    async def is_due(self, path: str) -> bool:
        """Return whether the model call at `path` is to be made: nothing on record answers it."""
        ...

    async def enter(self, path: str, tool: str, arguments: dict[str, Json]) -> dict[str, Json]:
        """Have a tool that holds the run called where the run is driven; return its result.

        Args:
            path: that of the tool's call, which has begun.
            tool: its name; it is one of the agent whose call is around that path.
            arguments: what the model gave.

        Raises:
            CrewError: it failed; a `ToolError` is for the model to read.
        """
        ...

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None: ...

    async def fail(
        self, path: str, call: CallKind, error: Failure, usage: dict[str, int] | None = None
    ) -> None:
        """Record that a call failed, and what it cost all the same, if that is known."""
        ...

    async def mark_unknown(self, path: str, call: CallKind) -> None:
        """Record that nobody can tell whether the call happened."""
        ...

    async def approval(self, path: str) -> Json:
        """Wait for a person's answer to the question at `path`, which has begun as an `ask`.

        It is of `crew.call.approval.codec()`; on return it is recorded.

        Raises:
            GraphError: nobody can be asked here.
        """
        ...

    async def rests(self, path: str, calls: Sequence[str]) -> None:
        """Note that the agent's task at `path` goes on when one of these calls is answered.

        Nothing else goes on in it till then, so that its run need not stay in memory.
        """
        ...

    async def emit_text(self, path: str, text: str) -> None:
        """Add text that the model of the call at `path` streams to the workflow's answer."""
        ...

    async def discard_text(self, path: str) -> None:
        """Discard the text streamed at `path`: it will be streamed anew."""
        ...

    async def note_progress(self, path: str, text: str) -> None:
        """Tell whoever watches what is being done; once at each path, whoever is entered again."""
        ...


@frozen
class AgentTask:
    """One piece of work for an agent; `path` is its call's path in the run.

    `epoch` is that of the run's owner who dispatched it; a later owner fences it off. `emit`: what
    its model streams is passed on as the workflow's answer, piece by piece. `tenant` is the run's.
    `limited`: what it spends is, so that each call of a model asks for its allowance before.
    `parts`: all that it is asked, where that is more than the `text`. `instructions`: what its own
    function of the context has written, if it has one. `compacted`: what stands for the turns of
    the thread before the `history`; None where that is no thread's.
    """

    run: str
    path: str
    text: str
    history: tuple[Message, ...] = ()
    session: str = ""
    epoch: int = 0
    emit: bool = False
    tenant: str = ""
    limited: bool = False
    parts: tuple[Part, ...] = ()
    instructions: str | None = None
    compacted: Compaction | None = None

    @property
    def content(self) -> Content:
        """All that it is asked: a text, or parts."""
        return self.parts or self.text

    def message(self) -> Message:
        """Return what it is asked as the user's message."""
        return Message("user", self.text, parts=self.parts)


class CutOff(Exception):
    """A call that must not be repeated was cut off: nobody knows whether it happened."""


class Closable(Protocol):
    async def close(self) -> None: ...


_SIMPLE = frozenset({str, int, bool, type(None)})
"""Of these alone JSON has one form, whoever writes it."""

C = TypeVar("C", bound=Closable)
T = TypeVar("T")
Result = TypeVar("Result", covariant=True, default=Any)


class Equipment:
    """What a process keeps for all the agents that work in it, such as a model's connections."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where things of the user's are used."""
        self._kept: dict[object, Closable] = {}
        self._used: weakref.WeakValueDictionary[int, Closable] = weakref.WeakValueDictionary()

    def keep(self, name: object, make: Callable[[], C]) -> C:
        """Return the thing of this name, made now if it is not there; closed with the process."""
        if name not in self._kept:
            self._kept[name] = make()
        return cast("C", self._kept[name])

    def use(self, thing: C) -> C:
        """Return a thing of the user's; it is closed with the process, if it is there till then."""
        if id(thing) in self._used:
            return thing  # it is the same: the number of one that is gone is gone from here
        self._loop = asyncio.get_running_loop()
        _USING.add(self)
        try:
            self._used[id(thing)] = thing
        except TypeError:  # its class has slots, and none for those who do not own it
            self._kept[id(thing)] = thing
        return thing

    async def close(self) -> None:
        """Close everything that was kept, and what is left of what was used here alone.

        What another one uses in this event loop may be under way there; that one closes it.
        """
        _USING.discard(self)
        others = tuple(_USING)
        for things in (self._kept, self._used):
            while things:
                _, thing = things.popitem()
                if not any(other.uses(thing, self._loop) for other in others):
                    await thing.close()

    def uses(self, thing: Closable, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Return whether it uses a thing in an event loop."""
        is_used = self._used.get(id(thing)) is thing or self._kept.get(id(thing)) is thing
        return is_used and self._loop is loop


_USING: weakref.WeakSet[Equipment] = weakref.WeakSet()
"""Those that use things which are not theirs, and are open."""


@runtime_checkable
class Performer(Protocol[Result]):
    """What an agent is to the floors below it: something that turns a task into a result."""

    name: str

    @property
    def history(self) -> object | None:
        """What it sees of the earlier turns of a thread, as a `crew.History`; None: nothing."""
        ...

    def definition(self) -> str:
        """Return a text that changes when the agent's code or settings do."""
        ...

    async def perform(
        self, task: AgentTask, calls: Calls, equipment: "Equipment"
    ) -> dict[str, Json]:
        """Do the task; the result's `output`, `messages` and `usage` are JSON."""
        ...

    def result_of(self, result: dict[str, Json]) -> Result:
        """Return what the caller gets for a recorded result."""
        ...


_PERFORMERS: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes that were found to be; to look at a protocol's members costs more than the call."""


def is_performer(callee: Any) -> TypeGuard[Performer]:
    """Return whether a callee is an agent."""
    kind = type(callee)
    if kind not in _PERFORMERS and isinstance(callee, Performer):
        _PERFORMERS.add(kind)
    return kind in _PERFORMERS


def describe_callee(callee: Any) -> str:
    """Return the name under which a callee's calls are recorded."""
    while isinstance(callee, functools.partial):
        callee = callee.func
    name = getattr(callee, "name", None) or getattr(callee, "__name__", None)
    return str(name or type(callee).__name__).replace("<lambda>", "lambda")


def takes_idempotency_key(function: Callable[..., Any]) -> bool:
    """Return whether a function has a parameter for its idempotency key."""
    try:
        return "idempotency_key" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def unreadable(error: Exception, stored: Json, *, run: str, path: str) -> Unreadable:
    """Return the error of a value on record that the code of today cannot read.

    A validator of the user's may have raised anything.
    """
    if isinstance(error, Unreadable):
        return replace(error, run=run, path=path)
    asked = f"another type: {type(error).__name__}: {safe_text(error):.300}"
    return Unreadable(run=run, path=path, recorded=f"{stored!r:.200}", asked=asked)


def idempotency_key(run: str, path: str) -> str:
    """Return the key under which the far side can recognise one effect of one run."""
    return hashlib.sha256(f"{run}\0{path}".encode()).hexdigest()[:32]


def outcome(record: Record, *near: object) -> dict[str, Json]:
    """Return a record's result, or raise its error; `near` functions may hold its class."""
    if record.error is not None:
        raise error_of(record.error, *near)
    return stored_result(record.result)


async def read_back(codec: Codec, stored: Json) -> Any:
    """Return the value that a journal holds; a big one without holding the event loop.

    Raises:
        Unreadable: the code of today cannot read it.
    """
    if is_big(stored):
        return await aside(codec.in_parts.read_back, stored)
    return codec.read_back(stored)


def stored_result(result: dict[str, Json]) -> dict[str, Json]:
    """Return the data of a completed call, or raise why its result could not be stored."""
    if (failure := result.get("unstorable")) is not None:
        raise error_of(failure_from(failure))
    return result


def unstorable(error: Exception, path: str, what: str) -> dict[str, Json]:
    """Return what is recorded of an act whose result cannot be stored because of `error`."""
    received = error.received if isinstance(error, OutputInvalid) else ""
    problem = OutputInvalid(
        message=f"{what} acted, but its result cannot be stored: {safe_text(error)}",
        received=received,
    )
    return {"unstorable": failure_data(failure_of(problem, path))}


def fingerprint_of(name: str, arguments: object) -> str:
    """Return what tells a call from another one at its path: its callee and its arguments."""
    return f"{name}:{hashlib.sha256(_canonical_bytes(arguments)).hexdigest()[:12]}"


async def fingerprint_aside(name: str, arguments: Sequence[Any]) -> str:
    """Return the same of big arguments, without holding the event loop."""
    return f"{name}:{await aside(_digest_of, arguments)}"


def _digest_of(arguments: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for line in canonical_lines(arguments):
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:12]


def _canonical_bytes(arguments: object) -> bytes:
    of_types = map(type, arguments) if type(arguments) is list else (type(arguments),)
    if _SIMPLE.issuperset(of_types):
        try:
            return to_json(arguments)
        except PydanticSerializationError:
            pass  # half of a surrogate pair
    return canonical(arguments).encode("utf-8", "surrogatepass")


def returned_codec(function: Callable[..., Any], name: str) -> Codec:
    """Return what stores a function's result: by its return annotation, if it has one."""
    target = function.func if isinstance(function, functools.partial) else function
    returned = getattr(target, "__annotations__", {}).get("return", Any)
    if isinstance(returned, str):
        try:
            returned = inspect.get_annotations(target, eval_str=True)["return"]
        except (NameError, TypeError):
            returned = Any
    try:
        return _codec(returned, name)
    except TypeError:  # an annotation that has no hash
        return Codec(returned, where=f"what {name!r} returns")


@functools.lru_cache(maxsize=1024)
def _codec(annotation: Any, name: str) -> Codec:
    return Codec(annotation, where=f"what {name!r} returns")


def data_arguments(function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
    """Return the arguments that identify a call: all but the context it may be handed."""
    given = [item for item in arguments if not getattr(type(item), "is_crew_context", False)]
    if isinstance(function, functools.partial):
        return [*function.args, *given, dict(sorted(function.keywords.items()))]
    return given


class Unrecorded:
    """Calls of an agent that works outside any run."""

    async def allowance(self, path: str, needed: Amount) -> Allowance | None:
        """Nothing limits it."""
        return None

    async def is_due(self, path: str) -> bool:
        """Nothing is on record."""
        return True

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        return None

    async def restart(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> None:
        """Nothing is kept."""

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        """Nothing is kept."""

    async def fail(
        self, path: str, call: CallKind, error: Failure, usage: dict[str, int] | None = None
    ) -> None:
        """Nothing is kept."""

    async def mark_unknown(self, path: str, call: CallKind) -> None:
        """Nothing is kept."""

    async def approval(self, path: str) -> Json:
        raise GraphError(
            message=f"{path} needs a person's approval, whom only a workflow's run can ask: call "
            "the agent there, by ctx.run(agent, text)"
        )

    async def rests(self, path: str, calls: Sequence[str]) -> None:
        """Nobody waits."""

    async def emit_text(self, path: str, text: str) -> None:
        """Nobody listens."""

    async def discard_text(self, path: str) -> None:
        """Nobody listens."""

    async def note_progress(self, path: str, text: str) -> None:
        """Nobody watches."""
