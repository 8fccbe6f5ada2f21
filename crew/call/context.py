"""What a node holds of its run: journalled calls, effects, questions, time and shared state.

A call's path is its place in the program: the step, the lineage of the asyncio task it is made in
(the n-th of its function's name that its parent made), and its position there, or its key alone. It
does not depend on which of several tasks is faster, so that a resumed run finds each recorded call
again.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, replace
from inspect import isfunction
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic, cast, overload

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from typing_extensions import TypeForm, TypeVar, TypeVarTuple

from crew.budget import Budget, BudgetLeft
from crew.call.addressee import addressed
from crew.call.concurrent import all_at_once, few_at_once
from crew.call.conversing import converses, leading, noted, task_of
from crew.call.deadline import Allotted, Deadline, Limit, within
from crew.call.driven import Driven
from crew.call.effect import Effect, Unknown
from crew.call.instructions import as_instructions
from crew.call.invoke import cancels, invoke, is_asked_to_stop, not_an_exception
from crew.call.lineage import SCOPE, Inside, Scope, as_key, entered
from crew.call.place import Place, misplaced
from crew.call.record import (
    AgentTask,
    Performer,
    data_arguments,
    describe_callee,
    fingerprint_aside,
    fingerprint_of,
    is_performer,
    outcome,
    returned_codec,
    unreadable,
)
from crew.call.thread_state import TurnState, hand_out
from crew.clock import wall_clock
from crew.content import as_content, content_key
from crew.define import frozen
from crew.errors import GraphError, InputInvalid, OutputInvalid
from crew.event import CallKind, Failure
from crew.failure import failure_of, raise_again
from crew.fold.calls import Record
from crew.graph import Workflow
from crew.graph.patch import Patch
from crew.graph.retry import ONCE, Retry
from crew.message import Json, Message, message_data
from crew.thread import Thread
from crew.value import LIGHT, Codec, aside, describe, is_big, text_of, with_own_arguments

if TYPE_CHECKING:
    from crew.call.earlier_turns import EarlierTurns
    from crew.call.keyed import Keyed0, Keyed1, Keyed2, Keyed3, Keyed4
    from crew.call.notes import Notes
    from crew.content import Part

_STATELESS = "this workflow has no state; make it with Graph(state=Model)"

_WITHOUT_DEPS = (
    "this workflow has no deps; give it what opens them: Graph(…, deps=open_deps), or "
    "@workflow(deps=open_deps)"
)

T = TypeVar("T")
Deps = TypeVar("Deps", default=Any, covariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@frozen
class _Policies:
    """How one call of `Context.run` is made."""

    timeout: float | None = None
    emit: bool = False
    messages: tuple[Message, ...] | None = None
    is_turn: bool = True
    """Whether an agent gets it for the conversation of the run's thread."""


_NO_POLICIES = _Policies()
_OF_ITEM = _Policies(is_turn=False)


class Context(Generic[Deps]):
    """What a node, or a tool of an agent, holds of its run; `Context[Deps]` says what it needs.

    Every method that is awaited is journalled: after a crash the node is entered again, and each
    of its calls that has a recorded result returns that result at once, in the order in which the
    results came.
    """

    is_crew_context = True

    def __init__(
        self,
        driver: Driven,
        state: BaseModel | None,
        function: Callable[..., Any] | None = None,
    ) -> None:
        self._driver = driver
        self._function = function
        """The node's: where the classes are seen that its code catches errors by."""
        self._state = state
        self._changes = None if state is None else Patch(state)
        self._keys: dict[str, tuple[str, str]] = {}

    @property
    def run_id(self) -> str:
        """The id of the run this step belongs to."""
        return self._driver.run_id

    @property
    def deps(self) -> Deps:
        """What the workflow's `deps=` has opened in this process.

        Raises:
            GraphError: it has none.
        """
        deps: Deps | None = self._driver.deps
        if deps is None:
            raise GraphError(message=_WITHOUT_DEPS)
        return deps

    @property
    def tenant(self) -> str:
        """Who the run belongs to."""
        return self._driver.tenant

    @property
    def metadata(self) -> dict[str, Json]:
        """What the run was started with to be kept beside it; empty if that was nothing."""
        return self._driver.metadata()

    @property
    def thread(self) -> Thread:
        """The conversation before this turn; without messages if the run has no thread.

        Its `state` is a dict of JSON values that is kept with it: what a turn changes is committed
        with its completion, and is nothing if it fails.
        """
        return replace(self._driver.thread(), state=TurnState(self._driver))

    @property
    def notes(self) -> Notes:
        """What the runs of this tenant write down for later ones: `write`, `search`, `forget`."""
        from crew.call.notes import Notes  # only where there are some

        return Notes(self._driver, self._place)

    @property
    def state(self) -> Any:
        """The run's shared state as it was when this step started; change it with `patch`."""
        if self._state is None:
            raise GraphError(message=_STATELESS)
        return self._state

    @property
    def changes(self) -> dict[str, Json] | None:
        """What this step changes in the shared state, encoded; None if nothing."""
        return None if self._changes is None else self._changes.data or None

    def patch(self, **changes: object) -> None:
        """Change fields of the shared state; they take effect with this step's completion.

        A field with an `Append()` reducer is given a list of new items, each time.

        Raises:
            OutputInvalid: a value does not validate, or the state as a whole does not with it.
            GraphError: the state has no such field.
        """
        if self._changes is None:
            raise GraphError(message=_STATELESS)
        self._changes.add(changes)

    @overload
    async def run(
        self,
        callee: Performer[R],
        text: str | Sequence[Part],
        /,
        *,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        budget: Budget | None = None,
        emit: bool = False,
        messages: Sequence[Message] | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        callee: Workflow[None, R],
        /,
        *,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        budget: Budget | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        callee: Workflow[A, R],
        value: A,
        /,
        *,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        budget: Budget | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        callee: Callable[[*Ts], Awaitable[R]],
        *arguments: *Ts,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        budget: Budget | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        callee: Callable[[*Ts], R],
        *arguments: *Ts,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        budget: Budget | None = None,
    ) -> R: ...
    async def run(
        self,
        callee: Any,
        *arguments: Any,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  a policy of the call, recorded as such
        budget: Budget | None = None,
        emit: bool = False,
        messages: Sequence[Message] | None = None,
    ) -> Any:
        """Call an agent, a workflow or a function, once per run.

        Args:
            callee: an agent (with its text, or a list of texts, images and files), a workflow
                (with its input, as a run of its own), or a function (with its arguments, which
                must be data).
            arguments: what it is given.
            key: a name that keeps the call's place when the code around it changes.
            retry: attempts of this call alone.
            timeout: seconds for one attempt.
            budget: what it may spend at most, all attempts and all that is called beneath it
                together; it comes out of what is left to whatever is around it.
            emit: pass an agent's text on as the workflow's answer, while its model says it.
            messages: what an agent sees as said before, such as the `messages` of an earlier
                result, in place of the thread's earlier turns. With an empty text it goes on there.

        Returns:
            An `AgentResult`, the workflow's output, or what the function returned.
        """
        place = self._place(describe_callee(callee), key)
        is_plain = retry is None and timeout is None and budget is None
        if is_plain and not emit and messages is None:
            return await self._handed_out(self._call(callee, arguments, place), place.path)
        said = None if messages is None else said_before(messages, callee)
        policies = _Policies(timeout, emit, said)
        async with self._within(budget, place.path):
            return await self._tried(callee, arguments, place, retry or ONCE, policies)

    @asynccontextmanager
    async def _within(self, budget: Budget | None, path: str) -> AsyncIterator[None]:
        """A block in which what is called at `path` and beneath it spends no more than a budget."""
        if budget is not None:
            self._driver.give(path, budget)
        if budget is None or budget.seconds is None:
            yield
            return
        async with Allotted(self._driver, path, budget.seconds):
            yield

    async def _tried(
        self,
        callee: Any,
        arguments: tuple[Any, ...],
        place: Place,
        attempts: Retry,
        policies: _Policies,
    ) -> Any:
        """Call once more where that failed, as often as it may be."""
        attempt = 1
        while True:
            path, work = place.path, self._call(callee, arguments, place, policies)
            if attempt == attempts.attempts:
                return await self._handed_out(work, path)
            try:
                value = await work
            except Exception as error:
                if not attempts.allows(error, attempt):
                    await self._driver.turn(path)
                    raise
                await self._driver.attempt.stop(path)
                await self._pause(f"{path}/:retry", "retry", attempts.delay(attempt))
            else:
                await self._driver.turn(path)
                if self._driver.attempt.thread is not None:
                    hand_out(self._driver, path)
                return value
            attempt += 1
            place = place.again(attempt)

    async def _handed_out(self, work: Awaitable[T], path: str) -> T:
        """Return what came of the call at `path` when it is its turn, or raise it."""
        try:
            value = await work
        except Exception:
            await self._driver.turn(path)
            raise
        attempt = self._driver.attempt
        if not attempt.is_alone:
            await attempt.gate.turn(self._driver.order_of(path))
        if attempt.thread is not None:
            hand_out(self._driver, path)
        return value

    def _call(
        self,
        callee: Any,
        arguments: tuple[Any, ...],
        place: Place,
        policies: _Policies = _NO_POLICIES,
    ) -> Coroutine[Any, Any, Any]:
        """Return what makes one attempt of a call."""
        if isfunction(callee):
            return self._run_function(callee, arguments, place, policies)
        if isinstance(callee, Workflow):
            return self._run_child(callee, arguments, place, policies)
        if is_performer(callee):
            return self._run_agent(callee, arguments, place, policies)
        if not callable(callee):
            raise GraphError(
                message=f"ctx.run takes an agent, a workflow or a function, not {callee!r}"
            )
        return self._run_function(callee, arguments, place, policies)

    async def _run_agent(
        self,
        agent: Performer,
        arguments: tuple[Any, ...],
        place: Place,
        policies: _Policies,
    ) -> Any:
        content = as_content(arguments[0]) if len(arguments) == 1 else None
        if content is None:
            raise GraphError(
                message=f"ctx.run(agent, text): {agent.name!r} takes one text, or a list of texts, "
                "Image(data, media_type) and File(name, data)"
            )
        path, driver, emit, said = place.path, self._driver, policies.emit, policies.messages
        is_turn, lead = False, agent
        if policies.is_turn and said is None and converses(agent, driver):
            is_turn, lead = True, leading(driver, agent, path)
        earlier: EarlierTurns = (said or (), None)
        if said is None and (agent.history or lead.history):
            from crew.call.earlier_turns import earlier_turns  # only where some are seen

            earlier = earlier_turns(driver, lead, agent)
        task = task_of(driver, lead, path, content, *earlier, emit=emit)
        given = content_key(content)
        fingerprint = fingerprint_of(agent.name, given if said is None else [given, _key_of(said)])
        record = await driver.agent(lead, path, fingerprint)

        work: Callable[[], Awaitable[dict[str, Json]]]
        work = functools.partial(driver.perform, lead, task, fingerprint)
        written = getattr(driver.standing_in(lead), "instructions", "")
        if callable(written):
            work = functools.partial(self._instructed, written, lead, task, fingerprint, place)
        if is_turn:
            work = functools.partial(noted, driver, agent, lead, work)
        result = await self._made(record, place, "agent", work, policies.timeout)
        if "thread" in result:
            driver.thread_view().came[path] = result["thread"]
        found = self._read_back(agent.result_of, result, path)
        if emit and not driver.has_streamed(path):
            self.emit(text_of(to_jsonable_python(found.output)))
        return found

    async def _instructed(
        self,
        instructions: Callable[..., Any],
        agent: Performer,
        task: AgentTask,
        fingerprint: str,
        place: Place,
    ) -> dict[str, Json]:
        """Have a task done by an agent for which a function writes instructions, once."""
        inside = place.inside
        at = Place(describe_callee(instructions), inside, ":instructions", inside)
        written = await self._run_function(instructions, (self,), at, _NO_POLICIES)
        instructed = replace(task, instructions=as_instructions(agent.name, written))
        return await self._driver.perform(agent, instructed, fingerprint)

    async def _run_child(
        self,
        workflow: Workflow,
        arguments: tuple[Any, ...],
        place: Place,
        policies: _Policies,
    ) -> Any:
        (value,) = arguments or (None,)
        path, driver = place.path, self._driver
        stored, fingerprint = await self._child_input(workflow, value, path)
        data: dict[str, Json] = {"workflow": workflow.name, "input": stored}
        record = await self._begin(path, "child", fingerprint, data)
        work = functools.partial(driver.child, workflow, value, path)
        result = await self._made(record, place, "child", work, policies.timeout)
        output = result["output"]
        if is_big(output):
            return await self._read_back_aside(workflow.output_codec, output, path)
        return self._read_back(workflow.output_codec.read_back, output, path)

    async def _child_input(self, workflow: Workflow, value: object, path: str) -> tuple[Json, str]:
        """Return what a child is given, encoded, and the fingerprint of its call."""
        codec = workflow.input_codec
        try:
            if not is_big(value):
                stored, _ = codec.passed_on(value)
                return stored, fingerprint_of(workflow.name, stored)
            stored = await self._driver.encoded(codec, value)
            return stored, await fingerprint_aside(workflow.name, stored)
        except OutputInvalid as error:
            raise InputInvalid(message=str(error)) from error
        except asyncio.CancelledError:
            await self._driver.cancelled(path, "child")
            raise

    async def _run_function(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        place: Place,
        policies: _Policies,
    ) -> Any:
        path = place.path
        codec = returned_codec(function, place.name)
        given = data_arguments(function, arguments)
        is_given_much = not LIGHT.issuperset(map(type, given)) and any(map(is_big, given))
        if is_given_much:
            fingerprint = await self._fingerprint_aside(place.name, given, path)
        else:
            fingerprint = fingerprint_of(place.name, given)
        record = self._driver.begin_at_once(path, "function", fingerprint)
        if record is None:
            record = await self._begin(path, "function", fingerprint, {})
        value: Any = None

        async def work() -> dict[str, Json]:
            nonlocal value
            if is_given_much:
                callee, own = await aside(with_own_arguments, function, arguments)
            else:
                callee, own = with_own_arguments(function, arguments)
            result = await invoke(callee, *own)
            if type(result) not in LIGHT and is_big(result):
                stored, value = await self._driver.passed_on(codec, result)
            else:
                stored, value = codec.passed_on(result)
            view = self._driver.attempt.thread
            changes = None if view is None else view.within.pop(path, None)
            return {"result": stored, "thread": changes} if changes else {"result": stored}

        is_new = record is None or record.state == "started"
        result = await self._made(record, place, "function", work, policies.timeout, function)
        if "thread" in result:
            self._driver.thread_view().came[path] = result["thread"]
        if is_new:
            return value
        stored = result["result"]
        if is_big(stored):
            return await self._read_back_aside(codec, stored, path)
        return self._read_back(codec.read_back, stored, path)

    async def _fingerprint_aside(self, name: str, given: list[Any], path: str) -> str:
        """Return the fingerprint of a function's call; one that is cancelled so has an end, too."""
        try:
            return await fingerprint_aside(name, given)
        except asyncio.CancelledError:
            await self._driver.cancelled(path, "function")
            raise

    async def _begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        """Begin a call; one that is cancelled before it has begun has an end, too."""
        try:
            return await self._driver.begin(path, call, fingerprint, data)
        except asyncio.CancelledError:
            await self._driver.cancelled(path, call)
            raise

    async def _made(
        self,
        record: Record | None,
        place: Place,
        call: CallKind,
        work: Callable[[], Awaitable[dict[str, Json]]],
        timeout: float | None,  # noqa: ASYNC109  recorded as the end of the call
        function: Callable[..., Any] | None = None,
    ) -> dict[str, Json]:
        """Return the recorded result of a call, or make it and record what comes of it."""
        driver, path, near = self._driver, place.path, (function, self._function)
        if record is not None and record.state == "cancelled":
            await driver.until_cancelled(path)
        if record is not None and record.is_ended:
            return outcome(record, *near)
        failure: Failure | None = None
        result: dict[str, Json] = {}
        # What the library does by itself runs in no place of the program's.
        inside = place.inside if call == "function" else _inside(call, place.name)
        before = cancels()
        try:
            if timeout is None:
                with entered(inside):
                    result = await work()
            else:
                async with Limit(driver, path, timeout, path):
                    with entered(inside):
                        result = await work()
        except asyncio.CancelledError as error:
            if is_asked_to_stop() or driver.attempt.is_over:
                await driver.cancelled(path, call)
                raise
            failure = failure_of(not_an_exception(error), path)
        except Exception as error:  # noqa: BLE001  raised again, as it is recorded
            failure = failure_of(error, path)
        if (swallowed := cancels() - before) > 0:
            await self._swallowed(path, call)
            result["swallowed"] = swallowed
        if failure is not None:
            await driver.fail(path, call, failure, swallowed=result.get("swallowed"))
            raise_again(failure, *near)
        await driver.complete(path, call, result)
        return result

    async def _swallowed(self, path: str, call: CallKind) -> None:
        """Let a call that swallowed a cancel come to something else, but for that of an end.

        Raises:
            CancelledError: the run ends here, or is let go: whoever goes on makes the call again.
        """
        if self._driver.is_stopping:
            await self._driver.cancelled(path, call)
            raise asyncio.CancelledError

    def _read_back(self, read: Callable[[Json], T], stored: Json, path: str) -> T:
        """Return a value that is on record; new code may be unable to `read` it.

        Raises:
            CancelledError: it is, so that the run is stopped until somebody chooses a way on.
        """
        try:
            return read(stored)
        except Exception as error:
            self._driver.diverge(unreadable(error, stored, run=self.run_id, path=path))
            raise asyncio.CancelledError from error

    async def _read_back_aside(self, codec: Codec, stored: Json, path: str) -> Any:
        """Return the same of a big value, without holding the event loop."""
        try:
            return await aside(codec.in_parts.read_back, stored)
        except Exception as error:
            self._driver.diverge(unreadable(error, stored, run=self.run_id, path=path))
            raise asyncio.CancelledError from error

    @overload
    async def effect(
        self,
        function: Callable[[*Ts], Awaitable[R]],
        *arguments: *Ts,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Keyed0[Awaitable[R]],
        /,
        *,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Keyed1[A, Awaitable[R]],
        a: A,
        /,
        *,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Keyed2[A, B, Awaitable[R]],
        a: A,
        b: B,
        /,
        *,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Keyed3[A, B, C, Awaitable[R]],
        a: A,
        b: B,
        c: C,
        /,
        *,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Keyed4[A, B, C, D, Awaitable[R]],
        a: A,
        b: B,
        c: C,
        d: D,
        /,
        *,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Callable[[*Ts], R],
        *arguments: *Ts,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self, function: Keyed0[R], /, *, key: str | None = None, unknown: Unknown = "fail"
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Keyed1[A, R],
        a: A,
        /,
        *,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Keyed2[A, B, R],
        a: A,
        b: B,
        /,
        *,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Keyed3[A, B, C, R],
        a: A,
        b: B,
        c: C,
        /,
        *,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
    @overload
    async def effect(
        self,
        function: Keyed4[A, B, C, D, R],
        a: A,
        b: B,
        c: C,
        d: D,
        /,
        *,
        key: str | None = None,
        unknown: Unknown = "fail",
    ) -> R: ...
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
        place = self._place(describe_callee(function), key)
        path = place.lasting_path
        effect = Effect(self._driver, path, place.within.prefix, function, arguments)
        ask = functools.partial(self.ask, bool)
        try:
            return await self._handed_out(effect.happen(unknown, ask=ask), path)
        except asyncio.CancelledError:
            await self._driver.cancelled(path, "effect")
            raise

    async def ask(
        self,
        answer: TypeForm[R],
        question: str,
        *,
        key: str | None = None,
        to: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  recorded with the question
    ) -> R:
        """Ask a person, and wait for an answer of the type `answer`.

        Args:
            answer: its type.
            question: what the person sees.
            key: addresses the question; it is unique in the step.
            to: the role or the name of who is to answer, as their key has it; without, whoever the
                run talks with. Nobody else is shown the question in a chat.
            timeout: seconds for which it stays open; without, as long as it takes.

        Raises:
            TimeoutError: nobody answered in time; the question is closed.
            GraphError: `to` is no name.
        """
        whom = addressed(to)
        place = self._place("ask", key)
        if timeout is None:
            return await self._asked(place, answer, question, key, whom)
        async with Deadline(self._driver, within(place.path), timeout):
            return await self._asked(place, answer, question, key, whom)

    async def _asked(
        self,
        place: Place,
        answer: Any,
        question: str,
        key: str | None,
        whom: dict[str, Json],
    ) -> Any:
        path, within = place.lasting_path, place.within.prefix
        # What an answer is refused with is on record, for whoever reads the run.
        about = repr(question) if "to" not in whom else f"the question to {whom['to']}"
        codec = Codec(answer, where=f"the answer to {about}")
        data = {
            "question": question,
            "key": key or place.part,
            "schema": codec.schema(),
            "type": describe(answer),
            "within": within,
            **whom,
        }
        # Whom it is for stands as it was asked: like a prompt, it makes no other call of this one.
        fingerprint = fingerprint_of("ask", question)
        record = await self._begin(path, "ask", fingerprint, data)
        if record is not None and record.state == "cancelled":
            if record.data["within"] == within:
                await self._driver.until_cancelled(path)
            await self._driver.restart(path, "ask", fingerprint, data)
        if record is not None and record.state == "completed":
            value = record.result["value"]
        else:
            value = await self._waited(self._driver.answer(path, codec), path, "ask")
        await self._driver.turn(path)
        return self._read_back(codec.read, value, path)

    async def _waited(self, wait: Awaitable[T], path: str, call: CallKind) -> T:
        """Wait for the world outside; a cancel closes what was waited for."""
        try:
            return await wait
        except asyncio.CancelledError:
            await self._driver.cancelled(path, call)
            raise

    @overload
    async def map(
        self,
        function: Performer[R],
        items: Iterable[str | Sequence[Part]],
        *,
        concurrency: int | None = None,
        key: str | None = None,
        budget: Budget | None = None,
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        function: Workflow[A, R],
        items: Iterable[A],
        *,
        concurrency: int | None = None,
        key: str | None = None,
        budget: Budget | None = None,
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        function: Callable[[A], Awaitable[R]],
        items: Iterable[A],
        *,
        concurrency: int | None = None,
        key: str | None = None,
        budget: Budget | None = None,
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        function: Callable[[A], R],
        items: Iterable[A],
        *,
        concurrency: int | None = None,
        key: str | None = None,
        budget: Budget | None = None,
    ) -> list[R]: ...
    async def map(
        self,
        function: Any,
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        key: str | None = None,
        budget: Budget | None = None,
    ) -> list[Any]:
        """Call `function` (or an agent, or a workflow) for each item; results in their order.

        Args:
            function: what is called with each item, as by `run`.
            items: their indexes are part of the calls' paths.
            concurrency: how many are under way at once, and have tasks; all, by default.
            key: a name that keeps the calls' place when the code around them changes.
            budget: what all the calls together may spend at most.

        Raises:
            Exception: the first error of a call, as it is; the others are cancelled.
            GraphError: `concurrency` is less than 1.
        """
        if concurrency is not None and concurrency < 1:
            raise GraphError(message=f"concurrency must be 1 or more, not {concurrency}")
        name = describe_callee(function)
        place = self._place(name, key)
        attempt, started = self._driver.attempt, asyncio.Event()
        last = ""

        async def one(item: Any) -> Any:
            nonlocal last
            # No code of the user's runs between items, so that live they need no turn.
            inner = self._place(name, None)
            try:
                return await self._call(function, (item,), inner, _OF_ITEM)
            except Exception:
                # It ends the others; which of them had begun must not depend on how fast they are.
                await started.wait()
                raise
            finally:
                last = inner.path
                if attempt.is_reentered:
                    await self._driver.turn(last)

        # At once: no item may depend on what came of another one, which differs on re-entry.
        given = list(items) if concurrency is None else items
        # The item's index is its place, not the number of the task that happens to run it.
        work = (
            (place.above.placed(f"{place.part}[{index}]"), one(item))
            for index, item in enumerate(given)
        )
        try:
            async with self._within(budget, f"{place.above.prefix}/{place.part}[]"):
                if concurrency is None:
                    results = await all_at_once(work, attempt.starting(started))
                else:
                    started.set()
                    limit = min(concurrency, length_hint(items, concurrency))
                    results = await few_at_once(work, limit, place.above.placed(place.part))
        finally:
            if last:
                await self._driver.turn(last)
        if attempt.thread is not None:
            for path in attempt.thread.items_of(f"{place.above.prefix}/{place.part}"):
                hand_out(self._driver, path)
        return results

    async def sleep(self, seconds: float) -> None:
        """Wait; the time goes on while the process is down."""
        fingerprint = fingerprint_of("sleep", seconds)
        await self._pause(self._place("sleep", None).path, fingerprint, seconds)

    async def _pause(self, path: str, fingerprint: str, seconds: float) -> None:
        data = {"until": wall_clock() + seconds}
        record = await self._begin(path, "timer", fingerprint, data)
        if record is not None and record.state == "cancelled":
            await self._driver.until_cancelled(path)
        if record is None or record.state != "completed":
            until = (record.data if record is not None else data)["until"]
            await self._waited(self._driver.sleep_until(path, until), path, "timer")
        await self._driver.turn(path)

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Return a block that is broken off after so many seconds: `async with ctx.timeout(60):`.

        The time goes on while the run waits out of memory, and while the process is down. What is
        awaited in the block is cancelled at its end, and a TimeoutError raised.
        """
        return Deadline(self._driver, self._place("timeout", None).path, seconds)

    async def now(self) -> float:
        """Return the wall clock in unix seconds, the same on every resume."""
        return cast("float", await self._value("now", lambda _: wall_clock()))

    async def random(self) -> float:
        """Return a random number in [0, 1), the same on every resume."""
        value = await self._value("random", lambda _: random.random())  # noqa: S311  no secret
        return cast("float", value)

    async def budget_left(self) -> BudgetLeft:
        """Return what the budgets around this code have left, the same on every resume."""
        driver = self._driver
        left = await self._value("budget_left", lambda path: asdict(driver.budget_left(path)))
        return BudgetLeft(**left)

    async def _value(self, name: str, make: Callable[[str], Json]) -> Json:
        """Return what `make` gives for the path of the call, the same on every resume."""
        path = self._place(name, None).path
        record = await self._driver.begin(path, "value", fingerprint_of(name, None), {})
        if record is not None and record.state == "completed":
            return record.result["value"]
        value = make(path)
        await self._driver.complete(path, "value", {"value": value})
        return value

    def emit(self, text: str) -> None:
        """Add a piece to the workflow's answer, as a caller that streams it sees it."""
        self._driver.emit(self._place("emit", None).path, text)

    def progress(self, text: str) -> None:
        """Tell whoever watches what is being done."""
        self._driver.progress(self._place("progress", None).path, text)

    def _place(self, name: str, key: str | None) -> Place:
        """Return the place of a call that is made now.

        Raises:
            GraphError: it is made where no call can have one.
        """
        scope, attempt = SCOPE.get(), self._driver.attempt
        if type(scope) is not Scope or scope.owner is not attempt:
            raise GraphError(message=misplaced(name, scope, attempt.path))
        if key is None:
            return Place(name, scope, scope.next(name), scope)
        part = as_key(key)
        self._claim(key, scope)
        return Place(name, attempt.scope, part, scope)

    def _claim(self, key: str, scope: Scope) -> None:
        before = self._keys.get(key)
        # The same code in a further attempt of a call is no second use.
        is_again = before is not None and before[0] == scope.lasting and before[1] != scope.prefix
        if before is not None and not is_again:
            raise GraphError(message=f"the key {key!r} was used twice in one step; keys are unique")
        self._keys[key] = (scope.lasting, scope.prefix)


def said_before(messages: Sequence[Message], callee: object) -> tuple[Message, ...]:
    """Return what an agent is to see as said before; instructions are its own.

    Raises:
        GraphError: these are no messages, or it is no agent.
    """
    if not is_performer(callee):
        raise GraphError(message=f"messages= is for agents; {callee!r} takes its arguments alone")
    if not all(isinstance(message, Message) for message in messages):
        raise GraphError(
            message="messages= takes what the `messages` of an agent's result, or of a thread, "
            f"are: crew.Message; not {messages!r:.200}"
        )
    return tuple(message for message in messages if message.role != "system")


def _key_of(messages: Iterable[Message]) -> list[Json]:
    return [message_data(message) for message in messages]


@functools.lru_cache(maxsize=1024)
def _inside(call: CallKind, name: str) -> Inside:
    return Inside(f"the {call} {name!r}")
