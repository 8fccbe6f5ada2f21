"""Commands that read what is stored, or leave a letter for a run: runs, show, answer, cancel."""

import json
import time
from dataclasses import dataclass, replace
from typing import Any

from crew.config import Settings
from crew.errors import CrewError
from crew.event import Event
from crew.journal import RunStatus
from crew.run import Run, Runtime
from serving.opening import absolute
from serving.output import notes, show, show_json
from serving.screen import Progress

STATUSES: tuple[RunStatus, ...] = ("running", "waiting", "completed", "failed", "cancelled")


async def list_runs(
    settings: Settings, status: str | None, thread: str | None, limit: int, *, as_json: bool
) -> int:
    """List runs, the newest first."""
    if status is not None and status not in STATUSES:
        raise CrewError(message=f"{status!r} is no status; there are: {', '.join(STATUSES)}")
    wanted = tuple(item for item in STATUSES if item == status)
    async with _looking(settings) as runtime:
        found = await runtime.runs(status=wanted, thread=thread, limit=limit)
        rows = [await _row(run) for run in found]
    if as_json:
        show_json(rows)
        return 0
    if not rows:
        notes().print('no runs yet; start one with: crew ask "…"')
        return 0
    for row in rows:
        age = time.time() - row["created_at"]
        head = f"{row['run']}  {row['status']:<9}  {row['workflow']:<12}  {_age(age):>8}"
        show(f"{head}  {row['text']}")
    return 0


async def show_run(run_id: str, settings: Settings, *, as_json: bool) -> int:
    """Show one run: its tree, and how it ended."""
    async with _looking(settings) as runtime:
        run = await runtime.get(run_id)
        events = await run.recorded()
        status = await run.status()
        questions = await run.questions()
    if as_json:
        listed = [
            {"offset": e.offset, "kind": e.kind, "path": e.path, "at": e.at, "data": e.data}
            for e in events
        ]
        show_json({"run": run.id, "status": status, "events": listed})
        return 0
    progress = Progress()
    for event in events:
        progress.add(event)
    console = notes()
    console.print(progress.tree(f"run {run.id} of {run.workflow} · {status}"))
    console.print(f"{len(events)} events · {count(events)}")
    for question in questions:
        console.print(f"asks: {question.question}  crew answer {run.id} {question.key} VALUE")
    for line in _undecided(run.id, events):
        console.print(line)
    last = events[-1]
    if last.kind == "run.parked":
        for line in _ways_on(run.id, last):
            console.print(line)
        return 0
    if "error" in last.data:
        error = last.data["error"]
        console.print(f"failed at {error.get('path', '?')}: {error['type']}: {error['message']}")
    if progress.text:
        show(progress.text)
    elif status == "completed":
        show(json.dumps(last.data.get("output"), ensure_ascii=False, indent=2))
    if status in ("running", "waiting") and not questions:
        console.print(f"if its process died, go on with: crew resume {run.id}")
    return 0


def _undecided(run: str, events: list[Event]) -> list[str]:
    """Name the effects of which nobody knows whether they happened."""
    policies = {e.path: e.data.get("unknown") for e in events if e.kind == "effect.started"}
    states: dict[str, str] = {}
    for event in events:
        call, _, phase = event.kind.partition(".")
        if call in ("effect", "tool"):
            states[event.path] = phase
    return [
        f"unknown whether it happened: {path} (policy: {policies.get(path, 'fail')})"
        for path, phase in states.items()
        if phase == "unknown"
    ]


def _ways_on(run: str, parked: Event) -> list[str]:
    """Say why a run waits for a person, and what that person may do."""
    lines = [f"parked ({parked.data['reason']}): {parked.data['detail']}"]
    if parked.data["reason"] == "poisoned":
        return [*lines, f"try again: crew resume {run}", f"give up: crew cancel {run}"]
    return [
        *lines,
        f"go on with the code that fits its journal: crew resume {run}",
        f"go on from that point with this code: crew fork {run}",
        f"give up: crew cancel {run}",
    ]


async def answer_run(
    run_id: str, key: str, value: str, settings: Settings, *, as_json: bool
) -> int:
    """Answer an open question of a run."""
    try:
        parsed: Any = json.loads(value)
    except ValueError:
        parsed = value
    async with _looking(settings) as runtime:
        run = await runtime.get(run_id)
        await run.answer(key, parsed)
    if as_json:
        show_json({"run": run_id, "key": key, "value": parsed})
    else:
        notes().print(f"answered; if nothing drives the run: crew resume {run_id}")
    return 0


async def cancel_run(run_id: str, settings: Settings, *, as_json: bool) -> int:
    """Stop a run."""
    async with _looking(settings) as runtime:
        run = await runtime.get(run_id)
        await run.cancel()
        status = await run.status()
    if as_json:
        show_json({"run": run_id, "status": status})
    else:
        notes().print(f"told run {run_id} to stop; see: crew show {run_id}")
    return 0


@dataclass(frozen=True, slots=True)
class Tally:
    """What a run's calls came to.

    `repeated` calls were made again though their result was recorded; those `in_flight` were made
    again because a crash came before it.
    """

    recorded: int
    repeated: int
    in_flight: int
    taken: int

    def __str__(self) -> str:
        text = f"{self.recorded} recorded calls · {self.repeated} repeated"
        if self.in_flight:
            text += f" · {self.in_flight} in flight at a crash, made again"
        return text + (f" · {self.taken} take-overs" if self.taken else "")


def count(events: list[Event]) -> Tally:
    """Count a run's model, tool and effect calls, and those that were made twice."""
    done: set[str] = set()
    open_calls: set[str] = set()
    repeated = in_flight = 0
    for event in events:
        call, _, phase = event.kind.partition(".")
        if call not in ("model", "tool", "effect"):
            continue
        if phase == "started":
            repeated += event.path in done
            in_flight += event.path in open_calls
            open_calls.add(event.path)
        else:
            open_calls.discard(event.path)
            if phase == "completed":
                done.add(event.path)
    # The second event of a turn says who drives it first: nobody lost it.
    taken = sum(event.kind == "run.taken" and event.offset > 2 for event in events)
    return Tally(len(done), repeated, in_flight, taken)


def _looking(settings: Settings) -> Runtime:
    return Runtime(settings=replace(absolute(settings), agents="local"), worker=False)


async def _row(run: Run) -> dict[str, Any]:
    from crew.value import text_of

    first = (await run.recorded())[0]
    text = text_of(first.data.get("input"))
    return {
        "run": run.id,
        "status": await run.status(),
        "workflow": run.workflow,
        "thread": run.thread,
        "created_at": run.created_at,
        "text": text if len(text) < 60 else text[:57] + "…",
    }


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
