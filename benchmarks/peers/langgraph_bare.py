"""LangGraph: import what a durable graph needs, and nothing else."""

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import StateGraph

assert SqliteSaver
assert StateGraph
