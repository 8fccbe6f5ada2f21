"""What a node holds of its run: journalled calls, effects, questions, time and shared state.

A call's path is its place in the program: the step, the lineage of the asyncio task it is made in
(the n-th task made by its parent), and its position there. It does not depend on which of several
tasks is faster, so that a resumed run finds each recorded call again.
"""

import asyncio
import functools
import hashlib
import inspect
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import contextmanager
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

from pydantic import BaseModel

from crew import errors
from crew.budget import Budget
from crew.config import Settings
from crew.errors import CrewError, EffectUnknown, GraphError, InputInvalid, StepTimeout
from crew.event import CallKind, Failure
from crew.graph import Workflow
from crew.message import Json, Message
from crew.retry import ONCE, Retry
from crew.thread import Thread
from crew.value import Codec, canonical, describe

Unknown = Literal["fail", "retry", "ask"]
T = TypeVar("T")

EFFECT_GRACE = 1.0
"""Seconds for which a cancel lets an effect that has started go on."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the journal holds at a call's path. `again` counts how often it was started."""

    call: CallKind
    fingerprint: str
    state: Literal["started", "completed", "failed", "unknown"]
    data: dict[str, Json]
    result: dict[str, Json] = field(default_factory=dict)
    error: Failure | None = None


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

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None: ...

    async def fail(self, path: str, call: CallKind, error: Failure) -> None: ...


@dataclass(frozen=True, slots=True)
class AgentTask:
    """One piece of work for an agent; `path` is its call's path in the run.

    `epoch` is that of the run's owner who dispatched it; a later owner fences it off.
    """

    run: str
    path: str
    text: str
    history: tuple[Message, ...] = ()
    session: str = ""
    epoch: int = 0


class Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Equipment:
    """What a process keeps for all the agents that work in it, such as a model's connections."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._kept: dict[object, Closable] = {}

    def keep(self, name: object, make: Callable[[], C]) -> C:
        """Return the thing of this name, made now if it is not there; closed with the process."""
        if name not in self._kept:
            self._kept[name] = make()
        return cast("C", self._kept[name])

    async def close(self) -> None:
        """Close everything that was kept."""
        while self._kept:
            _, thing = self._kept.popitem()
            await thing.close()


@runtime_checkable
class Performer(Protocol):
    """What an agent is to the floors below it: something that turns a task into a result."""

    name: str
    history: bool

    def definition(self) -> str:
        """Return a text that changes when the agent's code or settings do."""
        ...

    async def perform(
        self, task: AgentTask, calls: Calls, equipment: "Equipment"
    ) -> dict[str, Json]:
        """Do the task; the result's `output`, `messages` and `usage` are JSON."""
        ...

    def result_of(self, result: dict[str, Json]) -> Any:
        """Return what the caller gets for a recorded result."""
        ...


class Driven(Calls, Protocol):
    """What a context needs of the driver of its run."""

    run_id: str
    thread_id: str | None

    def thread(self) -> Thread: ...

    def emit(self, path: str, text: str) -> None: ...

    def progress(self, path: str, text: str) -> None: ...

    def mark_unknown(self, path: str, call: CallKind) -> None: ...

    async def answer(self, path: str, codec: Codec) -> Json:
        """Wait for an answer that validates, and return it once it is recorded."""
        ...

    async def sleep_until(self, path: str, until: float) -> None: ...

    async def perform(self, agent: Performer, task: AgentTask, fingerprint: str) -> dict[str, Json]:
        """Have an agent's task done in a host, and its start and end recorded."""
        ...

    async def child(
        self, workflow: Workflow, value: object, path: str, budget: Budget | None
    ) -> tuple[str, Json]:
        """Run a workflow as a run of its own; return its id and its encoded output."""
        ...


@dataclass(slots=True)
class Scope:
    """Where the calls of one asyncio task get their paths.

    `step` is the step's path without its attempt; `prefix` ends with the task's lineage.
    """

    context: "Context"
    step: str
    prefix: str
    counts: dict[str, int] = field(default_factory=dict)
    tasks: int = 0

    def next(self, name: str) -> str:
        """Return the path of the next call of this name in this task."""
        position = self.counts.get(name, 0)
        self.counts[name] = position + 1
        return f"{self.prefix}/{name}.{position}" if position else f"{self.prefix}/{name}"

    def child(self, part: str) -> "Scope":
        return Scope(self.context, self.step, f"{self.prefix}/{part}")


SCOPE: ContextVar[Scope | None] = ContextVar("crew_scope", default=None)


def task_factory(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    *,
    context: Variables | None = None,
    **options: Any,
) -> asyncio.Task[T]:
    """Make a task that knows its place among its parent's; for `loop.set_task_factory`."""
    scope = SCOPE.get() if context is None else context.get(SCOPE)
    if scope is not None:
        context = copy_context() if context is None else context
        context.run(SCOPE.set, scope.child(f"t{scope.tasks}"))
        scope.tasks += 1
    return asyncio.Task(coroutine, loop=loop, context=context, **options)


@contextmanager
def entered(scope: Scope) -> Any:
    """Make `scope` the one in which calls get their paths."""
    token = SCOPE.set(scope)
    try:
        yield
    finally:
        SCOPE.reset(token)


class Context:
    """What a node holds of its run.

    Every method that is awaited is journalled: after a crash the node is entered again, and each
    of its calls that has a recorded result returns that result at once.
    """

    is_crew_context = True

    def __init__(self, driver: Driven, step: str, attempt: int, state: BaseModel | None) -> None:
        self._driver = driver
        self._attempt = attempt
        self._state = state
        self._patch: dict[str, Json] = {}
        self._keys: set[str] = set()
        prefix = step if attempt == 1 else f"{step}~{attempt}"
        self._root = Scope(self, step, prefix)

    @property
    def run_id(self) -> str:
        """The id of the run this step belongs to."""
        return self._driver.run_id

    @property
    def thread(self) -> Thread:
        """The conversation before this turn; without messages if the run has no thread."""
        return self._driver.thread()

    @property
    def state(self) -> Any:
        """The run's shared state as it was when this step started; change it with `patch`."""
        if self._state is None:
            raise GraphError(message="this workflow has no state; make it with Graph(state=Model)")
        return self._state

    def patch(self, **changes: object) -> None:
        """Change fields of the shared state; they take effect with this step's completion.

        A field with an `Append()` reducer is given a list of new items.

        Raises:
            OutputInvalid: a value does not validate.
            GraphError: the state has no such field.
        """
        model = type(self.state)
        for name, value in changes.items():
            if name not in model.model_fields:
                raise GraphError(message=f"{model.__name__} has no field {name!r}")
            codec = Codec(model.model_fields[name].annotation, where=f"state field {name!r}")
            self._patch[name], _ = codec.passed_on(value)

    async def run(
        self,
        callee: Any,
        *arguments: Any,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  a policy of the call, recorded as such
        budget: Budget | None = None,
        emit: bool = False,
    ) -> Any:
        """Call an agent, a workflow or a function, once per run.

        Args:
            callee: an agent (with its text), a workflow (with its input, as a run of its own), or
                a function (with its arguments, which must be data).
            arguments: what it is given.
            key: a name that keeps the call's place when the code around it changes.
            retry: attempts of this call alone.
            timeout: seconds for one attempt.
            budget: for a workflow, what it may spend.
            emit: pass an agent's text on as the workflow's answer.

        Returns:
            An `AgentResult`, the workflow's output, or what the function returned.
        """
        attempts = retry or ONCE
        for attempt in range(1, attempts.attempts + 1):
            try:
                async with time_limit(timeout, describe_callee(callee)):
                    return await self._call(callee, arguments, key, attempt, budget, emit=emit)
            except Exception as error:
                if not attempts.allows(error, attempt):
                    raise
                await asyncio.sleep(attempts.delay(attempt))
        raise AssertionError("a retry has at least one attempt")

    async def _call(
        self,
        callee: Any,
        arguments: tuple[Any, ...],
        key: str | None,
        attempt: int,
        budget: Budget | None,
        *,
        emit: bool,
    ) -> Any:
        suffix = f"~{attempt}" if attempt > 1 else ""
        if isinstance(callee, Workflow):
            return await self._run_child(callee, arguments, key, suffix, budget)
        if isinstance(callee, Performer):
            result = await self._run_agent(callee, arguments, key, suffix)
            if emit:
                self.emit(str(result.output))
            return result
        if not callable(callee):
            raise GraphError(
                message=f"ctx.run takes an agent, a workflow or a function, not {callee!r}"
            )
        return await self._run_function(callee, arguments, key, suffix)

    async def _run_agent(
        self, agent: Performer, arguments: tuple[Any, ...], key: str | None, suffix: str
    ) -> Any:
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            raise GraphError(message=f"ctx.run(agent, text): {agent.name!r} takes one text")
        (text,) = arguments
        path = self._path(agent.name, key) + suffix
        history = self.thread.messages if agent.history else ()
        session = self._driver.thread_id or self.run_id
        task = AgentTask(self.run_id, path, text, history, f"{session}/{agent.name}")
        result = await self._driver.perform(agent, task, _fingerprint(agent.name, text))
        return agent.result_of(result)

    async def _run_child(
        self,
        workflow: Workflow,
        arguments: tuple[Any, ...],
        key: str | None,
        suffix: str,
        budget: Budget | None,
    ) -> Any:
        (value,) = arguments or (None,)
        path = self._path(workflow.name, key) + suffix
        stored = _encoded(workflow.input_codec, value)
        fingerprint = _fingerprint(workflow.name, stored)
        data = {"workflow": workflow.name, "input": stored}
        record = await self._driver.begin(path, "child", fingerprint, data)
        if record is None or record.state == "started":
            try:
                run, output = await self._driver.child(workflow, value, path, budget)
            except CrewError as error:
                await self._driver.fail(path, "child", failure_of(error, path))
                raise
            result = {"run": run, "output": output}
            await self._driver.complete(path, "child", result)
        else:
            result = outcome(record)
        return workflow.output_codec.decode(result["output"])

    async def _run_function(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], key: str | None, suffix: str
    ) -> Any:
        name = describe_callee(function)
        path = self._path(name, key) + suffix
        codec = _returns(function, name)
        fingerprint = _fingerprint(name, _data_arguments(function, arguments))
        record = await self._driver.begin(path, "function", fingerprint, {})
        if record is not None and record.state != "started":
            return codec.decode(outcome(record)["result"])
        scope = Scope(self, self._root.step, path)
        try:
            with entered(scope):
                stored, value = codec.passed_on(await invoke(function, *arguments))
        except Exception as error:
            await self._driver.fail(path, "function", failure_of(error, path))
            raise
        await self._driver.complete(path, "function", {"result": stored})
        return value

    async def effect(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> Any:
        """Act on the world, at most once, or let `unknown` decide.

        The intent is on disk before the function starts. If it takes `idempotency_key`, it gets
        one that stays the same over attempts and restarts of this run.

        Args:
            function: what acts; its arguments and its result must be data.
            arguments: what it is given; keyword arguments go through `functools.partial`.
            key: unique in the step; without one the effect is found by its position.
            unknown: what happens if a crash hid whether it happened: `fail` raises, `retry` does
                it again with the same idempotency key, `ask` asks a person.

        Raises:
            EffectUnknown: it may have happened, and `unknown` is `fail`.
        """
        name = describe_callee(function)
        path = self._lasting_path(name, key)
        codec = _returns(function, name)
        fingerprint = _fingerprint(name, _data_arguments(function, arguments))
        data: dict[str, Json] = {
            "function": name,
            "unknown": unknown,
            "attempt": self._attempt,
            "idempotency_key": idempotency_key(self.run_id, path),
        }
        record = await self._driver.begin(path, "effect", fingerprint, data)
        if record is not None:
            if record.state == "completed":
                return codec.decode(record.result["result"])
            if record.state == "failed" and record.data.get("attempt") == self._attempt:
                outcome(record)
            if record.state != "failed" and not await self._may_repeat(path, unknown):
                return None
            await self._driver.restart(path, "effect", fingerprint, data)
        return await self._act(function, arguments, path, codec, data["idempotency_key"])

    async def _may_repeat(self, path: str, unknown: Unknown) -> bool:
        """Decide about an effect that may have happened already."""
        if unknown == "retry":
            return True
        self._driver.mark_unknown(path, "effect")
        if unknown == "fail":
            raise EffectUnknown(
                message=f"a crash hid whether the effect {path} of run {self.run_id} happened; "
                "look, then fork the run, or declare unknown='retry' or 'ask'",
                run=self.run_id,
                path=path,
            )
        happened = await self.ask(
            bool, f"Did the effect {path} happen?", key=f"{path.rpartition('/')[2]}:happened"
        )
        return not happened

    async def _act(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        path: str,
        codec: Codec,
        key: str,
    ) -> Any:
        extra = {"idempotency_key": key} if takes_idempotency_key(function) else {}
        acting = asyncio.ensure_future(invoke(function, *arguments, **extra))
        try:
            result = await asyncio.shield(acting)
            stored, value = codec.passed_on(result)
        except asyncio.CancelledError:
            await self._let_effect_end(acting, path, codec)
            raise
        except Exception as error:
            await self._driver.fail(path, "effect", failure_of(error, path))
            raise
        await self._driver.complete(path, "effect", {"result": stored})
        return value

    async def _let_effect_end(self, acting: "asyncio.Future[Any]", path: str, codec: Codec) -> None:
        """A cancel came while an effect was under way: give it a moment, then say what is known."""
        done, _ = await asyncio.wait({acting}, timeout=EFFECT_GRACE)
        if done and not acting.cancelled() and acting.exception() is None:
            await self._driver.complete(path, "effect", {"result": codec.encode(acting.result())})
            return
        acting.cancel()
        self._driver.mark_unknown(path, "effect")

    async def ask(self, answer: Any, question: str, *, key: str | None = None) -> Any:
        """Ask a person, and wait for an answer of the type `answer`, for as long as it takes.

        `key` addresses the question; it is unique in the step.
        """
        path = self._lasting_path("ask", key)
        codec = Codec(answer, where=f"the answer to {question!r}")
        data = {
            "question": question,
            "key": path.rpartition("/")[2],
            "schema": codec.schema(),
            "type": describe(answer),
        }
        record = await self._driver.begin(path, "ask", _fingerprint("ask", question), data)
        if record is not None and record.state == "completed":
            return codec.decode(record.result["value"])
        return codec.decode(await self._driver.answer(path, codec))

    async def map(
        self,
        function: Any,
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        key: str | None = None,
    ) -> list[Any]:
        """Call `function` (or an agent, or a workflow) for each item; results in their order.

        Args:
            function: what is called with each item, as by `run`.
            items: their indexes are part of the calls' paths.
            concurrency: how many are under way at once; all, by default.
            key: a name that keeps the calls' place when the code around them changes.
        """
        path = self._path(describe_callee(function), key)
        limit = asyncio.Semaphore(concurrency) if concurrency else None

        async def one(index: int, item: Any) -> Any:
            # The item's index is its place, not the number of the task that happens to run it.
            with entered(Scope(self, self._root.step, f"{path}[{index}]")):
                if limit is None:
                    return await self.run(function, item)
                async with limit:
                    return await self.run(function, item)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(i, item)) for i, item in enumerate(items)]
        return [task.result() for task in tasks]

    async def sleep(self, seconds: float) -> None:
        """Wait; the time goes on while the process is down."""
        path = self._path("sleep", None)
        data = {"until": time.time() + seconds}
        record = await self._driver.begin(path, "timer", _fingerprint("sleep", seconds), data)
        if record is not None and record.state == "completed":
            return
        until = (record.data if record is not None else data)["until"]
        await self._driver.sleep_until(path, until)

    async def now(self) -> float:
        """Return the wall clock in unix seconds, the same on every resume."""
        return cast("float", await self._value("now", time.time))

    async def random(self) -> float:
        """Return a random number in [0, 1), the same on every resume."""
        return cast("float", await self._value("random", random.random))

    async def _value(self, name: str, make: Callable[[], float]) -> Json:
        path = self._path(name, None)
        record = await self._driver.begin(path, "value", _fingerprint(name, None), {})
        if record is not None and record.state == "completed":
            return record.result["value"]
        value = make()
        await self._driver.complete(path, "value", {"value": value})
        return value

    def emit(self, text: str) -> None:
        """Add a piece to the workflow's answer, as a caller that streams it sees it."""
        self._driver.emit(self._path("emit", None), text)

    def progress(self, text: str) -> None:
        """Tell whoever watches what is being done."""
        self._driver.progress(self._path("progress", None), text)

    def _path(self, name: str, key: str | None) -> str:
        scope = SCOPE.get()
        if scope is None or scope.context is not self:
            scope = self._root
        if key is None:
            return scope.next(name)
        self._claim(key)
        return f"{self._root.prefix}/{key}"

    def _lasting_path(self, name: str, key: str | None) -> str:
        """Return the path of an effect or question, which further attempts find again."""
        if key is not None:
            self._claim(key)
            return f"{self._root.step}/{key}"
        path = self._path(name, None)
        return self._root.step + path.removeprefix(self._root.prefix)

    def _claim(self, key: str) -> None:
        if key in self._keys:
            raise GraphError(message=f"the key {key!r} was used twice in one step; keys are unique")
        self._keys.add(key)


def describe_callee(callee: Any) -> str:
    """Return the name under which a callee's calls are recorded."""
    while isinstance(callee, functools.partial):
        callee = callee.func
    name = getattr(callee, "name", None) or getattr(callee, "__name__", None)
    return str(name or type(callee).__name__).replace("<lambda>", "lambda")


async def invoke(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function of the user's; a synchronous one in a thread, off the event loop."""
    target = function.func if isinstance(function, functools.partial) else function
    if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        getattr(target, "__call__", None)  # noqa: B004  asks what it is, not whether it is
    ):
        return await function(*arguments, **options)
    result = await asyncio.to_thread(function, *arguments, **options)
    return await result if isinstance(result, Awaitable) else result


def takes_idempotency_key(function: Callable[..., Any]) -> bool:
    """Return whether a function has a parameter for its idempotency key."""
    try:
        return "idempotency_key" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def idempotency_key(run: str, path: str) -> str:
    """Return the key under which the far side can recognise one effect of one run."""
    return hashlib.sha256(f"{run}\0{path}".encode()).hexdigest()[:32]


def failure_of(error: BaseException, path: str) -> Failure:
    """Return an error as it is recorded."""
    where = getattr(error, "path", "") if isinstance(error, errors.RunFailed) else path
    return Failure(type(error).__name__, str(error) or type(error).__name__, where or path)


def error_of(failure: Failure, run: str) -> Exception:
    """Return a recorded error as its class again, so that it can be caught as it was live.

    Classes of this package and Python's own are found by name; any other becomes `RunFailed` with
    the type and message of its cause.
    """
    import builtins

    own = getattr(errors, failure.type, None)
    if isinstance(own, type) and issubclass(own, CrewError) and own is not errors.RunFailed:
        if issubclass(own, errors.RunFailed):
            return own(run=run, cause_type=failure.type, cause_message=failure.message)
        if own.__str__ is CrewError.__str__:
            return own(message=failure.message)
    built_in = getattr(builtins, failure.type, None)
    if isinstance(built_in, type) and issubclass(built_in, Exception):
        return built_in(failure.message)
    return errors.RunFailed(
        run=run, path=failure.path, cause_type=failure.type, cause_message=failure.message
    )


def outcome(record: Record) -> dict[str, Json]:
    """Return a record's result, or raise its error."""
    if record.error is not None:
        raise error_of(record.error, "")
    return record.result


def _encoded(codec: Codec, value: object) -> Json:
    try:
        return codec.encode(value)
    except errors.OutputInvalid as error:
        raise InputInvalid(message=str(error)) from error


def _returns(function: Callable[..., Any], name: str) -> Codec:
    target = function.func if isinstance(function, functools.partial) else function
    try:
        hints = inspect.get_annotations(target, eval_str=True)
    except (NameError, TypeError):
        hints: dict[str, Any] = {}
    return Codec(hints.get("return", Any), where=f"what {name!r} returns")


def _data_arguments(function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
    """Return the arguments that identify a call: all but the context it may be handed."""
    given = [item for item in arguments if not isinstance(item, Context)]
    if isinstance(function, functools.partial):
        return [*function.args, *given, dict(sorted(function.keywords.items()))]
    return given


def _fingerprint(name: str, arguments: object) -> str:
    return f"{name}:{hashlib.sha256(canonical(arguments).encode()).hexdigest()[:12]}"


class time_limit:  # noqa: N801  reads as `async with time_limit(5, "fetch")`
    """A bound in seconds on a block, or none; StepTimeout names what took longer."""

    def __init__(self, seconds: float | None, what: str) -> None:
        self._seconds, self._what = seconds, what
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *exc: Any) -> bool | None:
        try:
            return await self._timeout.__aexit__(*exc)
        except TimeoutError as error:
            raise StepTimeout(
                message=f"{self._what} took longer than its timeout of {self._seconds} s"
            ) from error
