"""What one tenant may do: start, find, vary and remove its own runs and conversations."""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypedDict, cast, overload

from typing_extensions import TypeVar

from crew.budget import Budget
from crew.errors import InputInvalid, RunNotFound
from crew.graph import Workflow
from crew.journal import (
    NO_OPENING,
    OPEN,
    STATUSES,
    WHEN_BUSY,
    KeepThread,
    RunRow,
    RunStatus,
    WhenBusy,
)
from crew.message import Json, Message
from crew.run import door
from crew.run.acceptance import Acceptance
from crew.run.dependencies import Dependencies
from crew.run.handle import Answered, Asked, Home, Question, Run
from crew.run.replay import replay
from crew.run.retention import Removed, erase, prune
from crew.thread import Conversations, Thread, opening_text

In = TypeVar("In")
Out = TypeVar("Out")


class StartOptions(TypedDict, total=False):
    """What a start of a run takes besides; see `Tenant.start`."""

    thread: str | None
    key: str | None
    budget: Budget | None
    when_busy: WhenBusy
    metadata: Mapping[str, Json] | None


class Landlord(Home, Protocol):
    """What a tenant needs of its runtime."""

    conversations: Conversations
    acceptance: Acceptance
    dependencies: Dependencies


class Tenant:
    """A runtime as one tenant sees it: nothing of anybody else's is there.

    Args:
        home: the runtime.
        tenant: who the runs and threads belong to.
    """

    def __init__(self, home: Landlord, tenant: str) -> None:
        self._home = home
        self.tenant = door.text("tenant", tenant)

    @overload
    async def start(
        self,
        workflow: Workflow[None, Out],
        input: None = None,
        *,
        thread: str | None = None,
        key: str | None = None,
        budget: Budget | None = None,
        when_busy: WhenBusy = "queue",
        metadata: Mapping[str, Json] | None = None,
    ) -> Run[Out]: ...
    @overload
    async def start(
        self,
        workflow: Workflow[In, Out],
        input: In | Mapping[str, Json],
        *,
        thread: str | None = None,
        key: str | None = None,
        budget: Budget | None = None,
        when_busy: WhenBusy = "queue",
        metadata: Mapping[str, Json] | None = None,
    ) -> Run[Out]: ...
    async def start(
        self,
        workflow: Workflow,
        input: Any = None,  # noqa: A002  the public surface fixes the name
        *,
        thread: str | None = None,
        key: str | None = None,
        budget: Budget | None = None,
        when_busy: WhenBusy = "queue",
        metadata: Mapping[str, Json] | None = None,
    ) -> Run[Any]:
        """Start a run; on return it is accepted, and will not be lost.

        Args:
            workflow: what to run.
            input: a value of the workflow's input type, or its JSON.
            thread: the conversation it is a turn of.
            key: an idempotency key: the same key with the same input is the same run.
            budget: what it may spend, with all its agents and children.
            when_busy: what to do while an earlier turn runs: `queue`, `reject`, or `cancel` it.
            metadata: JSON that is kept in the run's first event, for its caller alone.

        Raises:
            InputInvalid: the input, or another argument, does not validate; nothing was stored.
            GraphError: the workflow cannot work.
            ThreadBusy: an earlier turn runs, and `when_busy` is `reject`.
            KeyReused: the key was used with another input, thread or budget.
        """
        if budget is not None:
            door.instance("budget", budget, Budget, "a Budget(tokens=…)")
        return await self._home.acceptance.begin(
            self.tenant,
            door.instance("workflow", workflow, Workflow, "a Graph or a function with @workflow"),
            input,
            thread=door.text_or_none("thread", thread),
            key=door.text_or_none("key", key),
            budget=budget,
            when_busy=door.one_of("when_busy", when_busy, WHEN_BUSY),
            metadata=None if metadata is None else door.json_object("metadata", metadata),
        )

    async def get(self, run_id: str) -> Run:
        """Return a run of this tenant.

        Raises:
            RunNotFound: there is none of that id.
        """
        return Run(self._home, self._row(run_id))

    def _row(self, run_id: str) -> RunRow:
        row = self._home.store.run(door.text("run_id", run_id), tenant=self.tenant)
        if row is None:
            raise RunNotFound(run=run_id)
        return row

    async def runs(
        self,
        *,
        status: RunStatus | Sequence[RunStatus] = (),
        thread: str | None = None,
        before: str | None = None,
        limit: int = 1000,
    ) -> list[Run]:
        """Return this tenant's runs, the newest first; those accepted earlier than run `before`.

        Raises:
            RunNotFound: `before` is no run of this tenant.
            InputInvalid: an argument is of another type, or no status.
        """
        wanted = cast("Sequence[RunStatus]", (status,) if isinstance(status, str) else status)
        rows = self._home.store.runs(
            tenant=self.tenant,
            status=[door.one_of("status", item, STATUSES) for item in wanted],
            thread=door.text_or_none("thread", thread),
            before=None if before is None else self._row(before).number,
            limit=door.count("limit", limit),
        )
        return [Run(self._home, row) for row in rows]

    async def questions(
        self,
        *,
        to: Collection[str] | None = None,
        before: str | None = None,
        limit: int = 1000,
    ) -> list[Asked]:
        """Return what this tenant's runs ask, the newest run first, of each the newest first.

        Args:
            to: roles and names; what is for one of them, or for nobody in particular. By default
                all that is asked.
            before: the `id` of one; those behind it in this order.
            limit: how many at most.

        Raises:
            RunNotFound: `before` is of no run of this tenant.
            InputInvalid: an argument is of another type.
        """
        run, _, offset = ("" if before is None else door.text("before", before)).partition(":")
        last = None if before is None else self._row(run)
        door.count("limit", limit)
        found = list[Asked]()
        if last is not None and offset.isdecimal() and last.status in OPEN:
            asked = [item for item in self._home.asked.of(last) if item.offset < int(offset)]
            found += self._asked(last, asked, to)
        of_all = self._home.asked.of_all(self.tenant, before=None if last is None else last.number)
        async with aclosing(of_all) as rows:
            async for row, asked in rows:
                if len(found) >= limit:
                    break
                found += self._asked(row, asked, to)
        return found[:limit]

    def _asked(
        self, row: RunRow, questions: Sequence[Question], to: Collection[str] | None
    ) -> list[Asked]:
        run = Run(self._home, row)
        return [
            Asked(run, question)
            for question in reversed(questions)
            if to is None or question.to is None or question.to in to
        ]

    async def answered(self, idempotency_key: str, *, thread: str) -> Answered | None:
        """Return the answer that a turn of a thread was given under a key, or None."""
        key = door.text("idempotency_key", idempotency_key)
        for letter in self._home.store.answers(self.tenant, key):
            row = self._home.store.numbered(letter.number)
            if row is not None and row.thread == thread and row.turn is not None:
                return await Run(self._home, row).answered(key)
        return None

    async def thread(self, thread: str) -> Thread:
        """Return a conversation of this tenant, empty if nothing was said on it."""
        return self._home.conversations.whole(self.tenant, door.text("thread", thread))

    async def thread_metadata(self, thread: str) -> dict[str, Json]:
        """Return the JSON that is kept with a conversation, without reading what was said."""
        kept = self._home.store.thread(self.tenant, door.text("thread", thread))
        return {} if kept is None else json.loads(kept.metadata)

    async def open_thread(
        self,
        thread: str,
        messages: Sequence[Message] = (),
        *,
        metadata: Mapping[str, Json] | None = None,
    ) -> None:
        """Begin a conversation with what was said elsewhere; every turn of it sees that.

        Args:
            thread: its name.
            messages: of `user` and `assistant`, the oldest first; text alone is kept.
            metadata: JSON that its caller keeps with it.

        Raises:
            InputInvalid: it was begun before, or a message is of another role.
        """
        door.text("thread", thread)
        if self._home.store.thread(self.tenant, thread) or self._home.store.turns(
            self.tenant, thread
        ):
            raise InputInvalid(message=f"the thread {thread!r} was begun before; use a new name")
        if roles := {item.role for item in messages} - {"user", "assistant"}:
            raise InputInvalid(
                message=f"a thread is what user and assistant said; it cannot hold {min(roles)!r}"
            )
        await self._keep(thread, metadata or {}, opening_text(messages))

    async def describe_thread(self, thread: str, metadata: Mapping[str, Json]) -> None:
        """Keep JSON with a conversation, in the place of what was kept with it."""
        await self._keep(thread, metadata)

    async def _keep(
        self, thread: str, metadata: Mapping[str, Json], opening: str = NO_OPENING
    ) -> None:
        text = json.dumps(door.json_object("metadata", metadata))
        name = door.text("thread", thread)
        await self._home.writer.execute(
            KeepThread(self.tenant, name, text, time.time(), opening=opening)
        )

    async def replay(self, run_id: str) -> Run:
        """Run a recorded run's code again on its records: no model, no tool, no effect.

        Nothing is written to the store. The workflow is the one this runtime knows by the run's
        name and version, so that changed code is compared with what the old code did.

        Returns:
            The run that the code gives now; its result equals the recorded one.

        Raises:
            RunNotFound: no such run.
            InputInvalid: it has not ended, or its workflow is not known here.
            Diverged: names the first difference, and both sides.
        """
        run = await self.get(run_id)
        row = self._home.store.run(run.id)
        assert row is not None
        return await replay(
            self._home.store, row, self._home.workflows.known(row), self._home.dependencies
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
        """Start a new run from a prefix of another one's journal.

        The fork has the events up to offset `at` as its own, and goes on from there. Without `at`
        it begins where something differs: at the first step of an agent that is replaced, at the
        call where a parked run diverged, else at the start; and from there on each call that the
        other run made in the same place, with the same arguments and an agent of the same
        definition, is answered from its record, so that only what was changed costs anything.

        Effects that happened, or may have, before the fork stay as they are recorded. New ones get
        new idempotency keys.

        Args:
            run_id: the run that it stands on; its journal is left as it is.
            at: the offset of the last event that they share.
            live: whether calls without a record are made; else the fork stops at the first.
            override: agents that stand in for those of these names; under `"*"`, a function from
                any agent to the one that stands in for it, such as `crew.agent.WithModel`.
            effects: whether new effects may happen; else the fork stops at the first.
            budget: what it may spend, at most as much as its base.

        Raises:
            RunNotFound: no such run.
            InputInvalid: no such event, no agent, or a workflow that is not known here.
        """
        if at is not None:
            door.count("at", at)
        row = self._home.store.run((await self.get(run_id)).id)
        assert row is not None
        return await self._home.acceptance.begin_fork(
            row, at=at, live=live, override=override or {}, effects=effects, budget=budget
        )

    async def resume(self, run_id: str) -> Run:
        """Take a run that has no living owner, parked ones too, and go on with it here.

        Raises:
            RunNotFound: no such run.
            InputInvalid: this runtime does not know the run's workflow and version.
        """
        run = await self.get(run_id)
        await self._home.acceptance.go_on(run.id)
        return run

    async def prune(self, *, older_than: float | None = None, keep: int | None = None) -> Removed:
        """Remove this tenant's runs that have ended and are old.

        A run goes with its children, and a conversation whole or not at all; what a fork that stays
        stands on stays too. What is removed cannot be replayed any more, and its idempotency keys
        may be used anew.

        Args:
            older_than: seconds since it was last used, at least.
            keep: how many of the newest runs and conversations stay in any case.

        Raises:
            InputInvalid: neither was given.
        """
        return await prune(
            self._home.store,
            self._home.writer,
            self.tenant,
            older_than=None if older_than is None else door.number("older_than", older_than),
            keep=None if keep is None else door.count("keep", keep),
        )

    async def erase(self, *, thread: str | None = None) -> Removed:
        """Remove a conversation for good, or without `thread` everything of this tenant.

        With it go its forks and children, its blobs, and what is left of it in free pages, logs and
        dictionaries: no byte of it stays in the store's files. It takes as long as copying the
        store.

        Raises:
            InputInvalid: a run of it has not ended.
            StoreError: other processes hold on to what is to be overwritten.
        """
        name = door.text_or_none("thread", thread)
        return await erase(self._home.store, self._home.writer, self.tenant, name)
