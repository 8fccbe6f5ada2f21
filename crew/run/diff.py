"""Two runs compared by their events: how each ended, which results differ, what each cost."""

from collections.abc import Sequence
from dataclasses import field

from crew.define import define, frozen
from crew.fold import Cost, Costs, Ending, EndKind, Event, Results, error_data, fold, folded
from crew.message import Json

__all__ = ["Change", "Cost", "Difference", "End", "compare", "cost_of", "end_of", "reused_of"]


@frozen
class End:
    """How a run stands: `value` is its output, its error, or why it is parked."""

    kind: EndKind
    value: Json = None


@frozen
class Change:
    """A step or call that both runs came to, with its result in each; None where it has none."""

    path: str
    a: Json
    b: Json


@frozen
class Difference:
    """What `compare` found; paths are in the order in which the runs came to their results."""

    runs: tuple[str, str]
    """The ids of both."""
    ends: tuple[End, End]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    changed: tuple[Change, ...]
    reused: tuple[tuple[str, ...], tuple[str, ...]]
    """The calls of each that were answered from another run's records."""
    costs: tuple[Cost, Cost]

    @property
    def same_answer(self) -> bool:
        """Whether both ended, in the same way and with the same output or error."""
        return self.ends[0] == self.ends[1] and self.ends[0].kind not in ("open", "parked")

    @property
    def equal(self) -> bool:
        """Whether both did the same and came to the same, whatever each paid."""
        return self.same_answer and not (self.only_a or self.only_b or self.changed)

    def _repr_html_(self) -> str:
        """Draw both side by side, for a notebook."""
        from crew.notebook.tables import Side, comparison  # only where there is a notebook

        a, b = (
            Side(run, end.kind, end.value, cost)
            for run, end, cost in zip(self.runs, self.ends, self.costs, strict=True)
        )
        changed = [(it.path, it.a, it.b) for it in self.changed]
        return comparison((a, b), changed, (self.only_a, self.only_b))


def compare(
    a: Sequence[Event], b: Sequence[Event], runs: tuple[str, str] = ("a", "b")
) -> Difference:
    """Compare two runs by all their events; `runs` are their ids."""
    one, two = _Side(), _Side()
    for side, events in ((one, a), (two, b)):
        fold(events, side.results, side.costs, side.ending)
    results = one.results.by_path, two.results.by_path
    return Difference(
        runs=runs,
        ends=(_end(one.ending), _end(two.ending)),
        only_a=tuple(path for path in results[0] if path not in results[1]),
        only_b=tuple(path for path in results[1] if path not in results[0]),
        changed=tuple(
            Change(path, result, results[1][path])
            for path, result in results[0].items()
            if path in results[1] and result != results[1][path]
        ),
        reused=(tuple(one.results.reused), tuple(two.results.reused)),
        costs=(one.costs.cost, two.costs.cost),
    )


def end_of(events: Sequence[Event]) -> End:
    """Return how a run stands after these events."""
    return _end(folded(events[-1:], Ending()))


def cost_of(events: Sequence[Event]) -> Cost:
    """Return what a run paid so far; the prefix that a fork shares with its base was not paid."""
    return folded(events, Costs()).cost


def reused_of(events: Sequence[Event]) -> list[str]:
    """Return the paths of the calls that were answered from another run's records."""
    return folded(events, Results()).reused


@define
class _Side:
    """What is compared of one run."""

    results: Results = field(default_factory=Results)
    costs: Costs = field(default_factory=Costs)
    ending: Ending = field(default_factory=Ending)


def _end(ending: Ending) -> End:
    if ending.kind == "failed" and ending.error is not None:
        return End(ending.kind, error_data(ending.error))
    if (parked := ending.parked) is not None:
        facts: dict[str, Json] = {"reason": parked.reason, "detail": parked.detail}
        facts |= {"path": parked.path, "asked": parked.asked}
        refused = {"effects_refused": True} if parked.effects_refused else {}
        return End(ending.kind, facts | refused)
    return End(ending.kind, ending.output)
