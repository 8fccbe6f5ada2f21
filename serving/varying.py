"""Commands that look at recorded runs again, and vary them: replay, fork, diff."""

import json
from dataclasses import asdict, replace
from typing import Any

from crew.agent import WithModel
from crew.config import Settings
from crew.errors import Diverged, InputInvalid
from crew.graph import Workflow
from crew.llm.choice import default_model
from crew.run import Run, Runtime
from crew.run.diff import Difference, compare
from crew.run.fork import effects_before
from serving.gallery import load_workflow
from serving.opening import absolute, opened
from serving.output import notes, show, show_json


async def replay_run(run_id: str, spec: str, settings: Settings, *, as_json: bool) -> int:
    """Run a recorded run's code again on its records, and say whether it comes to the same."""
    workflow = load_workflow(spec)
    async with _reading(settings, workflow) as runtime:
        problem = await _replayed(runtime, run_id)
    if as_json:
        show_json({"run": run_id, "equal": not problem, "problem": problem})
    else:
        show(problem or f"run {run_id}: the same again, from its records alone")
    return 1 if problem else 0


async def replay_runs(
    which: str,
    spec: str,
    settings: Settings,
    changes: list[str],
    *,
    allow_effects: bool,
    as_json: bool,
) -> int:
    """Replay the last runs of a workflow; with a change, fork each with it, and compare."""
    workflow, override = load_workflow(spec), _override(changes, settings)
    console = notes(quiet=as_json)
    rows: list[dict[str, Any]] = []
    async with opened(settings, [workflow], console, takes_over=False) as runtime:
        for run in await _last(runtime, workflow, which):
            row: dict[str, Any] = {"run": run.id, "baseline": await _replayed(runtime, run.id)}
            if override:
                fork = await runtime.fork(run.id, override=override, effects=allow_effects)
                await _settled(fork)
                row |= {"fork": fork.id, **_told(await _compared(run, fork))}
            rows.append(row)
            if not as_json:
                show(_line(row))
    if as_json:
        show_json(rows)
    elif rows:
        show(_sums(rows))
    else:
        console.print(f"no run of {workflow.name!r} has ended yet")
    return 1 if any(row["baseline"] for row in rows) else 0


async def fork_run(
    run_id: str,
    spec: str,
    settings: Settings,
    at: int | None,
    changes: list[str],
    *,
    live: bool,
    effects: bool,
    as_json: bool,
) -> int:
    """Start a new run from a prefix of another one, and show what it paid."""
    workflow, console = load_workflow(spec), notes(quiet=as_json)
    override = _override(changes, settings)
    async with opened(settings, [workflow], console, takes_over=False) as runtime:
        run = await runtime.get(run_id)
        fork = await runtime.fork(run_id, at=at, live=live, override=override, effects=effects)
        events = await fork.recorded()
        forked = next(event for event in events if event.kind == "run.forked")
        console.print(f"fork {fork.id} of {run_id}, after its event {forked.data['at']}")
        for path in effects_before(events[: forked.data["at"]]):
            console.print(f"stands on the effect {path}")
        await _settled(fork)
        difference = await _compared(run, fork)
        status, last = await fork.status(), (await fork.recorded())[-1]
    if as_json:
        show_json({"fork": fork.id, "of": run_id, "status": status, **_told(difference)})
    elif last.kind == "run.parked":
        console.print(f"stopped ({last.data['reason']}): {last.data['detail']}")
        console.print(f"go on: crew resume {fork.id}; give up: crew cancel {fork.id}")
    else:
        side = difference.second
        calls = side.reused.get("calls", 0)
        console.print(f"{calls} model calls reused, {side.paid.get('calls', 0)} paid")
        show(_text(side.answer))
    return 0 if status in ("completed", "waiting") else 1


async def diff_runs(first: str, second: str, settings: Settings, *, as_json: bool) -> int:
    """Say what differs between two runs."""
    async with _reading(settings, None) as runtime:
        runs = [await runtime.get(run_id) for run_id in (first, second)]
        difference = await _compared(*runs)
    if as_json:
        show_json(asdict(difference) | {"same": difference.is_same})
        return 0
    show("the answers are the same" if difference.is_same else "the answers differ")
    for run_id, side in ((first, difference.first), (second, difference.second)):
        show(f"  {run_id}  {side.end}  {side.tokens} tokens  {_text(side.answer):.200}")
    for name, paths in (
        (f"only in {first}", difference.only_first),
        (f"only in {second}", difference.only_second),
        ("another result", difference.changed),
    ):
        for path in paths:
            show(f"  {name}: {path}")
    return 0


async def tail_run(run_id: str, settings: Settings, after: int, *, as_json: bool) -> int:
    """Print a run's events, as they are recorded, to its end."""
    async with _reading(settings, None) as runtime:
        run = await runtime.get(run_id)
        async for event in run.events(after=after):
            if as_json:
                show(json.dumps(asdict(event), ensure_ascii=False))
            else:
                data = json.dumps(event.data, ensure_ascii=False)
                show(f"{event.offset:>6}  {event.kind:<18} {event.path:<32} {data:.200}")
    return 0


async def _last(runtime: Runtime, workflow: Workflow, which: str) -> list[Run]:
    word, _, number = which.partition(":")
    if word != "last" or not number.isdigit():
        raise InputInvalid(message=f"--runs {which!r} is not understood; write last:50")
    ended = await runtime.runs(status=("completed", "failed"))
    mine = [
        run for run in ended if (run.workflow, run.version) == (workflow.name, workflow.version)
    ]
    return mine[: int(number)]


def _override(changes: list[str], settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name != "model" or not value:
            raise InputInvalid(message=f"--with {change!r} is not understood; write model=NAME")
        found["*"] = WithModel(default_model(replace(settings, model=value)))
    return found


async def _replayed(runtime: Runtime, run_id: str) -> str:
    """Return the first difference between a run and its replay, or nothing."""
    try:
        await runtime.replay(run_id)
    except Diverged as error:
        return str(error)
    return ""


async def _settled(run: Run) -> None:
    """Wait until a run has ended, or waits for somebody."""
    async for event in run.events():
        if event.kind in ("run.parked", "ask.opened"):
            return


async def _compared(first: Run, second: Run) -> Difference:
    return compare(await first.recorded(), await second.recorded())


def _told(difference: Difference) -> dict[str, Any]:
    return {
        "same_answer": difference.is_same,
        "answer": difference.second.answer,
        "tokens_before": difference.first.tokens,
        "tokens_paid": difference.second.tokens,
        "calls_paid": difference.second.paid.get("calls", 0),
        "calls_reused": difference.second.reused.get("calls", 0),
        "end": difference.second.end,
    }


def _line(row: dict[str, Any]) -> str:
    if row["baseline"]:
        return f"{row['run']}  replay differs: {row['baseline']}"
    if "fork" not in row:
        return f"{row['run']}  replays the same"
    same = "same answer" if row["same_answer"] else f"{row['end']}, another answer"
    tokens = f"{row['tokens_before']} -> {row['tokens_paid']} tokens"
    calls = f"{row['calls_paid']} calls paid, {row['calls_reused']} reused"
    return f"{row['run']}  {same:<24} {tokens:<24} {calls}  ({row['fork']})"


def _sums(rows: list[dict[str, Any]]) -> str:
    forked = [row for row in rows if "fork" in row]
    text = f"{len(rows)} runs, {sum(not row['baseline'] for row in rows)} replay the same"
    if not forked:
        return text
    same = sum(row["same_answer"] for row in forked)
    before, paid = (sum(row[name] for row in forked) for name in ("tokens_before", "tokens_paid"))
    change = f"with the change {same} of {len(forked)} give the same answer"
    return f"{text}; {change}, {before} -> {paid} tokens"


def _text(answer: Any) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _reading(settings: Settings, workflow: Workflow | None) -> Runtime:
    given = [workflow] if workflow is not None else []
    return Runtime(
        settings=replace(absolute(settings), agents="local"), workflows=given, worker=False
    )
