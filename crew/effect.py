"""An effect: an act on the outside world that a crash must not repeat."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from crew.call import (
    Calls,
    Record,
    data_arguments,
    describe_callee,
    failure_of,
    fingerprint_of,
    idempotency_key,
    invoke,
    outcome,
    recorded_value,
    returned_codec,
    takes_idempotency_key,
)
from crew.errors import EffectUnknown
from crew.message import Json

Unknown = Literal["fail", "retry", "ask"]

EFFECT_GRACE = 1.0
"""Seconds for which a cancel lets an effect that has started go on."""


class Acting(Calls, Protocol):
    """What an effect needs of the driver of its run."""

    run_id: str

    def confirm(self) -> None:
        """Make sure that the run is still driven here.

        Raises:
            Fenced: another worker has it.
        """
        ...


class Effect:
    """One effect of a step: a function with its arguments, at a path in the run.

    Args:
        driver: journals it.
        path: its place, the same in every attempt of the step.
        attempt: that of the step; a further one tries a failed effect again.
        function: what acts.
        arguments: what it is given.
    """

    def __init__(
        self,
        driver: Acting,
        path: str,
        attempt: int,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self._driver = driver
        self._path = path
        self._attempt = attempt
        self._function = function
        self._arguments = arguments
        self._name = describe_callee(function)
        self._codec = returned_codec(function, self._name)
        self._key = idempotency_key(driver.run_id, path)

    async def happen(self, unknown: Unknown, *, ask: Callable[..., Awaitable[bool]]) -> Any:
        """Act, unless the journal says that it was done; return the result.

        `ask(question, key=)` asks a person whether it happened.

        Raises:
            EffectUnknown: it may have happened, and `unknown` is `fail`.
        """
        fingerprint = fingerprint_of(self._name, data_arguments(self._function, self._arguments))
        data: dict[str, Json] = {
            "function": self._name,
            "unknown": unknown,
            "attempt": self._attempt,
            "idempotency_key": self._key,
        }
        record = await self._driver.begin(self._path, "effect", fingerprint, data)
        if record is not None:
            if record.state == "completed":
                run, stored = self._driver.run_id, record.result["result"]
                return recorded_value(self._codec.decode, stored, run=run, path=self._path)
            if not await self._may_act(record, unknown, ask):
                return None
            # The far side knows it by the key it was begun with, whatever run goes on with it.
            self._key = data["idempotency_key"] = record.data["idempotency_key"]
            await self._driver.restart(self._path, "effect", fingerprint, data)
        return await self._act()

    async def _may_act(
        self, record: Record, unknown: Unknown, ask: Callable[..., Awaitable[bool]]
    ) -> bool:
        if record.state != "failed":
            return await self._may_repeat(record, unknown, ask)
        if record.data.get("attempt") == self._attempt:
            outcome(record)
        return True

    async def _may_repeat(
        self, record: Record, unknown: Unknown, ask: Callable[..., Awaitable[bool]]
    ) -> bool:
        """Decide about an effect that may have happened already.

        One that somebody else may still be at is not retried unless the far side can tell by its
        key that both are the same; a person is asked instead.
        """
        told_apart = takes_idempotency_key(self._function)
        is_proven = record.state == "started" and not record.in_doubt
        if unknown == "retry" and (told_apart or is_proven):
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
        happened = await ask(
            f"Did the effect {self._path} happen?", key=f"{self._path.rpartition('/')[2]}:happened"
        )
        return not happened

    async def _act(self) -> Any:
        self._driver.confirm()
        extra = {"idempotency_key": self._key} if takes_idempotency_key(self._function) else {}
        acting = asyncio.ensure_future(invoke(self._function, *self._arguments, **extra))
        try:
            result = await asyncio.shield(acting)
            stored, value = self._codec.passed_on(result)
        except asyncio.CancelledError:
            await self._let_end(acting)
            raise
        except Exception as error:
            await self._driver.fail(self._path, "effect", failure_of(error, self._path))
            raise
        await self._driver.complete(self._path, "effect", {"result": stored})
        return value

    async def _let_end(self, acting: "asyncio.Future[Any]") -> None:
        """A cancel came while it was under way: give it a moment, then say what is known."""
        done, _ = await asyncio.wait({acting}, timeout=EFFECT_GRACE)
        if done and not acting.cancelled() and acting.exception() is None:
            result = {"result": self._codec.encode(acting.result())}
            await self._driver.complete(self._path, "effect", result)
            return
        acting.cancel()
        await self._driver.mark_unknown(self._path, "effect")
