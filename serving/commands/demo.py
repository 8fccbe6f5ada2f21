"""`crew demo`: three acts on Ray, played with the embedded model over the project's documents."""

import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.rule import Rule

from crew.config import Settings
from crew.errors import CrewError
from crew.fold import Agents, Event, Steps, Tally, fold, folded
from crew.graph import Workflow
from crew.run import Run, Runtime
from serving.commands.asking import input_of, placed, text_of
from serving.commands.opening import opened
from serving.commands.output import notes, results, show, show_json
from serving.commands.screen import follow
from serving.gallery import load_workflow

FIRST = "How many idle Ray actors of 47 MB each fit into 8 GB of memory?"
KILLED = "What happens to an actor's state when Ray restarts it?"
SECOND = "And how many would fit into twice that memory?"
VICTIM = "searcher"


async def play(settings: Settings, *, as_json: bool) -> int:
    """Play the acts; the exit status is 0 only if each did what it says."""
    results()
    console = notes(quiet=as_json)
    await _offer_local_servers(settings, console)
    with tempfile.TemporaryDirectory(prefix="crew-demo-") as folder:
        store = settings.store if os.environ.get("CREW_STORE") else f"sqlite:///{folder}/demo.db"
        settings = replace(settings, agents="ray", store=store)
        workflow = load_workflow("research")
        async with opened(settings, [workflow], console, alone=True) as runtime:
            acts = await _acts(runtime, workflow, settings, console)
    if as_json:
        show_json(acts)
    _print(console, 'That was it. Your turn: crew ask "…" --docs FOLDER, or crew serve')
    return 0


async def _acts(
    runtime: Runtime, workflow: Workflow, settings: Settings, console: Console
) -> list[dict[str, Any]]:
    thread = f"demo-{secrets.token_hex(3)}"
    acts = []

    async def start(question: str, on: str | None) -> Run:
        _print(console, f"> {question}")
        return await runtime.start(workflow, input_of(workflow, question, settings), thread=on)

    console.print(Rule("Act 1: a crew answers from documents, a number included"))
    acts.append(await _watched(await start(FIRST, thread), console))

    console.print(Rule(f"Act 2: the {VICTIM}'s host is killed in the middle of a run"))
    run = await start(KILLED, None)
    killer = _Killer(run)
    acts.append(await _watched(run, console, killer.watching()))
    line = await killer.report()
    _print(console, line)
    acts[-1]["act"] = line

    console.print(Rule("Act 3: a question that needs the first"))
    acts.append(await _watched(await start(SECOND, thread), console))
    return acts


class _Killer:
    """Follows a run, kills one agent's host in the middle of it, and says what that cost."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.recorded_before = 0
        self.killed: int | None = None

    async def watching(self) -> AsyncIterator[Event]:
        agents, steps = Agents(), Steps()
        async for event in self._run.events():
            fold([event], agents, steps)
            yield event
            places = [start.pid for start in agents.starts if start.agent == VICTIM]
            works = any(f"/{VICTIM}/" in it.path for it in steps.under_way() if it.kind == "model")
            if works and self.killed is None and places:
                states = [activity.state for activity in steps.all.values()]
                self.recorded_before, self.killed = states.count("completed"), places[-1]
                os.kill(self.killed, signal.SIGKILL)

    async def report(self) -> str:
        """Return what the kill cost, as the journal has it.

        Raises:
            CrewError: nothing was killed, or something recorded was done again.
        """
        if self.killed is None:
            raise CrewError(message=f"no {VICTIM} was at work, so there was nothing to kill")
        tally = folded(await self._run.recorded(), Tally())
        line = (
            f"host killed · {self.recorded_before} calls from the journal · "
            f"{tally.repeated} repeated"
        )
        if tally.repeated:
            raise CrewError(message=line)
        return f"{line} ({tally.in_flight} in flight at the kill, made again)"


async def _watched(
    run: Run, console: Console, events: AsyncIterator[Event] | None = None
) -> dict[str, Any]:
    await follow(events or run.events(), f"run {run.id}", console, quiet=console.quiet)
    output = await run.result()
    if not console.quiet:
        show(text_of(output))
    where = placed(await run.recorded())
    _print(console, f"run {run.id}; where each agent ran (this command is process {os.getpid()}):")
    for line in sorted({f"  {a['agent']:<10} {a['host']} process {a['pid']}" for a in where}):
        _print(console, line)
    return {
        "run": run.id,
        "answer": text_of(output),
        "sources": list(getattr(output, "sources", [])),
        "agents": where,
    }


async def _offer_local_servers(settings: Settings, console: Console) -> None:
    """Name a model server that runs here; it is never called unasked."""
    from crew.llm.discovery import find_local_endpoints

    if settings.default.base_url:
        return
    for found in await find_local_endpoints():
        _print(
            console,
            f"a model server runs here; to use it: CREW_BASE_URL={found.base_url} "
            f"CREW_MODEL={found.model} crew demo",
        )


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False)
