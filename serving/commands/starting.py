"""Commands that start one run by its code and its input: start, and retry for one that failed."""

import sys
from typing import Literal

from crew.config import Settings
from crew.fold import Origin, folded
from crew.message import Json
from serving.commands.asking import watched
from serving.commands.opening import opened, reading
from serving.commands.output import notes, results, show, show_json
from serving.commands.variants import code_of
from serving.commands.wanted import metadata_of, value_of
from serving.gallery import load_workflow


async def start_run(
    spec: str,
    given: str | None,
    settings: Settings,
    *,
    key: str | None,
    thread: str | None,
    metadata: list[str],
    wait: bool,
    as_json: bool,
) -> int:
    """Start a run, and follow it to its end; or leave it to whoever serves its workflow."""
    results()
    console = notes(quiet=as_json)
    workflow = load_workflow(spec)
    value, kept = _input(given), metadata_of(metadata) or None
    if not wait:
        async with reading(settings) as runtime:
            run = await runtime.start(workflow, value, key=key, thread=thread, metadata=kept)
        facts = {"run": run.id}
        show_json(facts) if as_json else show(run.id)
        console.print(f"accepted; if nothing serves {workflow.name}: crew resume {run.id}")
        return 0
    async with opened(settings, [workflow], console, fetches=False) as runtime:
        run = await runtime.start(workflow, value, key=key, thread=thread, metadata=kept)
        return await watched(run, as_json=as_json)


async def retry_run(
    run_id: str,
    spec: str | None,
    settings: Settings,
    unknown: Literal["fail", "retry"],
    *,
    as_json: bool,
) -> int:
    """Go on with a run that failed in a new one, and follow that to its end."""
    results()
    console = notes(quiet=as_json)
    async with reading(settings) as looking:
        workflow = code_of(await looking.get(run_id), spec)
    whole = opened(settings, [workflow], console, alone=True, takes_over=False, fetches=False)
    async with whole as runtime:
        again = await runtime.retry(run_id, unknown=unknown)
        cut = folded(await again.recorded(), Origin()).forked_at
        console.print(f"run {again.id} goes on with what {run_id} finished", markup=False)
        return await watched(again, as_json=as_json, since=cut)


def _input(given: str | None) -> Json:
    if given is None:
        return None
    return value_of(sys.stdin.read() if given == "-" else given)
