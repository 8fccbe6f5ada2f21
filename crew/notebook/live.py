"""A run in the cell of a notebook: drawn as it goes on, and asked there."""

from collections.abc import AsyncGenerator
from typing import Protocol

from crew.clock import wall_clock
from crew.fold import Event
from crew.message import Json
from crew.notebook.asking import Asking, has_widgets
from crew.notebook.display import Cell, Spawn, is_live
from crew.notebook.view import View

__all__ = ["Followed", "show_run"]


class Followed(Protocol):
    """What is asked of a run that is shown."""

    def batches(self, after: int = 0) -> AsyncGenerator[list[Event]]: ...
    async def answer(self, key: str, value: Json) -> None: ...


def show_run(run: Followed, view: View, spawn: Spawn) -> None:
    """Show a run in the cell that runs now; one that goes on is drawn until it ends."""
    goes_on = not view.spans.ending.is_final and is_live()
    asking = Asking(run.answer) if goes_on and has_widgets() else None
    cell = Cell(repr(run), lambda: view.html(wall_clock(), shows_questions=asking is None))
    cell.show()
    if asking is not None:
        asking.show()
        asking.update(view.questions)
    if goes_on:
        news = None if asking is None else lambda: asking.update(view.questions)
        spawn(cell.keep_drawn(_read(run, view), news))


async def _read(run: Followed, view: View) -> None:
    async for events in run.batches(view.spans.ending.offset):
        view.add(events)
