"""One call of an agent's task: read from the journal, or made between its intent and its end."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

from crew.call.invoke import invoke
from crew.call.record import AgentTask, Calls, CutOff, outcome
from crew.errors import BudgetExceeded, CrewError, EffectUnknown, NotAnException
from crew.event import CallKind
from crew.failure import failure_of, message_of, raise_again
from crew.message import Json

__all__ = ["Paying", "Recorded"]

T = TypeVar("T")


class Paying(Protocol):
    """What a call asks for that costs tokens; `crew.agent.model_call.ModelCall` is one."""

    async def reserve(self) -> dict[str, Json]: ...
    def cost(self, error: Exception) -> dict[str, int] | None: ...


class Recorded:
    """Makes the calls of one task.

    Args:
        calls: the journal of the run.
        task: the agent's.
    """

    def __init__(self, calls: Calls, task: AgentTask) -> None:
        self._calls, self._task = calls, task

    async def call(
        self,
        path: str,
        call: CallKind,
        fingerprint: str,
        data: dict[str, Json],
        perform: Callable[[str], Any],
        wrap: Callable[[str], CrewError] | None = None,
        *,
        once: bool = False,
        paying: Paying | None = None,
    ) -> dict[str, Json]:
        """Return the result of a call.

        Args:
            path: the call's.
            call: its kind.
            fingerprint: what tells it from another call at its path.
            data: what its intent holds.
            perform: makes it; given the text that was streamed before a crash.
            wrap: makes an error of the package's out of the words for one that is not; without,
                it is recorded as it is.
            once: whether it must not be made again where a crash hid what came of it.
            paying: what reserves its tokens, where it costs any.

        Raises:
            EffectUnknown: nobody can tell whether it happened.
            CrewError: it failed, now or on record.
        """
        reserves = paying if self._task.limited else None
        if reserves is None:
            record = await self._calls.begin(path, call, fingerprint, data)
        else:
            begin = functools.partial(self._calls.begin, path, call, fingerprint, data)
            record = await self._begun(begin, data, reserves)
        if record is not None and record.state in ("completed", "failed"):
            return record.result if record.error is None else outcome(record)
        if record is not None and call != "function":
            if once:
                if record.state != "unknown":
                    await self._calls.mark_unknown(path, call)
                raise self._unknown(path, "its process ended, or it took too long")
            if reserves is None:
                await self._calls.restart(path, call, fingerprint, data)
            else:
                restart = functools.partial(self._calls.restart, path, call, fingerprint, data)
                await self._begun(restart, data, reserves)
        try:
            result = await invoke(perform, record.streamed if record is not None else "")
        except CutOff as error:
            await self._calls.mark_unknown(path, call)
            raise self._unknown(path, str(error)) from error
        except Exception as error:  # noqa: BLE001  a tool's code, or a model's, raises anything
            failure = failure_of(_wrapped(error, wrap), path)
            await self._calls.fail(path, call, failure, paying.cost(error) if paying else None)
            raise_again(failure)
        await self._calls.complete(path, call, result)
        return cast("dict[str, Json]", result)

    def _unknown(self, path: str, why: str) -> EffectUnknown:
        return EffectUnknown(
            message=f"nobody knows whether the tool call {path} of run {self._task.run} happened: "
            f"{why}; look, then fork the run, or declare the tool idempotent",
            run=self._task.run,
            path=path,
        )

    async def _begun(
        self, begin: Callable[[], Awaitable[T]], data: dict[str, Json], paying: Paying
    ) -> T:
        """Begin a call whose intent is `data`, or begin it anew, once that is paid for."""
        while True:
            data |= await paying.reserve()
            try:
                return await begin()
            except BudgetExceeded as error:
                # Others took what was left while the engine counted; it is asked for once more.
                if error.unit not in ("tokens", "money"):
                    raise


def _wrapped(error: Exception, wrap: Callable[[str], CrewError] | None) -> Exception:
    """Return what an error of a model's or a tool's own is recorded as."""
    if wrap is None or (isinstance(error, CrewError) and not isinstance(error, NotAnException)):
        return error
    wrapped = wrap(f"{type(error).__name__}: {message_of(error)}")
    wrapped.__cause__ = error
    return wrapped
