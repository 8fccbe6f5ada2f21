"""What a person sees while a run works: a tree of steps and agents, folded from its events."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from crew.event import Event
from crew.message import Json

_MARKS = {"running": "…", "done": "✓", "failed": "✗", "cancelled": "∅", "again": "↻"}
_COLOURS = {
    "running": "yellow",
    "done": "green",
    "failed": "red",
    "cancelled": "dim",
    "again": "magenta",
}
_STATES = {"completed": "done", "cancelled": "cancelled"}


@dataclass(slots=True)
class Line:
    """One step, agent or call of the tree; times are the journal's, in unix seconds."""

    path: str
    kind: str
    state: str
    began: float
    ended: float | None = None
    where: str = ""
    tokens: int = 0
    note: str = ""

    def text(self, now: float) -> str:
        seconds = (self.ended or max(now, self.began)) - self.began
        parts = [self.path.rpartition("/")[2], f"{seconds:.1f} s"]
        if self.tokens:
            parts.append(f"{self.tokens} tokens")
        parts += [part for part in (self.where, self.note) if part]
        return " · ".join(parts)


@dataclass
class Progress:
    """A run's events as a person follows them."""

    lines: dict[str, Line] = field(default_factory=dict)
    text: str = ""
    latest: str = ""
    ended: str = ""

    def add(self, event: Event) -> str:
        """Take one event in, and return a line about it, or nothing."""
        kind, _, phase = event.kind.partition(".")
        if kind in ("step", "agent", "model", "tool", "effect", "function", "child"):
            return self._call(event, kind, phase)
        if event.kind == "text.emitted":
            self.text += event.data["text"]
        elif event.kind == "progress.made":
            self.latest = event.data["text"]
            return f"{event.path.partition('/')[0]}: {self.latest}"
        elif event.kind == "ask.opened":
            return f"asks: {event.data['question']} (crew answer RUN {event.data['key']} VALUE)"
        elif kind == "run" and phase in ("completed", "failed", "cancelled"):
            self.ended = phase
            self._cancel_beneath("", event.at)
        elif event.kind == "run.taken":
            word = "driven" if event.offset == 2 else "taken over"
            return f"{word} by process {event.data['pid']} on {event.data['host']}"
        return ""

    def _call(self, event: Event, kind: str, phase: str) -> str:
        line = self.lines.get(event.path)
        if line is None or (phase == "started" and line.state != "running"):
            line = self.lines[event.path] = Line(event.path, kind, "running", event.at)
        elif phase == "started":
            line.state = "again"
        if phase == "started":
            line.where = _where(event.data)
            return "" if kind not in ("step", "agent") else f"{event.path} started {line.where}"
        line.ended = event.at
        line.state = _STATES.get(phase, "failed")
        if phase != "completed":
            self._cancel_beneath(f"{event.path}/", event.at)
        line.tokens = _tokens(event.data)
        if "error" in event.data:
            line.note = str(event.data["error"].get("message", ""))[:120]
        return f"{_MARKS[line.state]} {event.path} {line.text(event.at)}" if kind != "model" else ""

    def _cancel_beneath(self, place: str, at: float) -> None:
        """End what is still under way in a place that has ended: it has no event of its own."""
        for path, line in self.lines.items():
            if path.startswith(place) and line.state in ("running", "again"):
                line.state, line.ended = "cancelled", at

    def under_way(self) -> str:
        """Return what runs just now, the innermost work alone."""
        running = [path for path, line in self.lines.items() if line.state in ("running", "again")]
        inner = [p for p in running if not any(q.startswith(f"{p}/") for q in running)]
        return ", ".join(inner) or "waiting"

    def tree(self, title: str) -> RenderableType:
        """Return the tree of steps, with the agents in them and their calls."""
        now, root = time.time(), Tree(Text(title, style="bold"))
        branches: dict[str, Tree] = {}
        for path, line in self.lines.items():
            above = next((branches[p] for p in _parents(path) if p in branches), root)
            colour = _COLOURS[line.state]
            branches[path] = above.add(Text(f"{_MARKS[line.state]} {line.text(now)}", style=colour))
        return Group(root, Text(self.latest, style="dim")) if self.latest else root


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


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
        yield path.partition("~")[0]


def _where(data: dict[str, Json]) -> str:
    return f"on {data['host']} process {data['pid']}" if "pid" in data else ""


def _tokens(data: dict[str, Json]) -> int:
    usage = data.get("usage") or {}
    return int(usage.get("input_tokens", 0)) + int(usage.get("output_tokens", 0))
