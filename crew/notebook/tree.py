"""The tree of what a run did and does, as a table with a bar for when each part was at work."""

from collections.abc import Iterator

from crew.fold import Span
from crew.notebook.markup import COLOURS, escape, money, row, shortened, table

MARKS = {
    "running": "…",
    "completed": "✓",
    "failed": "✗",
    "unknown": "?",
    "cancelled": "∅",
    "again": "↻",
}
MOST_ROWS = 120
_BAR_PIXELS = 140


def tree_table(whole: Span, now: float) -> str:
    """Return a run's steps and calls, those beneath others indented."""
    found = [(depth, span) for depth, span in _with_depth(whole) if span is not whole]
    has_money = bool(whole.money)
    lines = [_line(depth, span, whole, now, has_money) for depth, span in found[:MOST_ROWS]]
    if len(found) > MOST_ROWS:
        lines.append(row(f"… and {len(found) - MOST_ROWS} more"))
    head = ("", "", "seconds", "tokens", *(("money",) if has_money else ()))
    return table(head, lines) if lines else ""


def _with_depth(span: Span, depth: int = -1) -> Iterator[tuple[int, Span]]:
    yield depth, span
    for child in span.children:
        yield from _with_depth(child, depth + 1)


def _line(depth: int, span: Span, whole: Span, now: float, has_money: bool) -> str:
    colour = COLOURS.get(span.outcome, "inherit")
    name = f'<span style="color:{colour}">{MARKS[span.outcome]}</span> {escape(_called(span))}'
    if span.error is not None:
        name += f'<br/><span style="color:{colour}">{shortened(span.error.message)}</span>'
    place = f'<div style="margin-left:{16 * depth}px">{name}</div>'
    seconds = f"{span.seconds_by(now):.2f}"
    cost = [f"{span.tokens or ''}", *([money(span.money)] if has_money else [])]
    return row(place, _bar(span, whole, now), seconds, *cost)


def _called(span: Span) -> str:
    last = span.path.rpartition("/")[2]
    if span.kind == "step":
        return last
    reused = ", from the record" if span.reused else ""
    return f"{span.name} ({span.kind}{reused})"


def _bar(span: Span, whole: Span, now: float) -> str:
    """Return a bar that shows when it was at work within its run."""
    size = whole.seconds_by(now) or 1.0
    left = min(max(0.0, (span.start - whole.start) / size), 1.0)
    width = min(span.seconds_by(now) / size, 1.0 - left)
    colour = COLOURS.get(span.outcome, "gray")
    return (
        f'<div style="width:{_BAR_PIXELS}px;margin-top:6px"><div style="height:7px;'
        f"border-radius:3px;background:{colour};margin-left:{left * _BAR_PIXELS:.0f}px;"
        f'width:{max(2.0, width * _BAR_PIXELS):.0f}px"></div></div>'
    )
