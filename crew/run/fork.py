"""Forks: a new run from a prefix of a journal, that pays only for what is different."""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from crew.budget import Budget, limits_of
from crew.call.record import Performer
from crew.clock import wall_clock
from crew.errors import InputInvalid
from crew.event import RunForked, from_data
from crew.fold import Act, Acts, Agents, Event, Origin, Steps, fold, folded, is_end, is_parking
from crew.fold.calls import is_end_of_act
from crew.fold.paths import is_within, step_of
from crew.graph import Workflow
from crew.journal import NewRun, RunRow, Store
from crew.journal.reading import JournalReader
from crew.journal.writer import OpenRun, seal
from crew.run.driver import Driver
from crew.run.lookup import Rules
from crew.run.tags import tags_of

EVERY = "*"
"""The name under which an override stands in for every agent: a function of the agent."""


def prepare_fork(driver: Driver, forked: RunForked, base: JournalReader) -> None:
    """Give a fork's driver the rules it was made with, and the records that it may reuse."""
    calls = driver.calls
    calls.lookup.rules = Rules(live=forked.live, effects=forked.effects)
    for event in base.every(after=forked.at):
        typed = from_data(event.kind, event.path, event.data)
        if is_end_of_act(typed):
            at_cut = calls.records.get(typed.path)
            if at_cut is not None and at_cut.state == "started":
                calls.lookup.ends.apply(typed, event.offset)  # it was under way at the cut
        if forked.reuse:
            calls.lookup.offered.apply(typed, event.offset)


def new_fork(
    store: Store,
    row: RunRow,
    workflow: Workflow,
    *,
    at: int | None,
    reuse: bool,
    live: bool,
    override: Mapping[str, Any],
    effects: bool,
    budget: Budget | None,
) -> tuple[NewRun, Workflow]:
    """Return what starts a fork of `row`, and the workflow it runs; see `Runtime.fork`.

    With `reuse`, records of `row` behind the cut answer equal calls.

    Raises:
        InputInvalid: there is no such event, or no such agent.
    """
    events = JournalReader(store, row).every(upto=row.offset)
    for name, agent in override.items():
        if name != EVERY and not isinstance(agent, Performer):
            raise InputInvalid(message=f"override[{name!r}] is {agent!r}, which is no agent")
    last = row.offset - 1 if is_end(events[-1]) else row.offset
    if at is not None and not 1 <= at <= row.offset:
        raise InputInvalid(message=f"run {row.id} has events 1 to {row.offset}, none at {at}")
    cut = _first_difference(events, override) if at is None else at
    cut = max(1, min(cut, last))
    version = row.version
    if override:
        version = f"{workflow.version}+{_hash(override)}"
        workflow = workflow.overridden({**workflow.overrides, **override}, version)
    tokens, calls, seconds, strict, money = limits_of(budget)
    event = RunForked(
        run=row.id,
        at=cut,
        live=live,
        reuse=reuse,
        effects=effects,
        before=row.turn,
        overrides=sorted(override),
        budget=tokens,
        budget_calls=calls,
        budget_seconds=seconds,
        budget_strict=strict,
        budget_money=money,
    )
    run_id = f"r{secrets.token_hex(8)}"
    chain = OpenRun(run_id, 0, 1, cut, _crc_at(store, row, cut))
    new = NewRun(
        id=run_id,
        tenant=row.tenant,
        workflow=row.workflow,
        version=version,
        key=None,
        input_hash=row.input_hash,
        thread=row.thread,
        parent=None,
        owner=None,
        when_busy="queue",
        first=seal(chain, cut + 1, event),
        at=wall_clock(),
        base=row.number,
        base_offset=cut,
        tags=tags_of(folded(events[:1], Origin()).metadata),
    )
    return new, workflow


def _first_difference(events: list[Event], override: Mapping[str, Any]) -> int:
    """Return after which event a fork goes its own way, if nobody says so.

    It is where an agent that is replaced begins its first step, or a parked run its divergence;
    otherwise the whole run is gone through again, on its records.
    """
    if override:
        agents = folded(events, Agents())
        begins = [
            agents.steps[step_of(start.path)]
            for start in agents.starts
            if EVERY in override or start.agent in override
        ]
        return min(begins, default=events[-1].offset + 1) - 1
    if is_parking(events[-1]) and (path := events[-1].path):
        same = [event.offset for event in events[:-1] if is_within(event.path, path)]
        return min(same, default=events[-1].offset) - 1
    return 1


def retry_from(events: list[Event]) -> int:
    """Return behind which event a run that has ended is gone on with: what it finished stays.

    It is that before the first start of a step that did not complete.
    """
    steps, agents = Steps(), Agents()
    fold(events, steps, agents)
    ended = (it for it in steps.all.values() if it.kind == "step" and it.state == "completed")
    done = {step_of(it.path) for it in ended}
    begins = [offset for step, offset in agents.steps.items() if step not in done]
    return min(begins, default=events[-1].offset) - 1


def in_doubt_after(events: list[Event], at: int) -> list[Act]:
    """Return the acts behind event `at` of which nobody knows whether they happened."""
    before = folded(events[:at], Acts()).begun
    return [act for act in folded(events, Acts()).in_doubt if act.path not in before]


def effects_before(events: list[Event]) -> list[str]:
    """Return the paths of the effects that a fork stands on: they happened, or may have."""
    return folded(events, Acts()).acting


def _crc_at(store: Store, row: RunRow, offset: int) -> int:
    (stored,) = JournalReader(store, row).stored(after=offset - 1, limit=1)
    return stored.crc


def _hash(override: Mapping[str, Any]) -> str:
    text = "\0".join(f"{name}={agent.definition()}" for name, agent in sorted(override.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
