"""LangGraph: a graph that is killed when `steps` are finished, and resumed in a fresh process.

    langgraph_resume.py FOLDER STEPS write|resume

As durable as ours: SqliteSaver with its WAL and synchronous=FULL, durability="sync".
"""

import json
import os
import sqlite3
import sys
import time
from typing import TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, StateGraph

folder, steps, phase = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class State(TypedDict):
    n: int


def count(state: State) -> State:
    if state["n"] == steps:
        if phase == "resume":
            print(json.dumps({"ms": 1e3 * (time.perf_counter() - began)}), flush=True)
            os._exit(0)
        print("ready", flush=True)
        time.sleep(60)
    return {"n": state["n"] + 1}


graph = StateGraph(State)
graph.add_node("count", count)
graph.set_entry_point("count")
graph.add_conditional_edges("count", lambda state: END if state["n"] > steps else "count")
began = time.perf_counter()
db = sqlite3.connect(f"{folder}/langgraph.db", check_same_thread=False)
db.execute("PRAGMA synchronous = FULL")
app = graph.compile(checkpointer=SqliteSaver(db))
config = {"configurable": {"thread_id": "t"}, "recursion_limit": 2 * steps + 10}
app.invoke({"n": 0} if phase == "write" else None, config, durability="sync")
