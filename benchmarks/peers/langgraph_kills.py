"""LangGraph: the same research-shaped runs, each a thread that the next process goes on with.

    langgraph_kills.py FOLDER URL RUNS AT_ONCE

As durable as ours: SqliteSaver with its WAL and synchronous=FULL, durability="sync". One at a time.
"""

import json
import operator
import sqlite3
import sys
import urllib.request
from typing import Annotated, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

folder, url, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])


class State(TypedDict, total=False):
    text: str
    said: str
    found: Annotated[list, operator.add]
    answer: str


def call(text: str) -> str:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    request = urllib.request.Request(
        f"{url}/chat/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]


def plan(state: State) -> State:
    return {"said": call(f"plan {state['text']}")}


def spread(state: State) -> list[Send]:
    return [Send("look_up", {"text": f"{state['text']} {n} {state['said'][:5]}"}) for n in range(8)]


def look_up(state: State) -> State:
    return {"found": [call(f"search {state['text']}")]}


def summarise(state: State) -> State:
    return {"answer": call(f"sum {len(state['found'])} {state['found'][0]}")}


graph = StateGraph(State)
graph.add_node("plan", plan)
graph.add_node("look_up", look_up)
graph.add_node("summarise", summarise)
graph.add_edge(START, "plan")
graph.add_conditional_edges("plan", spread, ["look_up"])
graph.add_edge("look_up", "summarise")
graph.add_edge("summarise", END)
db = sqlite3.connect(f"{folder}/langgraph.db", check_same_thread=False)
db.execute("PRAGMA synchronous = FULL")
app = graph.compile(checkpointer=SqliteSaver(db))
for number in range(runs):
    config = {"configurable": {"thread_id": str(number)}, "max_concurrency": 2}
    state = app.get_state(config)
    if state.values.get("answer"):
        continue
    app.invoke(None if state.values else {"text": f"q{number}"}, config, durability="sync")
