"""Something that others look at again once it has changed."""

import asyncio


class Change:
    """Lets those wait who found that not enough was there."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def comes(self) -> None:
        """Return when something may have changed."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def wake(self) -> None:
        """Let all look again who wait."""
        waiting, self._waiting = self._waiting, list[asyncio.Future[None]]()
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)
