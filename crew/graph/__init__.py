"""Graphs: what a workflow is made of, and the pure engine that says what runs next."""

from crew.graph.workflow import Workflow

__all__ = ["Workflow"]
