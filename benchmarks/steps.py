"""A durable no-op step, beside LangGraph's: a loop of steps, one process a peer, interleaved.

Both write to SQLite in WAL mode with `synchronous=FULL`; LangGraph runs with durability="sync".
Only the ratio is to be trusted: these machines are shared.

    make bench
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 200
ROUNDS = 5

OURS = """
import asyncio, json, sys, time
from pydantic import BaseModel
from crew import Graph, Runtime

class Count(BaseModel):
    n: int

class Done(BaseModel):
    n: int

steps = int(sys.argv[2])
loop = Graph("loop", input=Count, output=Done, max_steps=10 * steps)

@loop.node
async def count(value: Count) -> Count | Done:
    return Done(n=value.n) if value.n + 1 >= steps else Count(n=value.n + 1)

async def main():
    async with Runtime(f"sqlite:///{sys.argv[1]}/ours.db") as runtime:
        await (await runtime.start(loop, Count(n=0))).result()
        began, cpu = time.perf_counter(), time.process_time()
        await (await runtime.start(loop, Count(n=0))).result()
        print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))

asyncio.run(main())
"""

LANGGRAPH = """
import json, sqlite3, sys, time
from typing import TypedDict
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, StateGraph

class State(TypedDict):
    n: int

steps = int(sys.argv[2])
graph = StateGraph(State)
graph.add_node("count", lambda state: {"n": state["n"] + 1})
graph.set_entry_point("count")
graph.add_conditional_edges("count", lambda state: END if state["n"] >= steps else "count")
db = sqlite3.connect(f"{sys.argv[1]}/langgraph.db", check_same_thread=False)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
app = graph.compile(checkpointer=SqliteSaver(db))

def run(thread):
    config = {"configurable": {"thread_id": thread}, "recursion_limit": 10 * steps}
    app.invoke({"n": 0}, config, durability="sync")

run("warm")
began, cpu = time.perf_counter(), time.process_time()
run("counted")
print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))
"""


def measure(python: str, code: str, steps: int) -> tuple[float, float]:
    """Return wall and processor time of one step, in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-c", code, folder, str(steps)], capture_output=True, text=True, check=True
        )
    wall, cpu = json.loads(done.stdout)
    return 1e6 * wall / steps, 1e6 * cpu / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", required=True, help="a Python that has LangGraph")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    peers = {
        "crew": (sys.executable, OURS),
        "langgraph": (str(Path(options.peer_python).absolute()), LANGGRAPH),
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(options.rounds):
        for name, (python, code) in peers.items():
            figures[name].append(measure(python, code, options.steps))
    print(f"a durable no-op step, loop of {options.steps}, {options.rounds} interleaved rounds")
    print(f"{'':<10} {'wall us: min':>13} {'median':>8} {'cpu us: min':>13} {'median':>8}")
    for name, pairs in figures.items():
        walls, cpus = zip(*pairs, strict=True)
        row = (min(walls), statistics.median(walls), min(cpus), statistics.median(cpus))
        print(f"{name:<10} {row[0]:>13.0f} {row[1]:>8.0f} {row[2]:>13.0f} {row[3]:>8.0f}")
    ratios = [
        ours[0] / peer[0] for ours, peer in zip(figures["crew"], figures["langgraph"], strict=True)
    ]
    print(f"crew / langgraph, wall, pair by pair: {', '.join(f'1/{1 / r:.0f}' for r in ratios)}")
    wanted = statistics.median(ratios) <= 0.1
    print(f"wanted: at most 1/10 — {'reached' if wanted else 'NOT reached'}")
    sys.exit(not wanted)


if __name__ == "__main__":
    main()
