"""The inboxes of the runs that are driven here: answers and cancels, turned into events."""

import asyncio
import json

from crew.errors import StoreError
from crew.journal import Clear, Letter
from crew.run.employer import Employer
from crew.run.owned import Owned


class Letters:
    """Hands the letters that lie in runs' inboxes to their drivers.

    Args:
        employer: the runtime.
        owned: the runs of this process.
    """

    def __init__(self, employer: Employer, owned: Owned) -> None:
        self._employer = employer
        self._drivers = owned.drivers

    async def read(self, *only: int) -> None:
        """Turn the letters for runs that are driven here, or `only` some of them, into events."""
        if not self._drivers:
            return
        clears: list[Clear] = []
        for number, letters in self._letters_of(only or tuple(self._drivers)).items():
            driver = self._drivers[number]
            done, kept = list[int](), list[int]()
            for letter in letters:
                delivered = driver.deliver(letter, json.loads(letter.body))
                if delivered is None:
                    done.append(letter.id)
                elif delivered:
                    kept.append(letter.id)
            if done or kept:
                clears.append(Clear(number, driver.row.epoch, tuple(done), tuple(kept)))
        # At once: in one transaction with the events that were made of the letters.
        cleared = [self._employer.writer.submit(clear) for clear in clears]
        for result in await asyncio.gather(*cleared):
            if isinstance(result, StoreError):
                raise result

    def _letters_of(self, numbers: tuple[int, ...]) -> dict[int, list[Letter]]:
        found: dict[int, list[Letter]] = {}
        for letter in self._employer.store.letters(numbers):
            found.setdefault(letter.number, []).append(letter)
        return found
