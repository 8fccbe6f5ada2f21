"""Commands that start or go on with runs: ask, chat, resume; and what they need: index, weights."""

import asyncio
import secrets
import signal
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from crew.budget import Budget
from crew.config import Settings
from crew.errors import InputInvalid, NewerEvent, RunCancelled, RunFailed
from crew.fold import Agents, Event, folded, tokens_in
from crew.graph import Workflow
from crew.run import Run, Runtime
from crew.value import text_of as read_by_people
from serving.commands.opening import absolute, opened, prepare_weights
from serving.commands.output import notes, results, show, show_json
from serving.commands.parked import to_rest
from serving.commands.screen import follow, money_text
from serving.gallery import load_workflow

DETACHED = 130


async def ask_once(
    question: str,
    spec: str,
    settings: Settings,
    thread: str | None,
    key: str | None,
    budget: int | None,
    *,
    as_json: bool,
) -> int:
    """Start one run, show it, and print its answer."""
    results()
    console = notes(quiet=as_json)
    workflow = load_workflow(spec)
    value = input_of(workflow, question, settings)
    async with opened(settings, [workflow], console) as runtime:
        run = await runtime.start(
            workflow,
            value,
            thread=thread,
            key=key,
            budget=Budget(tokens=budget) if budget else None,
        )
        return await watched(run, as_json=as_json)


async def talk(spec: str, settings: Settings, thread: str | None, *, as_json: bool) -> int:
    """Start a run for each line that is typed, all on one thread."""
    results()
    console = notes(quiet=as_json)
    workflow = load_workflow(spec)
    thread = thread or f"chat-{secrets.token_hex(4)}"
    status = 0
    async with opened(settings, [workflow], console) as runtime:
        console.print(f"thread {thread}; an empty line ends it")
        while question := await asyncio.to_thread(_typed):
            run = await runtime.start(
                workflow, input_of(workflow, question, settings), thread=thread
            )
            status = await watched(run, as_json=as_json)
            if status == DETACHED:
                break
    console.print(f"go on with: crew chat --thread {thread}")
    return status


async def resume_runs(run_id: str | None, spec: str, settings: Settings, *, as_json: bool) -> int:
    """Go on with one run, or with all that nobody drives."""
    results()
    console = notes(quiet=as_json)
    workflow = load_workflow(spec)
    async with Runtime(settings=absolute(settings), worker=False) as looking:
        open_runs = await looking.runs(status=("running", "waiting"))
        if run_id is not None:
            open_runs = [await looking.get(run_id)]
    code = (workflow.name, workflow.version)
    names = sorted({(run.workflow, run.version) for run in open_runs})
    if other := [name for name in names if name != code]:
        console.print(f"not of this workflow, left alone: {other}; give --workflow")
    mine = [run.id for run in open_runs if (run.workflow, run.version) == code]
    if not mine:
        console.print("nothing to resume")
        return 0
    worst = 0
    async with opened(settings, [workflow], console) as runtime:
        for one in mine:
            seen = len(await (await runtime.get(one)).recorded())
            try:
                run = await runtime.resume(one)
            except NewerEvent as error:
                console.print(str(error), markup=False)
                worst = 1
                continue
            worst = max(worst, await watched(run, as_json=as_json, since=seen))
    return worst


async def watched(run: Run, *, as_json: bool, since: int = 0) -> int:
    """Show a run until it ends, print its answer, and return the command's exit status.

    An interrupt leaves the run as its journal has it; and so does what parks it, by an event after
    offset `since`.
    """
    console = notes(quiet=as_json)
    me = asyncio.current_task()
    assert me is not None
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def interrupt() -> None:
        stopped.set()
        me.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        console.print(f"run {run.id}")
        events = to_rest(run, since=since)
        progress = await follow(events, f"run {run.id}", console, quiet=as_json)
        if not progress.ending.is_final:
            if as_json:
                show_json({"run": run.id, "status": await run.status()})
            console.print(f"parked; it waits for you to choose: crew show {run.id}")
            return 1
        output = await run.result()
    except asyncio.CancelledError:
        if not stopped.is_set():
            raise
        me.uncancel()
        console.print(f"stopped; nothing is lost. Go on with: crew resume {run.id}")
        return DETACHED
    except (RunFailed, RunCancelled) as error:
        if as_json:
            show_json({"run": run.id, "status": await run.status(), "error": str(error)})
        console.print(f"{error}\nlook at it with: crew show {run.id}")
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    if as_json:
        show_json(await summary(run, output))
        return 0
    show(progress.text or text_of(output))
    await _footer(run, output, console)
    return 0


async def summary(run: Run, output: Any) -> dict[str, Any]:
    """Return a finished run as JSON: its output, usage, and the processes its agents ran in."""
    events = await run.recorded()
    return {
        "run": run.id,
        "workflow": run.workflow,
        "thread": run.thread,
        "status": await run.status(),
        "output": output.model_dump(mode="json") if isinstance(output, BaseModel) else output,
        "usage": await run.usage(),
        "agents": placed(events),
    }


def placed(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return where each agent call ran, in the order of their starts."""
    return [asdict(start) for start in folded(events, Agents()).starts]


def input_of(workflow: Workflow, question: str, settings: Settings) -> Any:
    """Return a workflow's input for a line of text.

    Raises:
        InputInvalid: its input is not text, and has no field `text`.
    """
    if workflow.input is str:
        return question
    fields = getattr(workflow.input, "model_fields", {})
    if "text" not in fields:
        raise InputInvalid(
            message=f"workflow {workflow.name!r} takes {workflow.input}, not text; start it from "
            "Python with runtime.start(…)"
        )
    value = {"text": question}
    if "docs" in fields and settings.docs:
        value["docs"] = _folder(settings.docs)
    return value


async def index_folder(folder: str, *, as_json: bool) -> int:
    """Bring a folder's search index up to date."""
    from crew.tool.search import Index

    results()
    refreshed = await Index(_folder(folder)).refresh()
    if as_json:
        show_json(asdict(refreshed))
    else:
        show(f"{folder}: {refreshed.files} files, {refreshed.passages} passages")
        notes().print(f'ask them with: crew ask "…" --docs {folder}')
    return 0


async def pull_weights(name: str, *, as_json: bool) -> int:
    """Fetch weights, with a bar."""
    results()
    console = notes(quiet=as_json)
    path = await prepare_weights(replace(Settings(), model=name), console)
    if as_json:
        show_json({"path": str(path), "size_bytes": path.stat().st_size})
    else:
        show(str(path))
    return 0


def text_of(output: Any) -> str:
    """Return what a person reads of an output: a text, its field `text`, or its JSON."""
    return read_by_people(to_jsonable_python(output, inf_nan_mode="strings"))


def _folder(given: str) -> str:
    path = Path(given)
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise InputInvalid(message=f"{given} {what}; give the folder of your documents: --docs DIR")
    return str(path.absolute())


def _typed() -> str:
    sys.stderr.write("> ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


async def _footer(run: Run, output: Any, console: Any) -> None:
    usage = await run.usage()
    if sources := getattr(output, "sources", None):
        console.print(f"sources: {', '.join(sources)}")
    money = f" · {money_text(usage['money'])}" if usage.get("money") else ""
    console.print(
        f"run {run.id} · {usage.get('calls', 0)} model calls · {tokens_in(usage)} tokens{money}"
    )
    console.print(f"look at it with: crew show {run.id}")
