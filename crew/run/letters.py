"""The inboxes of the runs that are driven here: answers and cancels, turned into events."""

import asyncio
import json
from collections.abc import Iterable, Sequence

from crew.clock import wall_clock
from crew.errors import StoreError
from crew.journal import Clear, Letter
from crew.run.driver import Driver
from crew.run.employer import Employer
from crew.run.owned import Owned


class Letters:
    """Hands the letters that lie in runs' inboxes to their drivers.

    An answer has its place in time among what a run waits for: it comes before a deadline that had
    not passed when it was posted, and behind one that had.

    Args:
        employer: the runtime.
        owned: the runs of this process.
    """

    def __init__(self, employer: Employer, owned: Owned) -> None:
        self._employer = employer
        self._drivers = owned.drivers
        self._taken = set[int]()
        """Those that were turned into events, and lie there until that is committed."""

    async def read(self, *only: int) -> None:
        """Turn the letters for runs that are driven here, or `only` some of them, into events."""
        if not self._drivers:
            return
        cleared = list[asyncio.Future[object]]()
        for number, letters in self._letters_of(only or tuple(self._drivers)).items():
            driver = self._drivers[number]
            cleared += self._deliver(driver, letters, before=driver.calls.waits.due())
        for result in await asyncio.gather(*cleared):
            if isinstance(result, StoreError):
                raise result

    async def read_some(self, numbers: Iterable[int]) -> None:
        """Turn the letters for those of some runs into events that are driven here."""
        if mine := self._drivers.keys() & numbers:
            await self.read(*mine)

    def hand_out(self, number: int, before: float) -> bool:
        """Turn what was posted for a run by `before` into events; see `Surroundings`."""
        driver = self._drivers.get(number)
        if driver is None:
            return False
        letters = self._letters_of((number,)).get(number, ())
        return bool(self._deliver(driver, letters, before=before))

    def _deliver(
        self, driver: Driver, letters: Sequence[Letter], *, before: float | None
    ) -> list[asyncio.Future[object]]:
        """Turn letters into events; return what tells when they have left the inbox, if any do."""
        done, kept = list[int](), list[int]()
        for letter in letters:
            if letter.id in self._taken or _is_later(letter, before):
                continue
            delivered = driver.deliver(letter, json.loads(letter.body))
            if delivered is None:
                done.append(letter.id)
            elif delivered:
                kept.append(letter.id)
        if not done and not kept:
            return []
        taken = {*done, *kept}
        self._taken |= taken
        # At once: in one transaction with the events that were made of the letters.
        clear = Clear(driver.row.number, driver.row.epoch, tuple(done), tuple(kept))
        cleared = self._employer.writer.submit(clear)
        cleared.add_done_callback(lambda _: self._taken.difference_update(taken))
        return [cleared]

    def _letters_of(self, numbers: tuple[int, ...]) -> dict[int, list[Letter]]:
        found: dict[int, list[Letter]] = {}
        for letter in self._employer.store.letters(numbers):
            found.setdefault(letter.number, []).append(letter)
        return found


def _is_later(letter: Letter, before: float | None) -> bool:
    """Return whether an answer was posted after what is to pass before it.

    Whoever posted it may have a clock that is ahead: it was not posted later than now.
    """
    if before is None or letter.kind == "cancel":
        return False
    return min(letter.at, wall_clock()) > before
