"""What the journals of a program's runs tell: which of its calls ended, and in which order."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from crew.event import ENDS, Event
from crew.journal import RunRow, Store
from crew.journal.reading import JournalReader
from crew.testing.generator.books import Bills, Moment, place_of
from crew.testing.generator.calls import AT_ONCE
from crew.testing.generator.world import Plan

APPROVAL = ":approval"
"""The last part of the path of a question that an agent asks about one of its tools."""
MOST_RUNS = 100
"""More than one program has runs: its own and its children's."""
_SITE = re.compile(r"site:([\w./]*)")


class End(NamedTuple):
    """That a call ended: when, in which run, at which offset, and its name."""

    at: float
    run: int
    offset: int
    name: str
    swallowed: bool
    """Whether it swallowed cancels, which came before."""


@dataclass(slots=True)
class History:
    """The calls of one program that ended, as its journals have them."""

    done: set[str] = field(default_factory=set)
    """Names of calls that completed."""
    failed: Counter[str] = field(default_factory=Counter)
    """How often a call failed, by its name."""
    never_again: set[str] = field(default_factory=set)
    """Keys of effects and names of tools in flight that may not be tried again."""
    children: set[str] = field(default_factory=set)
    """The paths of children that are in flight."""
    unknown: bool = False
    """Whether a crash or a cancel hid whether something happened."""
    ends: list[End] = field(default_factory=list)
    """Those that take their time, run by run."""
    questions: list[tuple[int, str]] = field(default_factory=list)
    """Open questions: the run's number, and the path."""
    deadlines: dict[tuple[int, str], float] = field(default_factory=dict)
    """Of the wall clock, those that may pass: by the run's number and the path, in unix seconds."""
    bills: Bills = field(default_factory=Bills)
    """What calls of models cost."""
    events: int = 0
    behind: str = ""
    """The first event behind a run's end."""

    def plan(
        self, leaving: Sequence[tuple[float, float]] = (), *, children_first: bool = True
    ) -> Plan:
        """Return the order of completions, for a life in which they come in the same one.

        What came at one moment found no code that went on, nor may what came while a process was
        `leaving`, from when to when: it comes at once. In which order ends of several runs came at
        one moment nobody knows: a child's before its parent's, which may wait for it, or after.
        """
        side = -1 if children_first else 1
        ends = sorted(self.ends, key=lambda end: (end.at, side * end.run))
        ranks: dict[str, list[int]] = {}
        for rank, end in enumerate(ends):
            ranks.setdefault(end.name, []).append(rank)
        pairs = enumerate(itertools.pairwise(ends), start=1)
        together = (n for n, (one, next_) in pairs if _comes_at_once(one, next_, leaving))
        return Plan(ranks, dict(self.failed), frozenset(together))


def _comes_at_once(one: End, next_: End, leaving: Sequence[tuple[float, float]]) -> bool:
    follows = one.run == next_.run and one.offset == next_.offset - 1
    if one.at == next_.at and follows and not next_.swallowed:
        return True
    return any(begin < one.at and next_.at <= end for begin, end in leaving)


def rows_of(store: Store, root: int) -> list[RunRow]:
    """Return the rows of a run and of what it started, which have higher numbers."""
    return [row for row in reversed(store.runs(limit=MOST_RUNS)) if row.number >= root]


def read(store: Store, root: int) -> History:
    """Return what the journals of a run and its children hold."""
    history = History()
    found: list[tuple[int, Event, str]] = []
    for row in rows_of(store, root):
        events = JournalReader(store, row).every()
        history.events += len(events)
        found += _named(row, events, history)
    for number, event, name in found:
        if event.kind != "run.completed" and not name.endswith(AT_ONCE):
            swallowed = "swallowed" in event.data
            history.ends.append(End(event.at, number, event.offset, name, swallowed))
        if event.kind.endswith(".failed"):
            history.failed[name] += 1
        else:
            history.done.add(name)
    return history


def key_of(path: str) -> str:
    """Return what tells a question from others: its key as its path has it, or its agent's call."""
    call, _, key = path.rpartition("/")
    return call if key == APPROVAL else key


def _named(
    row: RunRow, events: Iterable[Event], history: History
) -> Iterable[tuple[int, Event, str]]:
    agents: dict[str, str] = {}
    once: dict[str, str] = {}
    ended = False
    for event in events:
        call, _, phase = event.kind.rpartition(".")
        if ended:
            history.behind = history.behind or f"{event.kind} {event.path}"
        ended = ended or event.kind in ENDS
        _bill(row, event, history.bills, agents)
        if call == "agent" and phase == "started":
            agents[event.path] = _site(event)
        elif call == "deadline":
            history.deadlines.pop((row.number, event.path), None)
            if phase == "started":
                history.deadlines[row.number, event.path] = event.data["until"]
        elif event.kind == "run.started" and "budget_seconds" in event.data:
            history.deadlines[row.number, ""] = event.at + event.data["budget_seconds"]
        elif phase == "started":
            _begin(call, event, history, once)
        elif phase == "unknown":
            history.unknown = True
        elif phase == "opened":
            history.questions.append((row.number, event.path))
        elif phase in ("completed", "failed", "answered"):
            history.children.discard(event.path)
            history.never_again.discard(once.pop(event.path, ""))
            if phase == "answered" and (row.number, event.path) in history.questions:
                history.questions.remove((row.number, event.path))
            if name := _name(call, event, agents, is_child=row.parent is not None):
                yield row.number, event, name


def _bill(row: RunRow, event: Event, bills: Bills, agents: dict[str, str]) -> None:
    """Note what an event says of what models cost."""
    when, data = Moment(event.at, row.number, event.offset), event.data
    match event.kind:
        case "run.started":
            bills.places[row.number] = place_of(row, data)
            bills.above[row.number] = frozenset(account[0] for account in data.get("above") or ())
        case "model.started":
            bills.begun(_name("model", event, agents, is_child=False), when, event.path, data)
        case "model.completed" | "model.failed":
            bills.ended_call(when, event.path, data)
        case "run.taken":
            bills.taken(when)
        case "agent.started":
            bills.agent_begun(_site(event), when, event.path)
        case "agent.completed" | "agent.failed" | "agent.cancelled":
            if event.kind == "agent.failed":
                bills.refused(agents[event.path], when, event.path, data["error"])
            bills.agent_ended(when, event.path)
        case "run.completed" | "run.failed" | "run.cancelled":
            bills.ended_run(when, data)
        case _:
            pass


def _begin(call: str, event: Event, history: History, once: dict[str, str]) -> None:
    data = event.data
    if call == "child":
        history.children.add(event.path)
    elif call == "effect" and data["unknown"] == "fail":
        once[event.path] = data["idempotency_key"]
    elif call == "tool" and data["effect"] == "once":
        once[event.path] = f"tool:{data['arguments']['site']}"
    if event.path in once:
        history.never_again.add(once[event.path])


def _name(call: str, event: Event, agents: dict[str, str], *, is_child: bool) -> str:
    match call:
        case "model":
            path, _, turn = event.path.rpartition("/model.")
            return f"model:{agents.get(path, path)}.m{turn}"
        case "ask":
            return f"ask:{key_of(event.path)}"
        case "run":
            return f"child:{_site(event)}" if is_child and event.kind == "run.completed" else ""
        case "function" | "effect" | "tool" | "agent" | "child":
            return f"{call}:{_site(event)}"
        case _:
            return ""


def _site(event: Event) -> str:
    found = _SITE.search(json.dumps(event.data))
    return found[1] if found else ""
