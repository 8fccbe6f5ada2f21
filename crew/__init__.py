"""Teams of LLM agents that do not lose work.

An agent, a workflow, and the runtime that keeps them:

    from crew import Agent, Graph, Runtime, tool, workflow
"""

from typing import TYPE_CHECKING

from crew.errors import (
    AskError,
    BudgetExceeded,
    CrewError,
    Diverged,
    EffectUnknown,
    ExtraMissing,
    Fenced,
    GraphError,
    InputInvalid,
    KeyReused,
    ModelError,
    NewerEvent,
    NoOutput,
    OutputInvalid,
    RunCancelled,
    RunError,
    RunFailed,
    RunNotFound,
    SandboxUnavailable,
    SettingsInvalid,
    StepLimit,
    StepTimeout,
    StoreError,
    ThreadBusy,
    ToolError,
)
from crew.later import loading
from crew.tool import Tool, tool

if TYPE_CHECKING:
    from crew.agent import Agent, AgentResult
    from crew.agent.history import History
    from crew.budget import Budget, BudgetLeft
    from crew.call.context import Context
    from crew.content import File, Image
    from crew.event import Event
    from crew.fold import Span
    from crew.graph.node import Append, Quorum
    from crew.graph.retry import Retry
    from crew.hosts import Resources
    from crew.journal.notes import Note
    from crew.llm.client import OpenAIModel
    from crew.llm.fallback import Fallback
    from crew.llm.settings import ModelSettings
    from crew.mcp import MCP
    from crew.message import Message, ToolCall, Usage
    from crew.run import Graph, Run, Runtime, workflow
    from crew.run.batch import Batch, Outcome

# What is not named is not loaded. The errors may not wait, since anything may raise them; nor may
# the decorator `tool`: importing the package `crew.tool` later would put that in its place.
_LATER = {
    "Agent": "crew.agent",
    "AgentResult": "crew.agent",
    "Append": "crew.graph.node",
    "Batch": "crew.run.batch",
    "Budget": "crew.budget",
    "BudgetLeft": "crew.budget",
    "Context": "crew.call.context",
    "Event": "crew.event",
    "Fallback": "crew.llm.fallback",
    "File": "crew.content",
    "Graph": "crew.run",
    "History": "crew.agent.history",
    "Image": "crew.content",
    "MCP": "crew.mcp",
    "Message": "crew.message",
    "ModelSettings": "crew.llm.settings",
    "Note": "crew.journal.notes",
    "OpenAIModel": "crew.llm.client",
    "Outcome": "crew.run.batch",
    "Quorum": "crew.graph.node",
    "Resources": "crew.hosts",
    "Retry": "crew.graph.retry",
    "Run": "crew.run",
    "Runtime": "crew.run",
    "Span": "crew.fold",
    "ToolCall": "crew.message",
    "Usage": "crew.message",
    "workflow": "crew.run",
}

__all__ = [
    "MCP",
    "Agent",
    "AgentResult",
    "Append",
    "AskError",
    "Batch",
    "Budget",
    "BudgetExceeded",
    "BudgetLeft",
    "Context",
    "CrewError",
    "Diverged",
    "EffectUnknown",
    "Event",
    "ExtraMissing",
    "Fallback",
    "Fenced",
    "File",
    "Graph",
    "GraphError",
    "History",
    "Image",
    "InputInvalid",
    "KeyReused",
    "Message",
    "ModelError",
    "ModelSettings",
    "NewerEvent",
    "NoOutput",
    "Note",
    "OpenAIModel",
    "Outcome",
    "OutputInvalid",
    "Quorum",
    "Resources",
    "Retry",
    "Run",
    "RunCancelled",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "Runtime",
    "SandboxUnavailable",
    "SettingsInvalid",
    "Span",
    "StepLimit",
    "StepTimeout",
    "StoreError",
    "ThreadBusy",
    "Tool",
    "ToolCall",
    "ToolError",
    "Usage",
    "tool",
    "workflow",
]


__getattr__ = loading(__name__, _LATER)


def __dir__() -> list[str]:
    return __all__
