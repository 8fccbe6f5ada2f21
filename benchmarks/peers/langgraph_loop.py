"""LangGraph: a loop of no-op steps, `runs` at once.

As durable as ours: SqliteSaver sets WAL and leaves synchronous at FULL, and durability="sync"
writes each step before the next one. `threads` calls `invoke` from one thread a run (the saver
locks its one connection), `async` gathers `ainvoke` on AsyncSqliteSaver.
"""

import asyncio
import json
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, StateGraph

folder, steps, runs, way = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


class State(TypedDict):
    n: int


async def count_later(state: State) -> State:
    return {"n": state["n"] + 1}


def count(state: State) -> State:
    return {"n": state["n"] + 1}


def graph_of(node) -> StateGraph:
    graph = StateGraph(State)
    graph.add_node("count", node)
    graph.set_entry_point("count")
    graph.add_conditional_edges("count", lambda state: END if state["n"] >= steps else "count")
    return graph


def config(thread: str) -> dict:
    return {"configurable": {"thread_id": thread}, "recursion_limit": 10 * steps}


def by_threads() -> tuple[float, float]:
    db = sqlite3.connect(f"{folder}/langgraph.db", check_same_thread=False)
    db.execute("PRAGMA synchronous = FULL")
    app = graph_of(count).compile(checkpointer=SqliteSaver(db))

    def run(thread: int) -> None:
        app.invoke({"n": 0}, config(str(thread)), durability="sync")

    run(-1)
    began, cpu = time.perf_counter(), time.process_time()
    if runs == 1:
        run(0)
    else:
        with ThreadPoolExecutor(runs) as pool:
            list(pool.map(run, range(runs)))
    return time.perf_counter() - began, time.process_time() - cpu


async def by_tasks() -> tuple[float, float]:
    async with AsyncSqliteSaver.from_conn_string(f"{folder}/langgraph.db") as saver:
        app = graph_of(count_later).compile(checkpointer=saver)

        async def run(thread: int) -> None:
            await app.ainvoke({"n": 0}, config(str(thread)), durability="sync")

        await run(-1)
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(run(thread) for thread in range(runs)))
        return time.perf_counter() - began, time.process_time() - cpu


wall, cpu = by_threads() if way == "threads" else asyncio.run(by_tasks())
per_step = 1e6 / (steps * runs)
print(json.dumps({"wall": wall * per_step, "cpu": cpu * per_step}))
