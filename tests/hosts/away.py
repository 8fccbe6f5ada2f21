"""A program whose hosts are on other nodes; it says where, and waits until one is killed.

python -m tests.hosts.away sqlite:///runs.db gate
"""

import asyncio
import json
import sys
from pathlib import Path

from crew import Resources, Runtime
from tests.hosts.journal import Calls
from tests.hosts.kills import NAME, answer_to, asking, gates, problems, questions
from tests.hosts.victims import end_all, host

TASKS = 50
MOST_SECONDS = 240.0
AGENT = Resources(cpu=2)
"""More than half of a node, so that Ray does not put it beside the run host."""


async def run_away(runtime: Runtime, gate: Path) -> list[str]:
    """Print where the hosts of a run are once half of it is done, and return what is wrong with it.

    Goes on when a line is there to be read.
    """
    asked = questions(gate, TASKS)
    run = await runtime.start(asking(AGENT), asked)
    calls = Calls(runtime.store, run.id)
    await calls.until(lambda: calls.begun("model") == TASKS)
    first, rest = gates(gate)
    first.touch()
    await calls.until(lambda: calls.begun("model") == TASKS // 2)
    where = {kind: (await host(kind, NAME)).node for kind in ("agent", "run")}
    print(json.dumps(where), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    rest.touch()
    answers = await run.result()
    wrong = [] if answers == [answer_to(question) for question in asked] else ["its answers"]
    return wrong + problems(calls, TASKS)


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
    print(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2])))), flush=True)
