"""A run's folded state as JSON: what spares a worker that takes the run over the whole fold."""

from dataclasses import astuple

from crew.event import from_data, to_data
from crew.graph import Workflow
from crew.graph.state import RunState, Scope, Step, Token, WaitForQuorum
from crew.message import Json

FORMAT = 8
"""Raised when the engine or this module changes what a state means."""


def snapshot_version(workflow: Workflow) -> str:
    """Return the name of what can read a snapshot: this format, and a graph of this shape."""
    return f"{FORMAT}:{workflow.shape_hash()}"


def size_of(state: RunState) -> int:
    """Return about how many things are live in a state."""
    arrived = sum(len(item) for scope in state.scopes.values() for item in scope.arrived.values())
    return len(state.steps) + arrived + len(state.firings)


def state_to_data(state: RunState) -> dict[str, Json]:
    """Return a run's state as JSON; of what is `shared` as it is now, then as steps see it."""
    seen = [step.sees for step in state.steps.values() if step.sees is not None]
    shared = {id(each): each for each in (state.shared, *seen)}
    numbers = {one: number for number, one in enumerate(shared)}
    return {
        "started": to_data(state.started) if state.started else None,
        "steps": [
            [s.path, s.node, _token(s.token), s.attempt, s.until, numbers.get(id(s.sees))]
            for s in state.steps.values()
        ],
        "completed": state.completed,
        "scopes": [[number, _scope(scope)] for number, scope in state.scopes.items()],
        "next_scope": state.next_scope,
        "root_live": state.root_live,
        "firings": [[list(place), fired] for place, fired in state.firings.items()],
        "settled": [[list(place), most] for place, most in state.settled.items()],
        "let_go": sorted(state.let_go),
        "shared": list(shared.values()),
    }


def state_from(data: dict[str, Json]) -> RunState:
    """Return the state that `state_to_data` described."""
    steps = [
        Step(
            path,
            node,
            _token_from(token),
            attempt,
            until,
            None if number is None else data["shared"][number],
        )
        for path, node, token, attempt, until, number in data["steps"]
    ]
    started = data["started"]
    return RunState(
        started=from_data("run.started", "", started) if started else None,  # type: ignore[arg-type]
        steps={step.path: step for step in steps},
        completed=data["completed"],
        scopes={number: _scope_from(scope) for number, scope in data["scopes"]},
        next_scope=data["next_scope"],
        root_live=data["root_live"],
        firings={tuple(place): fired for place, fired in data["firings"]},
        settled={tuple(place): most for place, most in data["settled"]},
        let_go=set(data["let_go"]),
        shared=data["shared"][0],
    )


def _token(token: Token) -> list[Json]:
    return [token.type, token.value, token.scope, list(token.place), token.depth]


def _token_from(data: list[Json]) -> Token:
    kind, value, scope, place, depth = data
    return Token(kind, value, scope, tuple(place), depth)


def _scope(scope: Scope) -> dict[str, Json]:
    arrived = {
        name: [[list(place), order, _token(token)] for place, order, token in items]
        for name, items in scope.arrived.items()
    }
    return {
        "parent": scope.parent,
        "token": _token(scope.token),
        "producer": scope.producer,
        "size": scope.size,
        "live": scope.live,
        "arrived": arrived,
        "quorum": scope.quorum and astuple(scope.quorum),
    }


def _scope_from(data: dict[str, Json]) -> Scope:
    arrived = {
        name: [(tuple(place), order, _token_from(token)) for place, order, token in items]
        for name, items in data["arrived"].items()
    }
    return Scope(
        parent=data["parent"],
        token=_token_from(data["token"]),
        producer=data["producer"],
        size=data["size"],
        live=data["live"],
        arrived=arrived,
        quorum=data["quorum"] and WaitForQuorum(*data["quorum"]),
    )
