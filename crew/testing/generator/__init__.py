"""Random programs of journalled calls, and whether they survive a stop after every event."""

import random
from typing import NamedTuple

from crew.graph import Workflow
from crew.testing.generator.branch import Start
from crew.testing.generator.grow import grow
from crew.testing.generator.interpret import workflow_of
from crew.testing.generator.tree import Tree


class Program(NamedTuple):
    """A workflow and its input."""

    workflow: Workflow
    input: Start


def programs(seed: int) -> Program:
    """Return a random program of journalled calls: a workflow and its input.

    The same seed gives the same program. It may ask for integers; its calls take a moment each.
    """
    return Program(workflow_of(tree_of(seed), f"program-{seed}"), Start())


def tree_of(seed: int, *, size: int = 9) -> Tree:
    """Return the tree of a program: what it does, as data."""
    return grow(random.Random(seed).randrange, size=size)  # noqa: S311  repeatable
