"""Commands that run recorded runs again, unchanged or varied: fork, replay, diff."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace

from rich.console import Console

from crew.agent import WithModel
from crew.config import Settings
from crew.errors import Diverged, InputInvalid
from crew.fold import Event, Origin, folded
from crew.graph import Workflow
from crew.journal import OPEN
from crew.message import Json
from crew.run import Run, Runtime
from crew.run.diff import Cost, Difference, End, compare, cost_of, end_of, reused_of
from crew.run.fork import EVERY, effects_before
from serving.commands.opening import absolute, opened, reading
from serving.commands.output import notes, results, show, show_json
from serving.commands.parked import to_rest
from serving.commands.screen import follow, money_text
from serving.commands.variants import code_of, has_other_agents, with_model

SHORT_CHARACTERS = 300
"""How much of a value a line shows."""
STOP_SECONDS = 2.0
"""How long a fork that is given up is waited for."""


@dataclass(frozen=True, slots=True)
class Variation:
    """How a fork differs from its base; see `Runtime.fork`."""

    at: int | None = None
    live: bool = True
    effects: bool = True
    model: str | None = None


async def fork_run(
    run_id: str,
    spec: str | None,
    settings: Settings,
    variation: Variation,
    *,
    as_json: bool,
) -> int:
    """Fork a run, follow the fork to its end, and say what it stands on and what it cost."""
    results()
    console = notes(quiet=as_json)
    base, events, workflow = await recorded_run(run_id, spec, settings)
    if variation.model is None:
        _refuse_without_agents(base, events)
    async with driving(settings, workflow, console, variation) as runtime:
        fork = await forked(runtime, base, variation)
        before = await fork.recorded()
        cut = cut_of(before)
        effects = effects_before(before[: cut - 1])
        console.print(f"run {fork.id}, a fork of {run_id} after event {cut - 1}", markup=False)
        if effects:
            console.print(f"it stands on these effects: {', '.join(effects)}", markup=False)
        await _followed(fork, cut, console, as_json=as_json)
        after = await fork.recorded()
    acting = effects_before(events)
    answered = [path for path in reused_of(after) if path in acting]
    end, cost = end_of(after), cost_of(after)
    if as_json:
        facts = {"run": fork.id, "base": run_id, "at": cut - 1, "effects": effects + answered}
        show_json(facts | {"end": asdict(end), "cost": asdict(cost)})
    else:
        show(text_of(end))
        if answered:
            console.print(f"effects from the record: {', '.join(answered)}", markup=False)
        console.print(f"run {fork.id} · {paid(cost)}")
        console.print(f"compare them with: crew diff {run_id} {fork.id}")
        if end.kind == "parked":
            console.print(f"parked; it waits for you to choose: crew show {fork.id}")
    return 0 if end.kind == "completed" else 1


async def replay_run(run_id: str, spec: str | None, settings: Settings, *, as_json: bool) -> int:
    """Run a run's code again on its records, and say whether it does the same."""
    results()
    _, events, workflow = await recorded_run(run_id, spec, settings)
    async with reading(settings, workflow) as runtime:
        diverged = await divergence(runtime, run_id)
    if as_json:
        show_json(
            {"run": run_id, "equal": diverged is None, "difference": divergence_data(diverged)}
        )
    elif diverged is None:
        show(f"equal: {len(events)} events, no model, tool or effect was called")
    else:
        show(f"different at {diverged.path}")
        show(f"  recorded: {diverged.recorded}")
        show(f"  asked:    {diverged.asked}")
        notes().print(f"go on with this code in a new run: crew fork {run_id}")
    return 0 if diverged is None else 1


async def diff_runs(one: str, two: str, settings: Settings, *, as_json: bool) -> int:
    """Compare two runs by their events."""
    async with reading(settings) as runtime:
        a = await (await runtime.get(one)).recorded()
        b = await (await runtime.get(two)).recorded()
    found = compare(a, b)
    if as_json:
        flags = {"equal": found.equal, "same_answer": found.same_answer}
        show_json({"runs": [one, two]} | flags | asdict(found))
    else:
        show("\n".join(_lines(one, two, found)))
    return 0


async def recorded_run(
    run_id: str, spec: str | None, settings: Settings
) -> tuple[Run, list[Event], Workflow]:
    """Return a run, its events and its code."""
    async with reading(settings) as runtime:
        run = await runtime.get(run_id)
        return run, await run.recorded(), code_of(run, spec)


@asynccontextmanager
async def driving(
    settings: Settings, workflow: Workflow, console: Console, variation: Variation
) -> AsyncIterator[Runtime]:
    """Open a runtime that drives forks: with a model made ready only if one may be called."""
    if not variation.live:
        here = replace(absolute(settings), agents="local")
        async with Runtime(workflows=[workflow], settings=here, takes_over=False) as runtime:
            yield runtime
        return
    settings = replace(settings, model=variation.model or settings.model)
    async with opened(settings, [workflow], console, alone=True, takes_over=False) as runtime:
        yield runtime


async def forked(runtime: Runtime, base: Run, variation: Variation) -> Run:
    """Start a fork of `base`."""
    override: dict[str, WithModel] = {}
    if variation.model is not None:
        override[EVERY] = with_model(replace(runtime.settings, model=variation.model))
    return await runtime.fork(
        base.id,
        at=variation.at,
        live=variation.live,
        override=override,
        effects=variation.effects,
    )


async def divergence(runtime: Runtime, run_id: str) -> Diverged | None:
    """Replay a run, and return the first difference."""
    try:
        await runtime.replay(run_id)
    except Diverged as error:
        return error
    return None


def divergence_data(diverged: Diverged | None) -> dict[str, str] | None:
    """Return a divergence as JSON."""
    if diverged is None:
        return None
    return {"path": diverged.path, "recorded": diverged.recorded, "asked": diverged.asked}


async def give_up(fork: Run) -> None:
    """Cancel a fork that nobody can go on with, so that it is not open for ever."""
    await fork.cancel()
    deadline = time.monotonic() + STOP_SECONDS
    while await fork.status() in OPEN and time.monotonic() < deadline:
        await asyncio.sleep(0.02)  # a parked one is let go of a moment after its event
        await fork.cancel()


def cut_of(events: list[Event]) -> int:
    """Return the offset of the event that made a run a fork."""
    return folded(events, Origin()).forked_at


def text_of(end: End) -> str:
    """Return what a person reads of how a run ended."""
    match end.kind:
        case "completed":
            value = end.value
            text = value.get("text") if isinstance(value, dict) else value
            return text if isinstance(text, str) else _json(value)
        case "failed":
            return f"failed: {end.value['error']}"
        case "parked":
            return f"parked ({end.value['reason']}): {end.value['detail']}"
        case _:
            return end.kind


def paid(cost: Cost) -> str:
    """Return what a run cost, as text."""
    spent = f", {money_text(cost.money)}," if cost.money else ""
    spared = f", {money_text(cost.reused_money)}," if cost.reused_money else ""
    return (
        f"{cost.calls} model calls and {cost.tokens} tokens{spent} paid · "
        f"{cost.reused_calls} calls and {cost.reused_tokens} tokens{spared} reused"
    )


def _refuse_without_agents(base: Run, events: list[Event]) -> None:
    if not has_other_agents(base):
        return
    forked = folded(events, Origin()).forked
    origin = "RUN" if forked is None else forked.run
    raise InputInvalid(
        message=f"run {base.id} is a fork with other agents, which its file does not hold; give "
        f"--with model=NAME, or fork the run that it stands on: crew fork {origin}"
    )


async def _followed(fork: Run, cut: int, console: Console, *, as_json: bool) -> None:
    """Show a fork until it rests; one that is interrupted ends with its other agents."""
    try:
        await follow(to_rest(fork, since=cut), f"run {fork.id}", console, quiet=as_json)
    except asyncio.CancelledError:
        if has_other_agents(fork):
            await give_up(fork)
            console.print(f"stopped; run {fork.id} is cancelled")
        else:
            console.print(f"stopped; nothing is lost. Go on with: crew resume {fork.id}")
        raise


def _lines(one: str, two: str, found: Difference) -> list[str]:
    a, b = found.ends
    lines = [f"answer: {'equal' if found.same_answer else 'different'}"]
    if found.same_answer:
        lines.append(f"  {_short(text_of(a))}")
    else:
        lines += [f"  {one}: {_short(text_of(a))}", f"  {two}: {_short(text_of(b))}"]
    for run, paths in ((one, found.only_a), (two, found.only_b)):
        if paths:
            lines += [f"only in {run}:", *(f"  {path}" for path in paths)]
    if found.changed:
        lines.append("other results, the first one first:")
    for change in found.changed:
        lines += [f"  {change.path}", f"    {one}: {_value(change.a)}"]
        lines.append(f"    {two}: {_value(change.b)}")
    for run, cost in zip((one, two), found.costs, strict=True):
        lines.append(f"{run}: {paid(cost)}")
    return lines


def _value(value: Json) -> str:
    return "no result" if value is None else _short(_json(value))


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= SHORT_CHARACTERS else f"{text[:SHORT_CHARACTERS]}…"
