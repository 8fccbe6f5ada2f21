"""A tenant as the holder of a key acts for it: its runs and threads, within the key's limits."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from crew.budget import Budget
from crew.graph import Workflow
from crew.journal import OPEN, WhenBusy
from crew.run import Run, Tenant
from crew.run.tenant import Landlord
from serving.access.keys import Key
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
        behind: int | None = None,
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
                behind=behind,
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
