"""Agents' work: sent to a host, and its start and end recorded."""

import functools
import hashlib
import logging
from collections.abc import Callable

from crew.call.record import AgentTask, Calls, Performer
from crew.content import content_data
from crew.errors import CrewError, Diverged
from crew.event import ProgressMade
from crew.fold.calls import Record
from crew.hosts import HostLost
from crew.message import Json
from crew.run.calls import RunCalls

logger = logging.getLogger(__name__)

MOST_HOSTS_LOST = 8
"""After so many hosts in a row that died at one task, the task is taken to kill them."""


class Dispatch:
    """Has the agents of one run do their work.

    Args:
        run: the run's calls.
        substitute: what stands in for an agent, as in a fork with another one.
    """

    def __init__(self, run: RunCalls, substitute: Callable[[Performer], Performer]) -> None:
        self._run = run
        self.standing_in = substitute

    async def recorded(self, agent: Performer, path: str, fingerprint: str) -> Record | None:
        """Return what is on record of an agent's call; one in flight as a record without an end.

        Raises:
            Diverged: it is another call; or there is none, and none may be made.
        """
        run = self._run
        standing_in = self.standing_in(agent)
        definition = _definition_hash(standing_in)
        record = await run.lookup.find(path, "agent", fingerprint, definition)
        if record is not None:
            if record.state == "started":
                self._require_same(record, path, (agent.name, standing_in.name))
            recorded = record.data.get("definition", definition)
            if recorded != definition and not run.lookup.rules.strict:
                run.drifted(path, recorded, definition)
            if record.state != "started":
                run.served += 1
                return record
        if not run.lookup.rules.live:
            await run.refuse(path, "agent", fingerprint)
        if record is None and (attempt := run.attempts.of(path, "agent")).forgotten:
            await run.behind_acts(attempt, path, "agent", {})
        return record

    def _require_same(self, record: Record, path: str, names: tuple[str, ...]) -> None:
        """Refuse to go on with what an agent began that has the conversation no longer.

        Raises:
            Diverged: another one would.
        """
        at_work = record.data.get("agent")
        if at_work is not None and at_work not in names:
            raise Diverged(
                run=self._run.run_id,
                path=path,
                recorded=f"agent {at_work!r} at work",
                asked=f"agent {names[0]!r}, which does not hand on to that one",
                given=record.given,
            )

    async def perform(
        self, agent: Performer, task: AgentTask, fingerprint: str, calls: Calls
    ) -> dict[str, Json]:
        """Do a task in a host, and in another one if that dies; each call goes through `calls`.

        Raises:
            CrewError: too many hosts died at it.
        """
        run = self._run
        agent = self.standing_in(agent)
        data: dict[str, Json] = {
            "agent": agent.name,
            "input": content_data(task.content),
            "definition": _definition_hash(agent),
        }
        hosts = run.around.hosts
        for _ in range(MOST_HOSTS_LOST):
            try:
                place = await hosts.place(agent, task)
                where = {"host": place.host, "pid": place.pid}
                await run.restart(task.path, "agent", fingerprint, {**data, **where})
                return await hosts.perform(agent, task, calls)
            except HostLost as lost:
                facts = {"run": run.run_id, "path": task.path, "agent": agent.name}
                logger.warning("host.lost", extra={**facts, "error": str(lost)})
                run.append(ProgressMade(f"{task.path}/host", f"host lost: {lost}"))
        raise CrewError(
            message=f"{MOST_HOSTS_LOST} hosts of agent {agent.name!r} died one after the other at "
            f"{task.path}; does its work kill them (memory, native code)?"
        )


def _definition_hash(agent: Performer) -> str:
    return _short_hash(agent.definition())


@functools.lru_cache(maxsize=256)
def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
