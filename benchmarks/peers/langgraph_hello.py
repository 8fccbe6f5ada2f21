"""LangGraph: a durable hello from nothing: a graph of one node on a new SQLite file.

As durable as ours: SqliteSaver with its WAL and synchronous=FULL, durability="sync".
"""

import sys
from typing import TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    text: str


def hello(state: State) -> State:
    return {"text": f"Hello, {state['text']}."}


with SqliteSaver.from_conn_string(f"{sys.argv[1]}/langgraph.db") as saver:
    graph = StateGraph(State)
    graph.add_node("hello", hello)
    graph.add_edge(START, "hello")
    graph.add_edge("hello", END)
    app = graph.compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "t"}}
    said = app.invoke({"text": "crew"}, config, durability="sync")
    assert said["text"] == "Hello, crew."
