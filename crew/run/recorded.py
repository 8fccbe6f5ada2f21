"""What one tenant may do with runs that are recorded: find them, vary them, compare them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from crew.budget import Budget
from crew.errors import EffectUnknown, InputInvalid, RunNotFound
from crew.graph import Workflow
from crew.journal import STATUSES, RunRow, RunStatus
from crew.message import Json
from crew.run import door
from crew.run.acceptance import Acceptance
from crew.run.dependencies import Dependencies
from crew.run.handle import Home, Run
from crew.run.tags import tags_of
from crew.thread import Conversations

if TYPE_CHECKING:
    from crew.fold import Act
    from crew.run.diff import Difference


class Landlord(Home, Protocol):
    """What a tenant needs of its runtime."""

    conversations: Conversations
    acceptance: Acceptance
    dependencies: Dependencies


class Recorded:
    """The runs of one tenant, as they lie in the store of a runtime.

    Args:
        home: the runtime.
        tenant: who the runs belong to.
    """

    def __init__(self, home: Landlord, tenant: str) -> None:
        self._home = home
        self.tenant = door.text("tenant", tenant)

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
        workflow: Workflow | str | None = None,
        since: float | datetime | None = None,
        metadata: Mapping[str, Json] | None = None,
        before: str | None = None,
        limit: int = 1000,
    ) -> list[Run]:
        """Return this tenant's runs, the newest first.

        Args:
            status: one or several.
            thread: the conversation they are of.
            workflow: or its name; of any version.
            since: those accepted then or later, in unix seconds or as a time with its zone.
            metadata: names and values that they were started with, and maybe others.
            before: the id of a run: those accepted earlier, for the next page.
            limit: how many at most.

        Raises:
            RunNotFound: `before` is no run of this tenant.
            InputInvalid: an argument is of another type, or no status.
        """
        wanted = cast("Sequence[RunStatus]", (status,) if isinstance(status, str) else status)
        rows = self._home.store.runs(
            tenant=self.tenant,
            status=[door.one_of("status", item, STATUSES) for item in wanted],
            thread=door.text_or_none("thread", thread),
            workflow=workflow.name
            if isinstance(workflow, Workflow)
            else door.text_or_none("workflow", workflow),
            since=None if since is None else door.moment("since", since),
            tags=() if metadata is None else tags_of(door.json_object("metadata", metadata)),
            before=None if before is None else self._row(before).number,
            limit=door.count("limit", limit),
        )
        return [Run(self._home, row) for row in rows]

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
        from crew.run.replay import replay  # a run alone needs none

        run = await self.get(run_id)
        row = self._home.store.run(run.id)
        assert row is not None
        return await replay(
            self._home.store, row, self._home.workflows.newest(row), self._home.dependencies
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
            row,
            at=at,
            reuse=at is None,
            live=live,
            override=override or {},
            effects=effects,
            budget=budget,
        )

    async def retry(self, run_id: str, *, unknown: Literal["fail", "retry"] = "fail") -> Run:
        """Go on with a run that failed, or was cancelled, in a new one: a fork of it.

        The fork begins before the first step that did not complete, with the code and the agents as
        they are now. Steps that completed stay as they are; of the others, each call that came to a
        result is answered from its record. So what was paid for is not paid for again.

        Args:
            run_id: the run that it stands on; it stays failed.
            unknown: what becomes of an effect of which nobody knows whether it happened, where it
                would be made again: `fail` refuses the retry, `retry` makes it, under a new key.

        Raises:
            RunNotFound: no such run.
            InputInvalid: it has not ended, or completed; or its workflow is not known here.
            EffectUnknown: an effect, or a tool that acts once, may have happened.
        """
        from crew.run.fork import in_doubt_after, retry_from

        door.one_of("unknown", unknown, ("fail", "retry"))
        run = await self.get(run_id)
        row = self._row(run_id)
        if row.status not in ("failed", "cancelled"):
            raise InputInvalid(
                message=f"run {run_id} is {row.status}; only one that failed or was cancelled can "
                "be tried again"
            )
        events = await run.recorded()
        at = retry_from(events)
        if unknown == "fail" and (acts := in_doubt_after(events, at)):
            raise _would_repeat(run_id, acts[0])
        return await self._home.acceptance.begin_fork(
            row, at=at, reuse=True, live=True, override={}, effects=True, budget=None
        )

    async def diff(self, a: Run | str, b: Run | str) -> "Difference":
        """Compare two runs: how each ended, which steps and calls differ, what each cost.

        Args:
            a: a run, or its id.
            b: another.

        Raises:
            RunNotFound: no such run.
        """
        from crew.run.diff import compare  # a run alone needs none

        one, other = [item if isinstance(item, Run) else await self.get(item) for item in (a, b)]
        return compare(await one.recorded(), await other.recorded(), (one.id, other.id))

    async def resume(self, run_id: str) -> Run:
        """Take a run that has no living owner, parked ones too, and go on with it here.

        Raises:
            RunNotFound: no such run.
            InputInvalid: this runtime does not know the run's workflow and version.
        """
        run = await self.get(run_id)
        await self._home.acceptance.go_on(run.id)
        return run


def _would_repeat(run_id: str, act: "Act") -> EffectUnknown:
    return EffectUnknown(
        run=run_id,
        path=act.path,
        message=f"nobody knows whether {act.function} at {act.path} of run {run_id} happened, and "
        "a retry would do it again; look, and if it did not: unknown='retry' (crew retry --unknown "
        "retry). If it did, fork the run with code that takes it for done",
    )
