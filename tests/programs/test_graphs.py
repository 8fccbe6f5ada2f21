"""Random graphs do what a plain sequential interpreter of the same rules does."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.programs.graphs import NodePlan, Plan, drawing
from tests.programs.growing import random_plan
from tests.programs.interpreter import Interpreter, TooLong
from tests.programs.running import Log, Ran, graph_of, run, run_with_a_crash

MOST_FUEL = 5
FEATURES: dict[str, Callable[[NodePlan], object]] = {
    "union": lambda node: len(node.gives) > 1,
    "fan-out": lambda node: node.fans_out,
    "nested": lambda node: node.fans_out and node.depth,
    "join": lambda node: node.joins,
    "after": lambda node: node.after,
    "retry": lambda node: node.failures,
    "concurrency": lambda node: node.concurrency and node.depth,
    "notes": lambda node: node.notes and node.depth,
    "reads": lambda node: node.reads,
}
LEAST = dict(
    **dict.fromkeys(("union", "fan-out", "join", "output"), 60),
    **dict.fromkeys(("retry", "loop"), 40),
    **dict.fromkeys(("nested", "concurrency"), 20),
    **dict.fromkeys(("after", "broadcast", "notes", "reads", "StepLimit"), 10),
    **dict.fromkeys(("NoOutput", "Broken"), 3),
    **{"one end": 70},
)
"""The least percentage of graphs in which each of them happens."""


def planned(seed: int) -> tuple[Plan, Interpreter]:
    """Return the plan of a seed, and what it means; one in six has just the steps it needs."""
    plan, meant = _fuelled(random_plan(seed))
    if seed % 6 == 0 and meant.longest > 1:
        plan = replace(plan, max_steps=meant.longest - seed // 6 % 2)
        return plan, Interpreter(plan)
    return plan, meant


def _fuelled(plan: Plan) -> tuple[Plan, Interpreter]:
    """Give a plan as much fuel as it can bear.

    A join that a fan-out behind it leads back to fires for ever, whatever comes: there the number
    of steps is cut short.
    """
    limits = [(fuel, plan.max_steps) for fuel in range(MOST_FUEL, -1, -1)]
    limits += [(0, steps) for steps in range(min(plan.max_steps, 12), 0, -2)]
    for fuel, steps in limits:
        fed = replace(plan, start=plan.start._replace(fuel=fuel), max_steps=steps)
        try:
            return fed, Interpreter(fed)
        except TooLong:
            continue
    raise AssertionError(f"seed {plan.seed} has too many steps however short it is cut")


def problems(seed: int) -> list[str]:
    plan, meant = planned(seed)
    log = Log()
    ran = run(plan, graph_of(plan, log))
    found = [*_of_the_end(ran, meant), *_of_the_steps(log, plan, meant)]
    resumed = run_with_a_crash(plan, graph_of(plan, Log()), ran.events)
    found += [f"after a crash: {problem}" for problem in _of_the_end(resumed, meant)]
    return ["\n".join([*found, *drawing(plan)])] if found else []


def _of_the_end(ran: Ran, meant: Interpreter) -> list[str]:
    found = [f"{path} began again" for path in ran.repeated]
    if ran.end not in meant.ends:
        found.append(f"it ended with {ran.end}, not with one of {sorted(map(str, meant.ends))}")
    return found


def _of_the_steps(log: Log, plan: Plan, meant: Interpreter) -> list[str]:
    found = []
    if more := log.steps - meant.steps:
        found.append(f"steps that should not be: {dict(more)}")
    if not meant.is_cut_off and (missing := meant.steps - log.steps):
        found.append(f"steps that are missing: {dict(missing)}")
    limits = {node.name: node.concurrency for node in plan.nodes if node.concurrency}
    found += [f"{log.most[n]} of {n} at once" for n, most in limits.items() if log.most[n] > most]
    return found


@pytest.mark.parametrize("part", range(4))
def test_two_hundred_random_graphs_mean_what_the_interpreter_says(part):
    seeds = range(50 * part, 50 * part + 50)
    assert [problem for seed in seeds for problem in problems(seed)] == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_thousand_random_graphs_mean_what_the_interpreter_says(part):
    seeds = range(250 * part, 250 * part + 250)
    assert [problem for seed in seeds for problem in problems(seed)] == []


def test_the_random_graphs_have_what_they_are_to_try():
    seen: Counter[str] = Counter()
    for seed in range(200):
        plan, meant = planned(seed)
        seen.update(_features(plan, meant))
    assert {name: share for name, share in LEAST.items() if seen[name] < 2 * share} == {}


def _features(plan: Plan, meant: Interpreter) -> Iterator[str]:
    fired = Counter(name for name, _ in meant.steps.elements())
    nodes = [node for node in plan.nodes if fired[node.name]]
    yield from {end.kind for end in meant.ends}
    if len(meant.ends) == 1:
        yield "one end"
    for name, is_there in FEATURES.items():
        if any(is_there(node) for node in nodes):
            yield name
    if any(node.back and fired[node.name] > 1 for node in nodes):
        yield "loop"
    if any(node.broadcast and len(plan.takers(node, t)) > 1 for node in nodes for t in node.gives):
        yield "broadcast"
