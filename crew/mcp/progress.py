"""What a server tells of a call under way: some lines of it, for whoever watches the run."""

import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from crew.errors import CrewError

__all__ = ["Progress", "Report"]

MOST_LINES = 100
"""Of one call: each is an event of the run's journal."""
SECONDS_BETWEEN = 0.5
MOST_CHARACTERS = 200

Report = Callable[[int, str], Awaitable[None]]

logger = logging.getLogger(__name__)


class Progress:
    """Passes on how far a call is; of a server that tells more than that, a line now and then.

    Args:
        report: gets the lines, numbered from 0.
        masked: takes out of them what is nobody's to read.
    """

    def __init__(self, report: Report, masked: Callable[[str], str]) -> None:
        self._report, self._masked = report, masked
        self._lines = 0
        self._next = 0.0

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Take what the SDK has received."""
        now = monotonic()
        if self._lines == MOST_LINES or now < self._next:
            return
        number, self._next = self._lines, now + SECONDS_BETWEEN
        self._lines += 1
        words = self._masked(message or _counted(progress, total))
        try:
            await self._report(number, words[:MOST_CHARACTERS])
        except CrewError as error:
            # Whoever makes the call is told by its own next step that the run is gone.
            logger.debug("mcp.progress_lost", extra={"error": str(error)})


def _counted(progress: float, total: float | None) -> str:
    return f"{progress:g}" if total is None else f"{progress:g} of {total:g}"
