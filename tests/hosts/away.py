"""A program whose hosts are on other nodes; it says where, and waits until one is killed.

python -m tests.hosts.away sqlite:///runs.db gate
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from crew import Resources, Runtime
from crew.hosts.cluster import ray_module
from tests.hosts.journal import Calls
from tests.hosts.kills import NAME, answer_to, asking, gates, problems, questions
from tests.hosts.victims import Victim, end_all, host

TASKS = 50
MOST_SECONDS = 240.0
AGENT = Resources(cpu=1)
SAYS = "says: "
"""How lines begin that are this program's: Ray prints others."""


async def run_away(runtime: Runtime, gate: Path) -> list[str]:
    """Print where the hosts of a run are once half of it is done, and return what is wrong with it.

    Goes on when a line is there to be read.
    """
    flow, asked = asking(AGENT), questions(gate, TASKS)
    await (await runtime.start(flow, [])).result()
    filled = await asyncio.to_thread(filler, await host("run", NAME))
    run = await runtime.start(flow, asked)
    calls = Calls(runtime.store, run.id)
    await calls.until(lambda: calls.begun("model") == TASKS)
    ray_module().kill(filled)
    first, rest = gates(gate)
    first.touch()
    await calls.until(lambda: calls.begun("model") == TASKS // 2)
    where = {kind: (await host(kind, NAME)).node for kind in ("agent", "run")}
    say(where)
    await asyncio.to_thread(sys.stdin.readline)
    rest.touch()
    answers = await run.result()
    wrong = [] if answers == [answer_to(question) for question in asked] else ["its answers"]
    return wrong + problems(calls, TASKS)


def filler(beside: Victim) -> Any:
    """Return an actor that takes the room beside a host, so that the next one goes elsewhere."""
    ray = ray_module()
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(beside.node_id, soft=False)
    actor = ray.remote(num_cpus=2.5)(Filler).options(scheduling_strategy=here).remote()
    ray.get(actor.wait.remote())
    return actor


class Filler:
    def wait(self) -> None:
        """Be there."""


def say(what: Any) -> None:
    print(f"{SAYS}{json.dumps(what)}", flush=True)


async def main(url: str, gate: Path) -> list[str]:
    try:
        async with asyncio.timeout(MOST_SECONDS), Runtime(url, agents="ray") as runtime:
            try:
                return await run_away(runtime, gate)
            finally:
                await asyncio.to_thread(end_all)
    except TimeoutError:
        return [f"it did not end within {MOST_SECONDS:.0f} s"]


if __name__ == "__main__":
    say(asyncio.run(main(sys.argv[1], Path(sys.argv[2]))))
