"""LangGraph: `turns` turns of a chat, 400 bytes asked and 400 answered, on one thread.

The documented way to keep a conversation: MessagesState and a checkpointer. As durable as ours:
SqliteSaver with its WAL and synchronous=FULL, durability="sync".
"""

import json
import sqlite3
import sys
import time
from pathlib import Path

from langchain_core.messages import AIMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from words import said

folder, turns = sys.argv[1], int(sys.argv[2])


def answer(state: MessagesState) -> dict:
    return {"messages": [AIMessage(said("assistant", len(state["messages"])))]}


graph = StateGraph(MessagesState)
graph.add_node("answer", answer)
graph.add_edge(START, "answer")
db = sqlite3.connect(f"{folder}/langgraph.db", check_same_thread=False)
db.execute("PRAGMA synchronous = FULL")
app = graph.compile(checkpointer=SqliteSaver(db))
config = {"configurable": {"thread_id": "t"}}
seconds = []
for turn in range(turns):
    began = time.perf_counter()
    app.invoke({"messages": [("user", said("user", turn))]}, config, durability="sync")
    seconds.append((time.perf_counter() - began, 0))
db.close()
left = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
print(json.dumps({"bytes": left, "turns": seconds}))
