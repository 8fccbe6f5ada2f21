"""Teams of LLM agents that do not lose work.

An agent, a workflow, and the runtime that keeps them:

    from crew import Agent, Graph, Runtime, tool, workflow
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crew.budget import Budget
from crew.context import Context
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
from crew.event import Event
from crew.hosts import Resources
from crew.message import Message, ToolCall, Usage
from crew.node import Append, Quorum
from crew.retry import Retry
from crew.run import Graph, Run, Runtime, workflow
from crew.tool import Tool, tool

if TYPE_CHECKING:
    from crew.agent import Agent, AgentResult

# Agents load when first used: a workflow of plain functions needs none. The decorator `tool` may
# not wait: importing the package `crew.tool` later would put the package in its place.
_LATER = {"Agent": "crew.agent", "AgentResult": "crew.agent"}

__all__ = [
    "Agent",
    "AgentResult",
    "Append",
    "AskError",
    "Budget",
    "BudgetExceeded",
    "Context",
    "CrewError",
    "Diverged",
    "EffectUnknown",
    "Event",
    "ExtraMissing",
    "Fenced",
    "Graph",
    "GraphError",
    "InputInvalid",
    "KeyReused",
    "Message",
    "ModelError",
    "NoOutput",
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


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'crew' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
