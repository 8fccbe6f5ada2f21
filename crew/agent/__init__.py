"""Agents: their definition, their loop of model and tools, and the text they pass on."""

from crew.agent.agent import Agent, AgentResult, WithModel

__all__ = ["Agent", "AgentResult", "WithModel"]
