"""Tables of a batch, and of two runs side by side."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from crew.fold import Cost, tokens_in
from crew.message import Json
from crew.notebook.markup import badge, block, escape, money, row, shortened, table

MOST_ROWS = 50
"""How many differences of two runs are shown."""


class Line(Protocol):
    """What a table says of one input of a batch."""

    @property
    def index(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def said(self) -> str: ...
    @property
    def usage(self) -> Mapping[str, float]: ...


class Side(NamedTuple):
    """What a table says of one of two runs."""

    run: str
    state: str
    value: Json
    cost: Cost


def batch_table(
    counts: Mapping[str, int],
    under_way: int,
    usage: Mapping[str, float],
    lines: Sequence[Line],
    *,
    most: int,
) -> str:
    """Return how a batch stands, with the outcomes of its first inputs."""
    states = [badge(state, f"{count} {state}") for state, count in counts.items()]
    states += [badge("running", f"{under_way} under way")] if under_way else []
    cost = [f"{tokens_in(usage)} tokens"] if tokens_in(usage) else []
    spent = usage.get("money", 0.0)
    cost += [f"{money(spent)} money"] if spent else []
    head = ("", "key", "", "outcome", "tokens", *(("money",) if spent else ()))
    rows = [
        row(
            str(line.index),
            escape(line.key),
            badge(line.status),
            shortened(line.said),
            f"{tokens_in(line.usage) or ''}",
            *([money(line.usage.get("money", 0.0))] if spent else []),
        )
        for line in lines[:most]
    ]
    shown = table(head, rows) if rows else ""
    more = f"… and {sum(counts.values()) + under_way - most} more" if len(lines) > most else ""
    return block(" ".join(states) or ("" if rows else "no runs yet"), " · ".join(cost), shown, more)


def comparison(
    sides: tuple[Side, Side],
    changed: Iterable[tuple[str, Json, Json]],
    only: tuple[Sequence[str], Sequence[str]],
) -> str:
    """Return two runs side by side: their ends, their costs, and where they differ."""
    a, b = sides
    rows = [
        row("", *(f"<code>{escape(side.run)}</code> {badge(side.state)}" for side in sides)),
        row("output", *(_value(side.value) for side in sides)),
        row("paid", _paid(a.cost), _paid(b.cost)),
        row("reused", _reused(a.cost), _reused(b.cost)),
    ]
    rows += [row(escape(path), _value(one), _value(other)) for path, one, other in changed]
    rows += [row(escape(path), "✓", "") for path in only[0]]
    rows += [row(escape(path), "", "✓") for path in only[1]]
    return block(table(("", "a", "b"), rows[: MOST_ROWS + 4]))


def _value(value: Json) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _paid(cost: Cost) -> str:
    spent = f", {money(cost.money)} money" if cost.money else ""
    return f"{cost.calls} model calls, {cost.tokens} tokens{spent}"


def _reused(cost: Cost) -> str:
    return f"{cost.reused_calls} model calls, {cost.reused_tokens} tokens"
