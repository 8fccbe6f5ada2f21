"""The engine: what an event changes in a run, and what is to be done next.

`apply` is the one place where a run moves. It reads no clock, draws no random number and does no
I/O, so that the same function runs a workflow live, folds its journal after a crash, and is tested
without an event loop. A graph is interpreted as tokens: a value of a type, at a place, in a scope.
A list that a node returns opens a scope; a join fires when its scope has no live token left.

The state is changed in place, for the speed of wide fan-outs; it belongs to one caller.

Source: coloured Petri nets (Jensen, 1981), with scopes in place of colours.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import assert_never

from crew.budget import NANOS, accounts_in, smaller
from crew.errors import Diverged
from crew.event import (
    AgentDrifted,
    AnswerRefused,
    BudgetGiven,
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallStarted,
    CallUnknown,
    Failure,
    ProgressMade,
    QuorumAwaited,
    QuorumReached,
    RunCompleted,
    RunDriven,
    RunEndedByCancel,
    RunEndedInFailure,
    RunEvent,
    RunForked,
    RunParked,
    RunStarted,
    RunTaken,
    StepCompleted,
    StepFailed,
    StepStarted,
    TextDiscarded,
    TextEmitted,
)
from crew.fold.paths import base_path
from crew.graph.node import Node
from crew.graph.state import (
    ROOT,
    CancelStep,
    Command,
    Fail,
    Finish,
    RunState,
    RunStep,
    Scope,
    Step,
    Token,
    WaitForQuorum,
)
from crew.graph.wiring import Wiring
from crew.message import Json


def apply(wiring: Wiring, state: RunState, event: RunEvent) -> list[Command]:
    """Change `state` by `event`, and return what is to be done next, in order."""
    commands = _apply(wiring, state, event)
    for command in commands:
        if isinstance(command, (Finish, Fail)) and state.outcome is None:
            state.outcome = command
    return commands


def _apply(wiring: Wiring, state: RunState, event: RunEvent) -> list[Command]:
    match event:
        # The two that come with every step are asked for first.
        case StepStarted(path=path):
            step = _step_of(wiring, state, path)
            if step is not None and step.sees is None:
                step.sees = state.shared
            return []
        case StepCompleted():
            return _complete(wiring, state, event)
        case RunStarted():
            state.started = event
            return _start(wiring, state, event)
        case StepFailed():
            return _fail(wiring, state, event)
        case QuorumReached(scope=scope):
            return _fire_early(wiring, state, scope)
        case QuorumAwaited(scope=scope, until=until):
            return _set_quorum(state, scope, until)
        case RunForked():
            state.started = _limited(state.started, event)
            return []
        case (
            BudgetGiven()
            | CallStarted()
            | CallCompleted()
            | CallFailed()
            | CallUnknown()
            | CallCancelled()
            | AnswerRefused()
            | AgentDrifted()
            | TextEmitted()
            | TextDiscarded()
            | ProgressMade()
            | RunTaken()
            | RunDriven()
            | RunParked()
            | RunCompleted()
            | RunEndedInFailure()
            | RunEndedByCancel()
        ):
            return []
        case _:
            assert_never(event)


def _limited(started: RunStarted | None, forked: RunForked) -> RunStarted:
    """Return how a run was started, with the limits of its fork beside its own."""
    assert started is not None  # a fork stands on its base's first event at least
    tokens, calls, money = forked.budget, forked.budget_calls, forked.budget_money
    above = accounts_in(started.above)
    for account in above:  # it draws on none of these, but has no more than they
        tokens, calls = smaller(tokens, account.tokens), smaller(calls, account.calls)
        if account.money is not None:
            money = smaller(money, account.money / NANOS)
    strict = started.budget_strict or any(account.strict for account in above)
    return replace(
        started,
        budget=smaller(started.budget, tokens),
        budget_calls=smaller(started.budget_calls, calls),
        budget_seconds=smaller(started.budget_seconds, forked.budget_seconds),
        budget_strict=strict or forked.budget_strict,
        budget_money=smaller(started.budget_money, money),
        above=None,
    )


def unfinished(state: RunState) -> list[Command]:
    """Return the commands that a worker who takes the run over must carry out."""
    if state.outcome is not None:
        return [state.outcome]
    return [
        RunStep(step.path, step.node, step.token.value, step.attempt, step.until)
        for step in state.steps.values()
    ] + [scope.quorum for scope in state.scopes.values() if scope.quorum is not None]


def _start(wiring: Wiring, state: RunState, event: RunStarted) -> list[Command]:
    state.root_live = 1
    if wiring.plain:
        (node,) = wiring.nodes.values()
        return _step(wiring, state, node, Token("input", event.input, ROOT, ()))
    kinds = [leaf for giver, leaf in wiring.consumers if giver is None]
    token = _token_of(event.input, kinds, Token("", None, ROOT, ()))
    return _route(wiring, state, None, token)


def _complete(wiring: Wiring, state: RunState, event: StepCompleted) -> list[Command]:
    step = _step_of(wiring, state, event.path)
    if step is None:
        return []
    del state.steps[step.path]
    state.completed += 1
    if event.patch:
        state.shared = _patched(wiring, state.shared, event.patch)
    if wiring.plain:
        return [Finish(event.output)]
    if event.output is None:
        return _retire(wiring, state, step.token.scope)
    node = wiring.nodes[step.node]
    if node.fans_out:
        return _fan_out(wiring, state, step, event.output)
    token = _token_of(event.output, wiring.gives[step.node], step.token)
    return _route(wiring, state, step.node, token)


def _patched(wiring: Wiring, shared: dict[str, Json], patch: dict[str, Json]) -> dict[str, Json]:
    """Return what all steps share after a patch; steps under way go on seeing what it was."""
    appended = {
        name: [*(shared.get(name) or []), *value]
        for name, value in patch.items()
        if wiring.reducers.get(name) == "append"
    }
    return {**shared, **patch, **appended}


def _step_of(wiring: Wiring, state: RunState, path: str) -> Step | None:
    """Return the step that an event is of, or None if a quorum let go of it.

    Raises:
        Diverged: by this graph there is no such step now.
    """
    step = state.steps.get(path)  # that of a first attempt has the path of its step
    if step is None:
        path = base_path(path)
        step = state.steps.get(path)
    if step is None and path not in state.let_go:
        raise Diverged(
            path=path,
            recorded=f"the step {path}",
            asked=f"none of that name there: its nodes are {', '.join(wiring.nodes)}",
        )
    return step


def _token_of(value: Json, kinds: Sequence[str], before: Token) -> Token:
    """Read an encoded value into a token; of several kinds it carries its own tag."""
    if len(kinds) == 1:
        kind = kinds[0]
    else:
        kind, value = value["type"], value["value"]
    return Token(kind, value, before.scope, before.place, before.depth + 1)


def _fan_out(wiring: Wiring, state: RunState, step: Step, items: list[Json]) -> list[Command]:
    number, state.next_scope = state.next_scope, state.next_scope + 1
    state.scopes[number] = Scope(
        parent=step.token.scope,
        token=step.token,
        producer=step.node,
        size=len(items),
        live=len(items),
    )
    if not items:
        return _settle(wiring, state, number)
    kinds = wiring.gives[step.node]
    commands: list[Command] = []
    for index, item in enumerate(items):
        token = _token_of(item, kinds, step.token)
        token.scope, token.place = number, (*step.token.place, index)
        commands += _route(wiring, state, step.node, token)
    return commands


def _route(wiring: Wiring, state: RunState, giver: str | None, token: Token) -> list[Command]:
    if token.scope == ROOT and giver is not None and (giver, token.type) in wiring.ends:
        tagged = {"type": token.type, "value": token.value}
        return [Finish(tagged if wiring.tags_output else token.value)]
    takers = wiring.consumers[giver, token.type]
    _count(state, token.scope, len(takers) - 1)
    commands: list[Command] = []
    for name in takers:
        node = wiring.nodes[name]
        if node.joins and token.scope != ROOT:
            commands += _arrive(wiring, state, node, token)
        elif node.joins:
            commands += _fire(wiring, state, node, [token], token)
        else:
            commands += _fire_one(wiring, state, node, token)
    return commands


def _fire_one(wiring: Wiring, state: RunState, node: Node, token: Token) -> list[Command]:
    if len(node.takes) > 1:
        tagged = {"type": token.type, "value": token.value}
        token = Token(token.type, tagged, token.scope, token.place, token.depth)
    return _step(wiring, state, node, token)


def _fire(
    wiring: Wiring, state: RunState, node: Node, tokens: list[Token], at: Token
) -> list[Command]:
    tagged = len(node.takes) > 1
    values = [
        {"type": token.type, "value": token.value} if tagged else token.value for token in tokens
    ]
    depth = max((token.depth for token in tokens), default=at.depth + 1)
    return _step(
        wiring, state, node, Token(f"list of {len(values)}", values, at.scope, at.place, depth)
    )


def _step(wiring: Wiring, state: RunState, node: Node, token: Token) -> list[Command]:
    if token.depth > wiring.max_steps:
        message = f"more than max_steps={wiring.max_steps} steps one after another: an endless loop"
        return [Fail(Failure("StepLimit", message, node.name))]
    fired = state.firings.setdefault(token.place, {})
    firing = fired.get(node.name)
    if firing is None:
        firing = _most_fired_around(state, token.place) if state.settled else 0
    fired[node.name] = firing + 1
    path = f"{node.name}[{_index(token.place, firing)}]"
    state.steps[path] = Step(path, node.name, token)
    return [RunStep(path, node.name, token.value)]


def _most_fired_around(state: RunState, place: tuple[int, ...]) -> int:
    """Return how often any node fired within settled scopes of the places around one."""
    around = (place[:size] for size in range(len(place)))
    return max((state.settled.get(outer, 0) for outer in around), default=0)


def _index(place: tuple[int, ...], firing: int) -> str:
    """Return a step's index: its place in its fan-outs, and its firing there if not the first."""
    if not place:
        return str(firing)
    text = ".".join(map(str, place))
    return f"{text},{firing}" if firing else text


def _arrive(wiring: Wiring, state: RunState, node: Node, token: Token) -> list[Command]:
    scope = state.scopes[token.scope]
    arrived = scope.arrived.setdefault(node.name, [])
    arrived.append((token.place, len(arrived), token))
    scope.live -= 1
    if scope.live == 0:
        return _settle(wiring, state, token.scope)
    quorum = node.quorum
    if (
        quorum is not None
        and scope.quorum is None
        and len(arrived) >= ceil(quorum.share * scope.size)
    ):
        scope.quorum = WaitForQuorum(f"quorum[{token.scope}]", token.scope, quorum.after)
        return [scope.quorum]
    return []


def _retire(wiring: Wiring, state: RunState, scope: int) -> list[Command]:
    """A token ended without a successor."""
    _count(state, scope, -1)
    if scope == ROOT:
        return [] if state.root_live else [Fail(_no_output(state))]
    return _settle(wiring, state, scope) if state.scopes[scope].live == 0 else []


def _count(state: RunState, scope: int, change: int) -> None:
    if scope == ROOT:
        state.root_live += change
    else:
        state.scopes[scope].live += change


def _settle(wiring: Wiring, state: RunState, number: int) -> list[Command]:
    """A scope has no live token: fire its joins, each as one token of the scope around it."""
    scope = state.scopes.pop(number)
    _forget_places(state, scope)
    joins = wiring.joins[scope.producer]
    if not joins:
        return _retire(wiring, state, scope.parent)
    _count(state, scope.parent, len(joins) - 1)
    commands: list[Command] = []
    for name in joins:
        arrived = sorted(scope.arrived.get(name, []), key=lambda item: item[:2])
        tokens = [token for _, _, token in arrived]
        commands += _fire(wiring, state, wiring.nodes[name], tokens, scope.token)
    return commands


def _forget_places(state: RunState, scope: Scope) -> None:
    """Keep no count for each place of a settled scope, only what keeps later paths unique."""
    around = scope.token.place
    most = state.settled.get(around, 0)
    for index in range(scope.size):
        place = (*around, index)
        fired = state.firings.pop(place, {})
        most = max(most, state.settled.pop(place, 0), *fired.values())
    state.settled[around] = most


def _fire_early(wiring: Wiring, state: RunState, number: int) -> list[Command]:
    inside = _scopes_inside(state, number)
    commands: list[Command] = []
    for path, step in list(state.steps.items()):
        if step.token.scope in inside:
            del state.steps[path]
            state.let_go.add(path)
            commands.append(CancelStep(path))
    for inner in inside - {number}:
        del state.scopes[inner]
    return commands + _settle(wiring, state, number)


def _set_quorum(state: RunState, number: int, until: float) -> list[Command]:
    scope = state.scopes.get(number)
    if scope is not None and scope.quorum is not None:
        scope.quorum = replace(scope.quorum, until=until)
    return []


def _scopes_inside(state: RunState, number: int) -> set[int]:
    inside = {number}
    # A scope's number is above its parent's, so one ascending pass finds all.
    for inner in sorted(state.scopes):
        if state.scopes[inner].parent in inside:
            inside.add(inner)
    return inside


def _fail(wiring: Wiring, state: RunState, event: StepFailed) -> list[Command]:
    step = _step_of(wiring, state, event.path)
    if step is None:
        return []
    if event.final:
        return [Fail(replace(event.error, path=event.path))]
    step.attempt, step.until, step.sees = event.attempt + 1, event.until, None
    return [RunStep(step.path, step.node, step.token.value, step.attempt, step.until)]


def _no_output(state: RunState) -> Failure:
    return Failure(
        "NoOutput",
        f"after {state.completed} steps nothing is left to run, and no node gave the output; "
        "does a node return None where it should not?",
    )
