"""What a node holds of its run: journalled calls, effects, questions, time and shared state.

A call's path is its place in the program: the step, the lineage of the asyncio task it is made in
(the n-th task made by its parent), and its position there. It does not depend on which of several
tasks is faster, so that a resumed run finds each recorded call again.
"""

import asyncio
import functools
import random
from collections.abc import Callable, Iterable
from inspect import isfunction
from typing import Any, Protocol, cast

from pydantic import BaseModel

from crew.budget import Budget
from crew.call import (
    AgentTask,
    Calls,
    Performer,
    data_arguments,
    describe_callee,
    failure_of,
    fingerprint_of,
    invoke,
    is_of_the_run,
    outcome,
    recorded_value,
    returned_codec,
    time_limit,
    together,
)
from crew.clock import wall_clock
from crew.effect import Effect, Unknown
from crew.errors import CrewError, GraphError, InputInvalid, OutputInvalid
from crew.graph import Workflow
from crew.lineage import SCOPE, Branches, Scope, entered
from crew.message import Json
from crew.retry import ONCE, Retry
from crew.thread import Thread
from crew.value import Codec, describe


class Driven(Calls, Protocol):
    """What a context needs of the driver of its run."""

    run_id: str
    thread_id: str | None
    tenant: str

    def confirm(self) -> None: ...

    def thread(self) -> Thread: ...

    def emit(self, path: str, text: str) -> None: ...

    def has_said(self, path: str) -> bool:
        """Return whether the agent called at `path` passed text on while it was said."""
        ...

    def progress(self, path: str, text: str) -> None: ...

    async def answer(self, path: str, codec: Codec) -> Json:
        """Wait for an answer that validates, and return it once it is recorded."""
        ...

    async def sleep_until(self, path: str, until: float) -> None: ...

    async def perform(self, agent: Performer, task: AgentTask, fingerprint: str) -> dict[str, Json]:
        """Have an agent's task done in a host, and its start and end recorded."""
        ...

    async def child(
        self, workflow: Workflow, value: object, path: str, budget: Budget | None
    ) -> dict[str, Json]:
        """Run a workflow as a run of its own; return its id, its encoded output and its usage."""
        ...

    def share_of(self, budget: Budget | None) -> Budget | None:
        """Return what a child run may spend: what it is given, as far as this run has it left."""
        ...


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
        self._root = Scope(self, step, prefix, Branches())

    @property
    def branches(self) -> Branches:
        """The asyncio tasks of this step."""
        return self._root.branches

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
            emit: pass an agent's text on as the workflow's answer, while its model says it.

        Returns:
            An `AgentResult`, the workflow's output, or what the function returned.
        """
        if retry is None and timeout is None:
            return await self._call(callee, arguments, key, 1, budget, emit=emit)
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
        if isfunction(callee):
            return await self._run_function(callee, arguments, key, suffix)
        if isinstance(callee, Workflow):
            return await self._run_child(callee, arguments, key, suffix, budget)
        if isinstance(callee, Performer):
            return await self._run_agent(callee, arguments, key, suffix, emit=emit)
        if not callable(callee):
            raise GraphError(
                message=f"ctx.run takes an agent, a workflow or a function, not {callee!r}"
            )
        return await self._run_function(callee, arguments, key, suffix)

    async def _run_agent(
        self,
        agent: Performer,
        arguments: tuple[Any, ...],
        key: str | None,
        suffix: str,
        *,
        emit: bool,
    ) -> Any:
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            raise GraphError(message=f"ctx.run(agent, text): {agent.name!r} takes one text")
        (text,) = arguments
        path = self._path(agent.name, key) + suffix
        history = self.thread.messages if agent.history else ()
        session = f"{self._driver.thread_id or self.run_id}/{agent.name}"
        tenant = self._driver.tenant
        task = AgentTask(self.run_id, path, text, history, session, emit=emit, tenant=tenant)
        result = await self._driver.perform(agent, task, fingerprint_of(agent.name, text))
        found = recorded_value(agent.result_of, result, run=self.run_id, path=path)
        if emit and not self._driver.has_said(path):
            self.emit(str(found.output))
        return found

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
        fingerprint = fingerprint_of(workflow.name, stored)
        data = {"workflow": workflow.name, "input": stored}
        share = self._driver.share_of(budget)
        if share is not None:
            data |= {"reserve": share.tokens or 0, "reserve_calls": share.calls or 0}
        record = await self._driver.begin(path, "child", fingerprint, data)
        if record is None or record.state == "started":
            try:
                result = await self._driver.child(workflow, value, path, share)
            except CrewError as error:
                if not is_of_the_run(error):
                    await self._driver.fail(path, "child", failure_of(error, path))
                raise
            await self._driver.complete(path, "child", result)
        else:
            result = outcome(record)
        decode = workflow.output_codec.decode
        return recorded_value(decode, result["output"], run=self.run_id, path=path)

    async def _run_function(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], key: str | None, suffix: str
    ) -> Any:
        name = describe_callee(function)
        path = self._path(name, key) + suffix
        codec = returned_codec(function, name)
        fingerprint = fingerprint_of(name, data_arguments(function, arguments))
        record = await self._driver.begin(path, "function", fingerprint, {})
        if record is not None and record.state != "started":
            stored = outcome(record)["result"]
            return recorded_value(codec.decode, stored, run=self.run_id, path=path)
        try:
            with entered(self._root.within(path)):
                stored, value = codec.passed_on(await invoke(function, *arguments))
        except Exception as error:
            if not is_of_the_run(error):
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
        path = self._lasting_path(describe_callee(function), key)
        effect = Effect(self._driver, path, self._attempt, function, arguments)
        return await effect.happen(unknown, ask=functools.partial(self.ask, bool))

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
        record = await self._driver.begin(path, "ask", fingerprint_of("ask", question), data)
        if record is not None and record.state == "completed":
            stored = record.result["value"]
            return recorded_value(codec.decode, stored, run=self.run_id, path=path)
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

        Raises:
            Exception: the first error of a call, as it is; the others are cancelled.
        """
        path = self._path(describe_callee(function), key)
        limit = asyncio.Semaphore(concurrency) if concurrency else None

        async def one(index: int, item: Any) -> Any:
            # The item's index is its place, not the number of the task that happens to run it.
            with entered(self._root.within(f"{path}[{index}]")):
                if limit is None:
                    return await self.run(function, item)
                async with limit:
                    return await self.run(function, item)

        return await together(one(index, item) for index, item in enumerate(items))

    async def sleep(self, seconds: float) -> None:
        """Wait; the time goes on while the process is down."""
        path = self._path("sleep", None)
        data = {"until": wall_clock() + seconds}
        record = await self._driver.begin(path, "timer", fingerprint_of("sleep", seconds), data)
        if record is not None and record.state == "completed":
            return
        until = (record.data if record is not None else data)["until"]
        await self._driver.sleep_until(path, until)

    async def now(self) -> float:
        """Return the wall clock in unix seconds, the same on every resume."""
        return cast("float", await self._value("now", wall_clock))

    async def random(self) -> float:
        """Return a random number in [0, 1), the same on every resume."""
        return cast("float", await self._value("random", random.random))

    async def _value(self, name: str, make: Callable[[], float]) -> Json:
        path = self._path(name, None)
        record = await self._driver.begin(path, "value", fingerprint_of(name, None), {})
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


def _encoded(codec: Codec, value: object) -> Json:
    try:
        return codec.encode(value)
    except OutputInvalid as error:
        raise InputInvalid(message=str(error)) from error
