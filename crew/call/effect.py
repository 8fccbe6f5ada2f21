"""An effect: an act on the outside world that a crash must not repeat."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NoReturn, Protocol

from crew.call.invoke import invoke
from crew.call.lineage import Inside, entered
from crew.call.record import (
    Calls,
    data_arguments,
    describe_callee,
    fingerprint_aside,
    fingerprint_of,
    idempotency_key,
    outcome,
    read_back,
    returned_codec,
    stored_result,
    takes_idempotency_key,
    unreadable,
    unstorable,
)
from crew.errors import Diverged, EffectUnknown, OutputInvalid
from crew.failure import failure_of, raise_again
from crew.fold.calls import Record
from crew.message import Json
from crew.value import Codec, aside, is_big, with_own_arguments

Unknown = Literal["fail", "retry", "ask"]

EFFECT_GRACE = 1.0
"""Seconds for which a cancel lets an effect that has started go on."""


_END_SECONDS = 0.1
"""How long one that was cancelled is waited for."""


class Acting(Calls, Protocol):
    """What an effect needs of the driver of its run."""

    run_id: str

    async def passed_on(self, codec: Codec, value: object) -> tuple[Json, Any]:
        """Return a big value as the end of a call is to hold it, and the copy that goes on."""
        ...

    def confirm(self) -> None:
        """Make sure that the run is still driven here.

        Raises:
            Fenced: another worker has it.
        """
        ...

    async def until_cancelled(self, path: str) -> NoReturn:
        """Wait for the cancel that is on record of the call at `path`, until its turn."""
        ...

    def diverge(self, error: Diverged) -> None:
        """Stop the run, since its code is not that of its journal."""
        ...


class Effect:
    """One effect of a step: a function with its arguments, at a path in the run.

    Args:
        driver: journals it.
        path: its place, the same in every attempt of the step.
        within: the place of the code that asks for it, with its attempts; a further one tries a
            failed effect again.
        function: what acts.
        arguments: what it is given.
    """

    def __init__(
        self,
        driver: Acting,
        path: str,
        within: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self._driver = driver
        self._path = path
        self._within = within
        self._function = function
        self._arguments = arguments
        self._name = describe_callee(function)
        self._codec = returned_codec(function, self._name)
        self._key = idempotency_key(driver.run_id, path)
        self._is_given_much = False

    async def happen(self, unknown: Unknown, *, ask: Callable[..., Awaitable[bool]]) -> Any:
        """Act, unless the journal says that it was done; return the result.

        `ask(question, key=)` asks a person whether it happened.

        Raises:
            EffectUnknown: it may have happened, and `unknown` is `fail`.
        """
        given = data_arguments(self._function, self._arguments)
        self._is_given_much = any(map(is_big, given))
        if self._is_given_much:
            fingerprint = await fingerprint_aside(self._name, given)
        else:
            fingerprint = fingerprint_of(self._name, given)
        data: dict[str, Json] = {
            "function": self._name,
            "unknown": unknown,
            "within": self._within,
            "idempotency_key": self._key,
        }
        record = await self._driver.begin(self._path, "effect", fingerprint, data)
        if record is not None:
            if record.state == "completed":
                return await self._read_back(outcome(record, self._function)["result"])
            if record.state == "cancelled" and record.data["within"] == self._within:
                await self._driver.until_cancelled(self._path)
            if not await self._may_act(record, unknown, ask):
                return self._confirmed()
            # The far side knows it by the key it was begun with, whatever run goes on with it.
            self._key = data["idempotency_key"] = record.data["idempotency_key"]
            await self._driver.restart(self._path, "effect", fingerprint, data)
        return await self._act()

    async def _read_back(self, stored: Json) -> Any:
        """Return the result that is on record.

        Raises:
            CancelledError: new code cannot read it; the run stops.
        """
        try:
            return await read_back(self._codec, stored)
        except Exception as error:
            self._driver.diverge(
                unreadable(error, stored, run=self._driver.run_id, path=self._path)
            )
            raise asyncio.CancelledError from error

    async def _may_act(
        self, record: Record, unknown: Unknown, ask: Callable[..., Awaitable[bool]]
    ) -> bool:
        if record.state != "failed":
            return await self._may_repeat(record, unknown, ask)
        if record.data.get("within") == self._within:
            outcome(record, self._function)
        return True

    async def _may_repeat(
        self, record: Record, unknown: Unknown, ask: Callable[..., Awaitable[bool]]
    ) -> bool:
        """Decide about an effect that may have happened already.

        One that somebody else may still be at is not retried unless the far side can tell by its
        key that both are the same; a person is asked instead.
        """
        is_keyed = takes_idempotency_key(self._function)
        is_proven = record.state == "started" and not record.in_doubt
        if unknown == "retry" and (is_keyed or is_proven):
            return True
        if record.state != "unknown":
            await self._driver.mark_unknown(self._path, "effect")
        if unknown == "fail":
            raise EffectUnknown(
                message=f"a crash hid whether the effect {self._path} of run "
                f"{self._driver.run_id} happened; look, then fork the run, or declare "
                "unknown='retry' or 'ask'",
                run=self._driver.run_id,
                path=self._path,
            )
        name = self._path.rpartition("/")[2].removeprefix("=")
        return not await ask(f"Did the effect {self._path} happen?", key=f"{name}:happened")

    def _confirmed(self) -> Any:
        """Return None, if that may be the result of what a person says has happened."""
        try:
            return self._codec.passed_on(None)[1]
        except OutputInvalid:
            raise OutputInvalid(
                message=f"the effect {self._path} happened, as was answered, but what it returned "
                f"is not known; let {self._name!r} return `… | None`, and ask for what is missing"
            ) from None

    async def _act(self) -> Any:
        self._driver.confirm()
        extra = {"idempotency_key": self._key} if takes_idempotency_key(self._function) else {}
        with entered(Inside(f"the effect {self._name!r}")):
            acting = asyncio.ensure_future(self._invoke(extra))
        acting.add_done_callback(_seen)
        try:
            await asyncio.wait({acting})
        except asyncio.CancelledError:
            await self._let_end(acting)
            raise
        return await self._record(acting)

    async def _invoke(self, extra: dict[str, str]) -> tuple[dict[str, Json], Any]:
        """Act; return what is recorded of it, and the result as it goes on.

        That it is done, and why its result cannot be stored, are two facts: the second never makes
        the first happen again.
        """
        if self._is_given_much:
            own = await aside(with_own_arguments, self._function, self._arguments)
        else:
            own = with_own_arguments(self._function, self._arguments)
        function, arguments = own
        result = await invoke(function, *arguments, **extra)
        try:
            if is_big(result):
                stored, copy = await self._driver.passed_on(self._codec, result)
            else:
                stored, copy = self._codec.passed_on(result)
        except Exception as error:  # noqa: BLE001  a serializer of the user's may raise anything
            return unstorable(error, self._path, f"the effect {self._path}"), None
        return {"result": stored}, copy

    async def _record(self, acting: "asyncio.Future[Any]") -> Any:
        """Record what became of an act that has ended, and return its result."""
        try:
            done, copy = acting.result()
        except Exception as error:  # noqa: BLE001  raised again, as it was recorded
            failure = failure_of(error, self._path)
            await self._driver.fail(self._path, "effect", failure)
            raise_again(failure, self._function)
        await self._driver.complete(self._path, "effect", done)
        stored_result(done)
        return copy

    async def _let_end(self, acting: "asyncio.Future[Any]") -> None:
        """A cancel came while it was under way: give it a moment, then say what is known."""
        await _settled(acting, EFFECT_GRACE)
        if acting.done() and not acting.cancelled():
            with contextlib.suppress(Exception):  # it is recorded; who cancelled it is gone
                await self._record(acting)
            return
        acting.cancel()
        await _settled(acting, _END_SECONDS)
        await self._driver.mark_unknown(self._path, "effect")


async def _settled(acting: "asyncio.Future[Any]", seconds: float) -> None:
    """Wait for an act, so long at most; further cancels do not hasten that."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not acting.done() and (left := until - loop.time()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({acting}, timeout=left)


def _seen(acting: "asyncio.Future[Any]") -> None:
    """Let an act that nobody waits for any more fail without a word: it is recorded as unknown."""
    if not acting.cancelled():
        acting.exception()
