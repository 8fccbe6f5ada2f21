"""Where a run stands, and the commands that follow from it: what the engine reads and returns."""

from dataclasses import field
from typing import NamedTuple

from crew.define import define, frozen
from crew.event import Failure, RunStarted
from crew.message import Json

ROOT = 0


# One is made for each step: a tuple costs a third of a frozen dataclass.
class RunStep(NamedTuple):
    """Execute a node, after a failed attempt not before `until` (unix seconds)."""

    path: str
    node: str
    value: Json
    attempt: int = 1
    until: float = 0.0


@frozen
class CancelStep:
    """Stop a step whose result no longer matters."""

    path: str


@frozen
class WaitForQuorum:
    """Fire the join after `seconds`, unless the rest arrives before.

    `until` is when that is, in unix seconds, if it is on record.
    """

    path: str
    scope: int
    seconds: float
    until: float = 0.0


@frozen
class Finish:
    """The run has its output."""

    output: Json


@frozen
class Fail:
    """The run cannot get an output any more."""

    error: Failure


Command = RunStep | CancelStep | WaitForQuorum | Finish | Fail


@define
class Token:
    """A value on its way: its type's name, encoded, with its place among its fan-out's items."""

    type: str
    value: Json
    scope: int
    place: tuple[int, ...]
    depth: int = 0


@define
class Step:
    """One firing of a node that has not completed."""

    path: str
    node: str
    token: Token
    attempt: int = 1
    until: float = 0.0
    sees: dict[str, Json] | None = None
    """What all steps shared when this attempt first began; nobody changes it."""


@define
class Scope:
    """One fan-out: how many of its tokens are live, and what has arrived at its joins."""

    parent: int
    token: Token
    producer: str
    size: int
    live: int
    arrived: dict[str, list[tuple[tuple[int, ...], int, Token]]] = field(default_factory=dict)
    quorum: WaitForQuorum | None = None


@define
class RunState:
    """The fold of a run's events."""

    started: RunStarted | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    completed: int = 0
    scopes: dict[int, Scope] = field(default_factory=dict)
    next_scope: int = 1
    root_live: int = 0
    firings: dict[tuple[int, ...], dict[str, int]] = field(default_factory=dict)
    """How often each node fired, by place. A place inside a scope that is settled is forgotten,
    but for the most that any node fired there: `settled`."""
    settled: dict[tuple[int, ...], int] = field(default_factory=dict)
    let_go: set[str] = field(default_factory=set)
    """Steps that a quorum cancelled: what they still write changes nothing."""
    shared: dict[str, Json] = field(default_factory=dict)
    """The fields of the run's state that were patched; another dict with each patch."""
    outcome: Finish | Fail | None = None
    """What ends the run, from when it is known until it is recorded."""
