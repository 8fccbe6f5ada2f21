"""What a person sees while a run works: a tree of its steps, agents and calls."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from crew.fold import Activity, Ending, Event, Remarks, Span, Spans, typed_of
from crew.fold import Text as Answer

_MARKS = {
    "running": "…",
    "completed": "✓",
    "failed": "✗",
    "unknown": "✗",
    "cancelled": "∅",
    "again": "↻",
}
_COLOURS = {
    "running": "yellow",
    "completed": "green",
    "failed": "red",
    "unknown": "red",
    "cancelled": "dim",
    "again": "magenta",
}
_NOTE_CHARACTERS = 120


@dataclass
class Progress:
    """A run's events as a person follows them."""

    spans: Spans = field(default_factory=Spans)
    answer: Answer = field(default_factory=Answer)
    remarks: Remarks = field(default_factory=Remarks)

    @property
    def ending(self) -> Ending:
        return self.spans.ending

    @property
    def text(self) -> str:
        return str(self.answer)

    def add(self, event: Event) -> str:
        """Take one event in, and return a line about it, or nothing."""
        if (typed := typed_of(event)) is None:
            return ""
        self.answer.apply(typed, event.offset, event.at)
        activity = self.spans.apply(typed, event.offset, event.at)
        if activity is None:
            return self.remarks.apply(typed, event.offset, event.at)
        if not activity.is_under_way:
            line = f"{_MARKS[activity.state]} {activity.path} {_text(activity, event.at)}"
            return "" if activity.kind == "model" else line
        shown = activity.kind in ("step", "agent")
        return f"{activity.path} started {_where(activity.place)}" if shown else ""

    def under_way(self) -> str:
        """Return what runs just now, the innermost work alone."""
        running = [activity.path for activity in self.spans.steps.under_way()]
        inner = [p for p in running if not any(q.startswith(f"{p}/") for q in running)]
        return ", ".join(inner) or "waiting"

    def tree(self, title: str) -> RenderableType:
        """Return the tree of steps, with the agents in them and their calls."""
        now, root = time.time(), Tree(Text(title, style="bold"))
        _grow(root, self.spans.tree(), now)
        latest = self.remarks.progress
        return Group(root, Text(latest, style="dim")) if latest else root


async def follow(
    events: AsyncIterator[Event], title: str, console: Console, *, quiet: bool = False
) -> Progress:
    """Show a run's events until it ends: a live tree on a terminal, lines elsewhere."""
    progress = Progress()
    if quiet:
        async for event in events:
            progress.add(event)
        return progress
    if not console.is_terminal:
        async with ticking(console, progress.under_way):
            async for event in events:
                if line := progress.add(event):
                    console.print(Text(f"  {line}"))
        return progress
    with Live(console=console, refresh_per_second=8, get_renderable=lambda: progress.tree(title)):
        async for event in events:
            progress.add(event)
    return progress


@asynccontextmanager
async def working(console: Console, what: str) -> AsyncIterator[None]:
    """Say what is being done, with a running clock, until it is done."""
    began = time.monotonic()
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(Text(f"{what} …"))
        async with ticking(console, lambda: what):
            yield
    console.print(Text(f"✓ {what} ({time.monotonic() - began:.1f} s)"))


@asynccontextmanager
async def ticking(console: Console, describe: Callable[[], str]) -> AsyncIterator[None]:
    """Print a line a second, where no terminal shows a clock, so that silence means a fault."""
    began = time.monotonic()

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            console.print(Text(f"  … {describe()} · {time.monotonic() - began:.0f} s"))

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()


def _grow(tree: Tree, span: Span, now: float) -> None:
    for child in span.children:
        line = Text(f"{_MARKS[child.outcome]} {_text(child, now)}", style=_COLOURS[child.outcome])
        _grow(tree.add(line), child, now)


def money_text(money: float) -> str:
    """Return money as it is shown: in the currency of the prices, which has no sign here."""
    return f"{money:.6f}".rstrip("0").rstrip(".") + " money"


def _text(work: Activity | Span, now: float) -> str:
    """Return what is said of a step or a call: its name, how long it took, what it cost."""
    parts = [work.path.rpartition("/")[2], f"{work.seconds_by(now):.1f} s"]
    if work.tokens:
        parts.append(f"{work.tokens} tokens")
    if work.money:
        parts.append(money_text(work.money))
    note = work.error.message[:_NOTE_CHARACTERS] if work.error else ""
    return " · ".join(parts + [part for part in (_where(work.place), note) if part])


def _where(place: tuple[str, int] | None) -> str:
    return "" if place is None else "on {} process {}".format(*place)
