"""Thousands of tasks are in flight, and their agent host dies, then their run host: as a table.

python -m tests.hosts.kills --times 20
CREW_LINK_PORTS=none python -m tests.hosts.kills --times 5
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from crew import Agent, Context, Resources, Runtime, workflow
from crew.graph import Workflow
from crew.hosts.cluster import quiet_cluster
from crew.testing import ScriptedModel
from tests.hosts.journal import Calls
from tests.hosts.victims import host

TASKS = 2_000
MOST_SECONDS = 400.0
NAME = "kills"
_ENDS = ("model.completed", "agent.completed")


class Held(ScriptedModel):
    """Answers once the file is there that a question names, which has a number behind it."""

    def __init__(self) -> None:
        super().__init__(lambda request: answer_to(request.messages[-1].text))
        self._gates: dict[str, asyncio.Task[None]] = {}

    async def complete(self, request, *, on_text=None):
        gate = request.messages[-1].text.split()[0]
        if gate not in self._gates:
            self._gates[gate] = asyncio.create_task(_there(gate))
        await asyncio.shield(self._gates[gate])
        return await super().complete(request, on_text=on_text)


async def _there(gate: str) -> None:
    while not Path(gate).exists():
        await asyncio.sleep(0.1)


def answer_to(question: str) -> str:
    return f"the answer to {question.split()[1]}"


def gates(name: Path) -> tuple[Path, Path]:
    """Return the files of which each opens the way to half of the answers."""
    return name.with_suffix(".first"), name.with_suffix(".rest")


def questions(name: Path, tasks: int) -> list[str]:
    return [f"{gates(name)[number % 2]} {number}" for number in range(tasks)]


def asking(resources: Resources | None = None) -> Workflow:
    agent = Agent("helper", model=Held(), resources=resources)

    @workflow(name=NAME)
    async def ask_all(ctx: Context, asked: list[str]) -> list[str]:
        return [result.output for result in await ctx.map(agent, asked)]

    return ask_all


@dataclass(slots=True)
class Killed:
    """What came of one run, and how many tasks were in flight when each of its hosts was killed."""

    agent_host: int = 0
    run_host: int = 0
    done: int = 0
    """How many had been answered when the run host was."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        flight = f"{self.agent_host:>12}{self.run_host:>12}{self.done:>10}{self.seconds:>9.0f}"
        return f"{flight}  {'; '.join(self.wrong) or 'right'}"


HEAD = f"{'agent host':>12}{'run host':>12}{'answered':>10}{'seconds':>9}"


async def kill_both(
    runtime: Runtime, workflow: Workflow, gate: Path, *, tasks: int, chance: random.Random
) -> Killed:
    """Kill the agent host of a run with all its tasks in flight, then, in mid-answer, the run host.

    Half of the tasks may be answered before the second kill, the others after it.

    Args:
        runtime: on Ray.
        workflow: as `asking` returns it.
        gate: how the names of files begin that are not there yet.
        tasks: how many.
        chance: decides how many are answered when the run host dies.
    """
    began, killed = time.monotonic(), Killed()
    (first, rest), asked = gates(gate), questions(gate, tasks)
    run = await runtime.start(workflow, asked)
    calls = Calls(runtime.store, run.id)

    await calls.until(lambda: calls.begun("model") == tasks)
    killed.agent_host, mark = len(calls.open["model"]), calls.offset
    (await host("agent", NAME)).kill()
    await calls.until(lambda: calls.begun("model", after=mark) == tasks)

    few = chance.randrange(1, tasks // 2)
    victim = await host("run", NAME)
    first.touch()
    await calls.until(lambda: len(calls.ends.get("model.completed", ())) >= few)
    victim.kill()
    calls.read()
    killed.run_host, killed.done = len(calls.open["model"]), tasks - len(calls.open["model"])
    takes = calls.takes
    rest.touch()

    answers = await run.result()
    killed.wrong += problems(calls, tasks)
    if not (killed.agent_host and killed.run_host):
        killed.wrong.append("a host was killed with nothing in flight")
    if calls.takes == takes:
        killed.wrong.append("nobody took the run after its host had died")
    if answers != [answer_to(question) for question in asked]:
        killed.wrong.append("the answers are not those to the questions")
    killed.seconds = time.monotonic() - began
    return killed


def problems(calls: Calls, tasks: int) -> list[str]:
    """Return what is wrong with what is on record of so many tasks: each ended, and once."""
    calls.read()
    found = []
    for kind in _ENDS:
        counts = Counter(calls.ends.get(kind, Counter()).values())
        if counts != {1: tasks}:
            found.append(f"{kind}, by how often it is recorded: {dict(counts)}")
    others = sorted(calls.ends.keys() - set(_ENDS))
    return found + [
        f"{calls.ends[kind].total()} {kind}"
        for kind in others
        if kind.startswith(("model.", "agent."))
    ]


async def kill_many(times: int, tasks: int, seed: int) -> list[Killed]:
    """Do so again and again on one cluster, which this process is connected to."""
    chance, killed = random.Random(seed), list[Killed]()
    with tempfile.TemporaryDirectory(prefix="crew-kills-") as folder:
        async with Runtime(f"sqlite:///{folder}/runs.db", agents="ray") as runtime:
            flow = asking()
            for number in range(times):
                gate = Path(folder) / f"gate-{number}"
                async with asyncio.timeout(MOST_SECONDS):
                    one = await kill_both(runtime, flow, gate, tasks=tasks, chance=chance)
                killed.append(one)
                print(one, flush=True)
    return killed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.kills", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"in flight at the death of the\n{HEAD}", flush=True)
    with quiet_cluster():
        killed = asyncio.run(kill_many(options.times, options.tasks, options.seed))
    wrong = sum(bool(one.wrong) for one in killed)
    print(f"{len(killed)} times, {wrong} wrong", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
