"""Commands that read what is stored, or leave a letter for a run.

They are runs, show, tail, answer and cancel.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from crew.config import Settings
from crew.fold import Act, Event, Spans, Tally, fold, folded, is_newer
from crew.run import Run
from serving.commands.opening import reading
from serving.commands.output import notes, show, show_json
from serving.commands.parked import lines_of, meaning_of, parked, to_rest, unknown_effects
from serving.commands.screen import Progress
from serving.commands.wanted import Wanted

LINE_CHARACTERS = 160
"""How much of an event's data a line of `crew tail` shows."""


async def list_runs(settings: Settings, wanted: Wanted, limit: int, *, as_json: bool) -> int:
    """List runs, the newest first."""
    async with reading(settings) as runtime:
        found = await wanted.page(runtime, before=None, limit=limit)
        rows = [await _row(run) for run in found]
    if as_json:
        show_json(rows)
        return 0
    if not rows:
        notes().print('no runs yet; start one with: crew ask "…"')
        return 0
    for row in rows:
        age = time.time() - row["created_at"]
        status = f"parked: {row['parked']}" if row["parked"] else row["status"]
        head = f"{row['run']}  {status:<9}  {row['workflow']:<12}  {age_text(age):>8}"
        show(f"{head}  {row['text']}")
    return 0


async def show_run(run_id: str, settings: Settings, *, as_json: bool) -> int:
    """Show one run: its tree, and how it ended."""
    async with reading(settings) as runtime:
        run = await runtime.get(run_id)
        events = await run.recorded()
        status = await run.status()
        questions = await run.questions()
    held = parked(run.id, events, settings) if status == "waiting" else None
    unknown = unknown_effects(events)
    newer = [event for event in events if is_newer(event)]
    if as_json:
        facts: dict[str, Any] = {"run": run.id, "status": status}
        facts["parked"] = asdict(held) if held else None
        facts["unknown_effects"] = [_effect_data(effect) for effect in unknown]
        facts["newer_events"] = [event.offset for event in newer]
        facts["spans"] = asdict(folded(events, Spans()).tree(run.workflow))
        show_json(facts | {"events": [listed(event) for event in events]})
        return 0
    progress = Progress()
    for event in events:
        progress.add(event)
    console = notes()
    console.print(progress.tree(f"run {run.id} of {run.workflow} · {status}"))
    console.print(f"{len(events)} events · {_counted(count(events))}")
    for question in questions:
        whom = "" if question.to is None else f" {question.to}"
        how = f"crew answer {run.id} {question.key} VALUE"
        console.print(f"asks{whom}: {question.question}  {how}", markup=False)
    if (error := progress.ending.error) is not None:
        text = f"failed at {error.path or '?'}: {error.type}: {error.message}"
        console.print("\n".join(part for part in (error.traceback, text) if part), markup=False)
    if progress.text:
        show(progress.text)
    elif status == "completed":
        show(json.dumps(progress.ending.output, ensure_ascii=False, indent=2))
    for effect in unknown:
        console.print(
            f"unknown whether it happened: {effect.path} ({effect.function}), "
            f"policy {effect.policy!r}: {meaning_of(effect)}",
            markup=False,
        )
    for event in newer:
        console.print(_of_newer_release(event), markup=False)
    if held is not None:
        for line in lines_of(held):
            console.print(line, markup=False)
    elif status in ("running", "waiting") and not (questions or newer):
        console.print(f"if its process died, go on with: crew resume {run.id}")
    return 0


def _of_newer_release(event: Event) -> str:
    return (
        f"event {event.offset} is of a kind that a newer release wrote: {event.kind}. It is not "
        "shown above, and the run is left to processes of that release; update crew to go on here"
    )


async def tail_run(run_id: str, after: int, settings: Settings, *, as_json: bool) -> int:
    """Print a run's events, one a line, until it ends or is parked."""
    async with reading(settings) as runtime:
        run = await runtime.get(run_id)
        ending = await run.ending()
        since = ending.offset - (ending.parked is not None)
        async for event in to_rest(run, since=since, after=after):
            fold([event], ending)
            show(json.dumps(listed(event), ensure_ascii=False) if as_json else line_of(event))
    if ending.parked is not None:
        notes(quiet=as_json).print(f"parked; it waits for you to choose: crew show {run_id}")
    return 0


def line_of(event: Event) -> str:
    """Return a line about an event: its place, its kind, its path, and the start of its data."""
    data = json.dumps(event.data, ensure_ascii=False) if event.data else ""
    short = data if len(data) <= LINE_CHARACTERS else f"{data[:LINE_CHARACTERS]}…"
    return f"{event.offset:>5}  {event.kind:<18} {event.path}  {short}".rstrip()


def listed(event: Event) -> dict[str, Any]:
    """Return an event as JSON."""
    place = {"offset": event.offset, "kind": event.kind, "path": event.path}
    return {**place, "at": event.at, "data": event.data}


async def answer_run(
    run_id: str, key: str, value: str, by: str | None, settings: Settings, *, as_json: bool
) -> int:
    """Answer an open question of a run."""
    try:
        parsed: Any = json.loads(value)
    except ValueError:
        parsed = value
    async with reading(settings) as runtime:
        run = await runtime.get(run_id)
        await run.answer(key, parsed, by=by)
        is_loaded = await run.is_loaded()
    if as_json:
        show_json({"run": run_id, "key": key, "value": parsed, "is_loaded": is_loaded})
        return 0
    notes().print("answered" if is_loaded else _kept(run), markup=False)
    return 0


def _kept(run: Run) -> str:
    """Say what becomes of an answer to a run of which nobody has the code."""
    return (
        f"the answer is kept until somebody loads workflow {run.workflow!r} version {run.version}; "
        f"go on with: crew resume {run.id} --workflow FILE.py"
    )


async def cancel_run(run_id: str, settings: Settings, *, as_json: bool) -> int:
    """Stop a run."""
    async with reading(settings) as runtime:
        run = await runtime.get(run_id)
        await run.cancel()
        status = await run.status()
    if as_json:
        show_json({"run": run_id, "status": status})
    else:
        notes().print(f"told run {run_id} to stop; see: crew show {run_id}")
    return 0


def count(events: Iterable[Event]) -> Tally:
    """Count a run's model, tool and effect calls, and those that were made twice."""
    return folded(events, Tally())


def _counted(tally: Tally) -> str:
    text = f"{tally.recorded} recorded calls · {tally.repeated} repeated"
    if tally.in_flight:
        text += f" · {tally.in_flight} in flight at a crash, made again"
    return text + (f" · {tally.taken} take-overs" if tally.taken else "")


def _effect_data(effect: Act) -> dict[str, str]:
    facts = {"path": effect.path, "function": effect.function, "policy": effect.policy}
    return facts | {"key": effect.key, "means": meaning_of(effect)}


async def _row(run: Run) -> dict[str, Any]:
    from crew.value import text_of

    text = text_of((await run.origin()).input)
    parked = (await run.ending()).parked
    return {
        "run": run.id,
        "status": await run.status(),
        "parked": None if parked is None else parked.reason,
        "workflow": run.workflow,
        "version": run.version,
        "thread": run.thread,
        "created_at": run.created_at,
        "text": text if len(text) < 60 else text[:57] + "…",
    }


def age_text(seconds: float) -> str:
    """Return how long ago something was, as people say it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
