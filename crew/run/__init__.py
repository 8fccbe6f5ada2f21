"""Runs: starting them, driving them, and following them."""

from crew.run.definition import Graph, workflow
from crew.run.handle import Asked, Question, Run
from crew.run.runtime import Runtime
from crew.run.tenant import Tenant

__all__ = ["Asked", "Graph", "Question", "Run", "Runtime", "Tenant", "workflow"]
