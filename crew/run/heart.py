"""The sign of life of an owner of runs: a beat that grows while its process does."""

import contextlib
import threading

from crew.errors import StoreError
from crew.journal import Busy, Store

BEATS_A_LEASE = 5


class Heart:
    """Claims an owner's name in a store, and beats for it from a thread of its own.

    A thread, so that a step that holds the event loop for long does not make its owner look dead;
    a process that is stopped does not beat.

    Args:
        store: where it is shown.
        owner: whose beat it is.
        lease: seconds of silence that others take for its end.
    """

    def __init__(self, store: Store, owner: str, lease: float) -> None:
        self._store = store
        self._owner = owner
        self._pause = lease / BEATS_A_LEASE
        self._stopping = threading.Event()
        store.claim_owner(owner)
        self._thread = threading.Thread(target=self._beat, name=f"beat-{owner}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; the name is given up by whoever releases it."""
        self._stopping.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stopping.wait(self._pause):
            # A beat that is missed is made up by the next one.
            with contextlib.suppress(StoreError, Busy):
                self._store.beat(self._owner)
