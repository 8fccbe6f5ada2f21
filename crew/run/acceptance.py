"""The acceptance of runs: stored first, then driven here or left to whoever drives them."""

import asyncio
import functools
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

from crew.budget import Account, Budget, accounts_data, limits_of
from crew.errors import InputInvalid, OutputInvalid, StoreError
from crew.event import RunStarted
from crew.graph import Workflow
from crew.journal import OPEN, PARKED, NewRun, RunRow, Started, WhenBusy, rules
from crew.journal.reading import JournalReader
from crew.journal.writer import OpenRun, seal
from crew.message import Json
from crew.run.folding import Begun
from crew.run.handle import Home, Run
from crew.run.other_runtimes import OtherRuntimes
from crew.run.tags import tags_of
from crew.run.worker import Worker
from crew.value import Mismatch, aside, canonical, canonical_lines, is_big

_LIMITS = ("budget", "budget_calls", "budget_seconds", "budget_strict", "budget_money")


class Premises(Home, Protocol):
    """What the acceptance of runs needs of its runtime."""

    fleet: Any
    """The hosts that drive its runs, or None."""
    other_runtimes: OtherRuntimes
    worker: bool
    """Whether it has runs driven, here or there."""

    @property
    def drives(self) -> bool:
        """Whether runs are driven in this process."""
        ...


class Acceptance:
    """Accepts runs, forks, and the resuming of runs that nobody drives.

    Args:
        home: the runtime.
        worker: what drives runs in this process.
    """

    def __init__(self, home: Premises, worker: Worker) -> None:
        self._home = home
        self._worker = worker

    async def begin(
        self,
        tenant: str,
        workflow: Workflow,
        value: Any,
        *,
        thread: str | None,
        key: str | None,
        budget: Budget | None,
        when_busy: WhenBusy,
        parent: str | None = None,
        above: tuple[Account, ...] = (),
        metadata: Mapping[str, Json] | None = None,
        behind: int | None = None,
    ) -> Run:
        """Accept a run, and have it driven."""
        workflow.build()
        code = workflow.code_hash()
        workflow = self._home.workflows.add(workflow, code)
        opened = OpenRun(f"r{secrets.token_hex(8)}", 0, 1, 0, 0)
        if is_big(value):
            stored = await self._encoded_aside(opened, workflow, value)
        else:
            stored = encode_input(workflow, value)
        await self._serve(workflow)
        first = _first_event(workflow, code, stored, thread, budget, parent, above, metadata)
        input_hash = await _input_hash(stored) if key is not None else ""
        # A turn may have to wait for an earlier one, so it starts without an owner.
        owner = None if thread is not None else self._owner(workflow)
        new = self._new_run(opened, first, tenant, key, input_hash, owner, when_busy)
        new = new if behind is None else replace(new, behind=behind)
        started = await self._accepted(new)
        if not started.is_new and parent is None:
            self._refuse_other_budget(started.row, budget)
        if started.is_new and new.owner == self._worker.owned.owner:
            begun = Begun(first, opened.text)
            await self._worker.taking.drive(started.row, workflow, begun=begun)
        elif started.row.status in OPEN:
            await self._home.poke(started.row, is_new=started.is_new)
        if when_busy == "cancel":
            await self._cancel_turns(started.row)
        return Run(self._home, started.row)

    async def _encoded_aside(self, opened: OpenRun, workflow: Workflow, value: Any) -> Json:
        """Return a big input as JSON, without holding the event loop; see `encode_input`."""
        stored = await aside(functools.partial(encode_input, workflow, value, in_parts=True))
        try:
            await self._home.writer.write_down(opened, stored)
        except Mismatch as error:
            raise InputInvalid(message=f"the input of {workflow.name!r}: {error}") from error
        return stored

    def _owner(self, workflow: Workflow) -> str | None:
        """Return in whose name a run starts: this process's, or that of the one host there is.

        Where there are several it is left to them: one may have no time for it while others have.
        """
        if self._home.drives:
            return self._worker.owned.owner
        elsewhere = self._home.other_runtimes
        if self._home.fleet is None or not self._home.worker:
            return elsewhere.only_host(workflow)
        host: str | None = self._home.fleet.host_of(workflow)
        return host if elsewhere.knows(host) else None

    async def _serve(self, workflow: Workflow) -> None:
        if self._home.fleet is not None and self._home.worker:
            await self._home.fleet.serve(workflow)

    async def _accepted(self, new: NewRun) -> Started:
        try:
            return cast("Started", await self._home.writer.execute(new))
        except (StoreError, asyncio.CancelledError):
            self._worker.owned.doubt()  # it may be there, with nobody to drive it
            raise

    def _refuse_other_budget(self, row: RunRow, budget: Budget | None) -> None:
        """Refuse a key that was used with another budget, which only the run's first event says."""
        data = JournalReader(self._home.store, row).one(1).data
        first = tuple(data.get(name) for name in _LIMITS)
        given = limits_of(budget)
        if first != given:
            other = f"another budget ({_shown(first)}, now {_shown(given)})"
            raise rules.reused(row.workflow, row.key or "", [other])

    def _new_run(
        self,
        opened: OpenRun,
        first: RunStarted,
        tenant: str,
        key: str | None,
        input_hash: str,
        owner: str | None,
        when_busy: WhenBusy,
    ) -> NewRun:
        sealed = seal(opened, 1, first)
        return NewRun(
            id=opened.id,
            tenant=tenant,
            workflow=first.workflow,
            version=first.version,
            key=key,
            input_hash=input_hash,
            thread=first.thread,
            parent=first.parent,
            owner=owner,
            when_busy=when_busy,
            first=sealed,
            at=sealed.at,
            tags=tags_of(first.metadata or {}),
        )

    async def _cancel_turns(self, newest: RunRow) -> None:
        """Let the earlier turns of a thread see the cancel that came with the newest one."""
        for row in self._home.store.turns(newest.tenant, newest.thread or ""):
            if row.status in OPEN and row.number < newest.number:
                await self._home.cancel_unowned(row)
                await self._home.poke(row)

    async def begin_fork(
        self,
        row: RunRow,
        *,
        at: int | None,
        reuse: bool,
        live: bool,
        override: Mapping[str, Any],
        effects: bool,
        budget: Budget | None,
    ) -> Run:
        """Accept a fork of a run, and have it driven; see `Tenant.fork`."""
        from crew.run.fork import new_fork  # a run alone needs none

        new, workflow = new_fork(
            self._home.store,
            row,
            self._home.workflows.newest(row),
            at=at,
            reuse=reuse,
            live=live,
            override=override,
            effects=effects,
            budget=budget,
        )
        workflow = self._home.workflows.add(workflow)
        await self._serve(workflow)
        new = replace(new, owner=self._owner(workflow))
        started = await self._accepted(new)
        if new.owner == self._worker.owned.owner:
            await self._worker.taking.drive(started.row, workflow)
        else:
            await self._home.poke(started.row, is_new=started.is_new)
        return Run(self._home, started.row)

    async def go_on(self, run_id: str) -> None:
        """Take a run that nobody drives."""
        row = self._home.store.run(run_id)
        assert row is not None
        owned = self._worker.owned
        if row.status not in OPEN or owned.drives(row.number):
            return
        if (error := owned.unreadable.get(row.number)) is not None:
            raise error
        workflow = self._home.workflows.known(row)
        if self._home.fleet is not None:
            await self._home.fleet.serve(workflow)
            await self._home.poke(row)
        elif (
            row.owner in (None, PARKED, owned.owner)
            or self._home.store.sign(cast("str", row.owner)).dead
        ):
            await self._worker.taking.take(row, explicit=True)


def _first_event(
    workflow: Workflow,
    code: str,
    stored: Json,
    thread: str | None,
    budget: Budget | None,
    parent: str | None,
    above: tuple[Account, ...],
    metadata: Mapping[str, Json] | None,
) -> RunStarted:
    tokens, calls, seconds, strict, money = limits_of(budget)
    return RunStarted(
        workflow=workflow.name,
        version=workflow.version,
        input=stored,
        thread=thread,
        budget=tokens,
        budget_calls=calls,
        budget_seconds=seconds,
        budget_strict=strict,
        budget_money=money,
        code=code,
        parent=parent,
        above=accounts_data(above) or None,
        metadata=dict(metadata) if metadata else None,
    )


def _shown(limits: tuple[Json, ...]) -> str:
    names = zip(("tokens", "calls", "seconds", "strict", "money"), limits, strict=True)
    return ", ".join(f"{name}={limit}" for name, limit in names if limit is not None) or "none"


def encode_input(workflow: Workflow, value: Any, *, in_parts: bool = False) -> Json:
    """Return a run's input as JSON: of the input's type, or JSON that validates as it.

    Raises:
        InputInvalid: it is neither.
    """
    codec = workflow.input_codec
    try:
        return (codec.in_parts if in_parts else codec).taken(value)
    except OutputInvalid as error:
        raise InputInvalid(message=str(error)) from error


async def _input_hash(stored: Json) -> str:
    return await aside(_hash_of, canonical_lines(stored)) if is_big(stored) else _hash(stored)


def _hash(stored: Json) -> str:
    return _hash_of([canonical(stored)])


def _hash_of(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
