"""A tenant as the holder of a key acts for it: its runs and threads, within the key's limits."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from crew.budget import Budget
from crew.graph import Workflow
from crew.journal import OPEN, WhenBusy
from crew.run import Question, Run, Tenant
from crew.run.recorded import Landlord
from serving.access.keys import UNVERIFIED, Key
from serving.access.limits import Usage
from serving.http.errors import ApiError

__all__ = ["Caller", "stopping"]


class Caller(Tenant):
    """What who calls may do and see.

    Args:
        home: the runtime.
        tenant: the key's.
        key: None where no key is needed.
        usage: of what the limits allow.
        closing: set when the server stops; from then on nothing is started.
    """

    def __init__(
        self, home: Landlord, tenant: str, *, key: Key | None, usage: Usage, closing: asyncio.Event
    ) -> None:
        super().__init__(home, tenant)
        self._key, self._usage, self._closing = key, usage, closing

    @property
    def author(self) -> str:
        """Whose answers these are, for the record: the key's name, never what a request says."""
        return UNVERIFIED if self._key is None else self._key.name

    @property
    def addresses(self) -> frozenset[str] | None:
        """What a question may be for that who calls may answer; None: whatever it is for."""
        return None if self._key is None else self._key.addresses

    def may_answer(self, to: str | None) -> bool:
        """Say whether who calls may answer a question to a role, a name, or nobody in particular.

        Without keys this machine may do everything.
        """
        return to is None or self._key is None or to in self._key.addresses

    def is_asked(self, to: str | None) -> bool:
        """Say whether who talks with a run is the one whom a question is for.

        Where nobody knows who that is, only what is for nobody in particular.
        """
        return to is None or (self._key is not None and to in self._key.addresses)

    def check_answers(self, questions: Iterable[Question]) -> None:
        """Refuse an answer to questions that are for somebody else.

        Raises:
            ApiError: 403, it names whom they are for.
        """
        for question in questions:
            if not self.may_answer(question.to):
                raise _not_for(question.to, self.author)

    async def start(
        self,
        workflow: Workflow,
        input: Any = None,  # noqa: A002  the public surface fixes the name
        *,
        thread: str | None = None,
        key: str | None = None,
        budget: Budget | None = None,
        when_busy: WhenBusy = "queue",
        metadata: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run; see `Tenant.start`. It has what both its budget and the key's allow.

        Raises:
            ApiError: 429, the tenant has too many open runs; 503, the server stops.
        """
        async with self._room():
            return await super().start(
                workflow,
                input,
                thread=thread,
                key=key,
                budget=self._allowed(budget),
                when_busy=when_busy,
                metadata=metadata,
            )

    async def fork(
        self,
        run_id: str,
        *,
        at: int | None = None,
        live: bool = True,
        override: Mapping[str, Any] | None = None,
        effects: bool = True,
        budget: Budget | None = None,
    ) -> Run:
        """Start a fork; see `Tenant.fork`. It has what its base, its budget and the key's allow.

        Raises:
            ApiError: 429, the tenant has too many open runs; 503, the server stops.
        """
        async with self._room():
            return await super().fork(
                run_id,
                at=at,
                live=live,
                override=override,
                effects=effects,
                budget=self._allowed(budget),
            )

    async def retry(self, run_id: str, *, unknown: Literal["fail", "retry"] = "fail") -> Run:
        """Go on with a run that failed; see `Tenant.retry`.

        Raises:
            ApiError: as `fork`.
        """
        async with self._room():
            return await super().retry(run_id, unknown=unknown)

    def _allowed(self, budget: Budget | None) -> Budget | None:
        most = self._key.budget if self._key else None
        return most.within(budget) if most else budget

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        if self._closing.is_set():
            raise stopping()
        most = self._key.open_runs if self._key else None
        count = len(await self.runs(status=OPEN, limit=most)) if most is not None else 0
        with self._usage.starting(self.tenant, count, most):
            yield


def _not_for(to: str | None, name: str) -> ApiError:
    return ApiError(
        status=403,
        message=f"this question is for {to}, which the key {name!r} is not: a key answers it that "
        f"has this role, as made with: crew keys new --role {to}",
        type="permission_error",
        code="not_addressed",
    )


def stopping() -> ApiError:
    """Return a refusal to begin anything; another process may."""
    return ApiError(
        status=503,
        message="the server stops; nothing was started, ask again",
        type="server_error",
        code="server_stopping",
        again=True,
        headers={"Retry-After": "1"},
    )
