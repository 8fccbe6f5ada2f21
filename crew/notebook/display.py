"""What stands in a cell of a notebook, and is drawn anew while it changes.

IPython is not imported unless it is there: whoever calls this is a notebook.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from crew.errors import RuntimeLeft

REDRAW_SECONDS = 0.25
"""How often a cell is drawn anew at most."""


class Spawn(Protocol):
    """Starts a task of the runtime's own, which ends with it."""

    def __call__(self, work: Coroutine[Any, Any, None], /) -> "asyncio.Task[None]": ...


class Cell:
    """One output of a cell.

    Args:
        text: what a terminal shows in its place.
        draw: returns its HTML.
    """

    def __init__(self, text: str, draw: Callable[[], str]) -> None:
        self._text, self._draw = text, draw
        self._id = secrets.token_hex(8)
        self._shown = ""

    def show(self) -> None:
        """Put it into the cell that runs now."""
        from IPython.display import display

        display(self._drawn(), raw=True, display_id=self._id)

    def redraw(self) -> None:
        """Draw it again, where it has changed."""
        from IPython.display import update_display

        before = self._shown
        drawn = self._drawn()
        if self._shown != before:
            update_display(drawn, raw=True, display_id=self._id)

    def _drawn(self) -> dict[str, str]:
        self._shown = self._draw()
        return {"text/plain": self._text, "text/html": self._shown}

    async def keep_drawn(
        self, reading: Coroutine[Any, Any, None], news: Callable[[], None] | None = None
    ) -> None:
        """Draw it again while something is read, and once more at the end of that."""
        task = asyncio.ensure_future(reading)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=REDRAW_SECONDS)
                self.redraw()
                if news is not None:
                    news()
            await task
        except RuntimeLeft:
            pass  # whoever left it sees how it stood then
        finally:
            task.cancel()


def is_live() -> bool:
    """Return whether an event loop runs, as in a notebook, that can draw a cell again."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
