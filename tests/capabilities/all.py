"""Every capability, by its name."""

from tests.capabilities import (
    answers,
    conversations,
    delegation,
    durability,
    graphs,
    models,
    people,
    positions,
    tools,
)
from tests.capabilities.capability import ALL

__all__ = [
    "ALL",
    "answers",
    "conversations",
    "delegation",
    "durability",
    "graphs",
    "models",
    "people",
    "positions",
    "tools",
]
