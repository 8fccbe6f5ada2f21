"""The command that runs many recorded runs again: unchanged first, then with another model."""

import asyncio
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from crew.config import Settings
from crew.errors import EFFECTS_REFUSED, InputInvalid
from crew.fold import Event, Origin, Questions, fold, folded
from crew.graph import Workflow
from crew.run import Run, Runtime
from crew.run.diff import Cost, compare, cost_of, end_of
from serving.commands.opening import reading
from serving.commands.output import notes, results, show, show_json
from serving.commands.parked import to_rest
from serving.commands.variants import code_of, has_other_agents
from serving.commands.varying import (
    Variation,
    cut_of,
    divergence,
    divergence_data,
    driving,
    forked,
    give_up,
    text_of,
)
from serving.gallery import load_workflow

MOST_LOOKED_AT = 10_000
"""Of so many runs, the newest, those of a cohort are chosen."""

Verdict = Literal["same", "different", "stopped", "asks", "failed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one run: of its unchanged replay, and of its fork with another model."""

    run: str
    text: str
    tokens: int
    """What the recorded run cost."""
    difference: dict[str, str] | None = None
    """Where an unchanged replay is different already."""
    fork: str | None = None
    answer: Verdict | None = None
    detail: str = ""
    cost: Cost | None = None

    @property
    def equal(self) -> bool:
        return self.difference is None


async def replay_cohort(
    chosen: str,
    spec: str | None,
    settings: Settings,
    model: str | None,
    *,
    effects: bool,
    as_json: bool,
) -> int:
    """Replay the last runs of a workflow; with a model, fork each with it; say what changed."""
    results()
    console = notes(quiet=as_json)
    async with reading(settings) as runtime:
        workflow, cohort = await _cohort(runtime, _count(chosen), spec)
    variation = Variation(effects=effects, model=model)
    trials: list[Trial] = []
    opening = driving(settings, workflow, console, variation) if model else nullcontext()
    async with reading(settings, workflow) as looking, opening as runtime:
        for run, events in cohort:
            trial = await _baseline(looking, run, events)
            if runtime is not None and trial.equal:
                trial = await _varied(runtime, trial, run, events, variation)
            trials.append(trial)
            console.print(f"{len(trials)} of {len(cohort)}: run {run.id}")
    if as_json:
        show_json({"runs": [_facts(trial) for trial in trials], "sums": _sums(trials)})
    else:
        show("\n".join(_table(trials, varied=model is not None)))
    return 0 if all(trial.equal and trial.answer != "failed" for trial in trials) else 1


def _count(chosen: str) -> int:
    kind, _, number = chosen.partition(":")
    if kind != "last" or not number.isdecimal() or int(number) < 1:
        raise InputInvalid(message=f"--runs {chosen} is not understood; write --runs last:50")
    return int(number)


async def _cohort(
    runtime: Runtime, count: int, spec: str | None
) -> tuple[Workflow, list[tuple[Run, list[Event]]]]:
    """Return the newest runs of one workflow and version that ended by themselves, no forks."""
    ended = await runtime.runs(status=("completed", "failed"), limit=MOST_LOOKED_AT)
    if not ended:
        raise InputInvalid(message="no run has ended yet; see: crew runs")
    newest = next((run for run in ended if not has_other_agents(run)), ended[0])
    workflow = load_workflow(spec) if spec else code_of(newest, None)
    found: list[tuple[Run, list[Event]]] = []
    for run in ended:
        if (run.workflow, run.version) != (workflow.name, workflow.version):
            continue
        events = await run.recorded()
        if folded(events, Origin()).forked is None:
            found.append((run, events))
        if len(found) == count:
            return workflow, found
    if not found:
        raise InputInvalid(
            message=f"no run of workflow {workflow.name!r} version {workflow.version} has ended; "
            "see: crew runs"
        )
    return workflow, found


async def _baseline(runtime: Runtime, run: Run, events: list[Event]) -> Trial:
    return Trial(
        run=run.id,
        text=text_of(end_of(events)),
        tokens=cost_of(events).all_tokens,
        difference=divergence_data(await divergence(runtime, run.id)),
    )


async def _varied(
    runtime: Runtime,
    trial: Trial,
    run: Run,
    events: list[Event],
    variation: Variation,
) -> Trial:
    """Fork a run with another model, and compare the fork with it."""
    branch = await forked(runtime, run, variation)
    since = cut_of(await branch.recorded())
    asked = Questions()
    try:
        async for event in to_rest(branch, since=since, after=since):
            fold([event], asked)
            if asked.open:
                break
    except asyncio.CancelledError:
        await give_up(branch)
        raise
    again = await branch.recorded()
    end = end_of(again)
    if end.kind in ("parked", "open"):
        await give_up(branch)
    verdict: Verdict = "same" if compare(events, again).same_answer else "different"
    detail = ""
    match end.kind:
        case "parked":
            verdict, detail = "stopped", _why(end.value)
        case "open":
            verdict, detail = "asks", next(iter(asked.open.values())).question if asked.open else ""
        case "failed" if verdict == "different":
            verdict, detail = "failed", end.value["error"]
        case _:
            pass
    return replace(trial, fork=branch.id, answer=verdict, detail=detail, cost=cost_of(again))


def _why(parked: dict[str, Any]) -> str:
    if not parked["asked"]:
        return parked["detail"]
    hint = f"{EFFECTS_REFUSED}; see --allow-effects" if "effects_refused" in parked else ""
    return f"at {parked['path']} it asks for {parked['asked']}{hint}"


def _facts(trial: Trial) -> dict[str, Any]:
    cost = trial.cost
    return {
        "run": trial.run,
        "equal": trial.equal,
        "difference": trial.difference,
        "fork": trial.fork,
        "answer": trial.answer,
        "detail": trial.detail,
        "tokens_before": trial.tokens,
        "tokens_after": None if cost is None else cost.all_tokens,
        "calls_paid": None if cost is None else cost.calls,
        "tokens_paid": None if cost is None else cost.tokens,
    }


def _sums(trials: list[Trial]) -> dict[str, Any]:
    """Return the table's last line; tokens before are those of the runs that were forked."""
    costs = [trial.cost for trial in trials if trial.cost is not None]
    total = sum(costs, Cost())
    before = sum(trial.tokens for trial in trials if trial.cost is not None or not costs)
    return {
        "runs": len(trials),
        "equal": sum(trial.equal for trial in trials),
        "answers": dict(Counter(trial.answer for trial in trials if trial.answer)),
        "tokens_before": before,
        "tokens_after": total.all_tokens if costs else None,
        "calls_paid": total.calls,
        "tokens_paid": total.tokens,
    }


def _table(trials: list[Trial], *, varied: bool) -> list[str]:
    """Return the table's lines, and below it what a cell has no room for."""
    heads = ("run", "unchanged", "before", "fork", "answer", "after", "calls")
    rows = [heads, *(_cells(trial) for trial in trials), _last_cells(trials)]
    shown = [row if varied else row[:3] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
    return lines + [line for trial in trials for line in _remarks(trial)]


def _cells(trial: Trial) -> tuple[str, ...]:
    known = (trial.run, "equal" if trial.equal else "different", str(trial.tokens))
    if trial.cost is None:
        return (*known, "", "", "", "")
    cost = (str(trial.cost.all_tokens), str(trial.cost.calls))
    return (*known, trial.fork or "", trial.answer or "", *cost)


def _last_cells(trials: list[Trial]) -> tuple[str, ...]:
    sums = _sums(trials)
    answers = ", ".join(f"{count} {answer}" for answer, count in sums["answers"].items())
    after = "" if sums["tokens_after"] is None else str(sums["tokens_after"])
    runs = (f"{sums['runs']} runs", f"{sums['equal']} equal", str(sums["tokens_before"]))
    return (*runs, "", answers, after, str(sums["calls_paid"]))


def _remarks(trial: Trial) -> list[str]:
    if (side := trial.difference) is not None:
        return [
            f"{trial.run} is different without any change, at {side['path']}:",
            f"  recorded: {side['recorded']}",
            f"  asked:    {side['asked']}",
        ]
    return [f"{trial.fork} {trial.answer}: {trial.detail}"] if trial.detail else []
