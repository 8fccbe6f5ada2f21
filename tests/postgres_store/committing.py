"""Commits as the writer of a process makes them."""

import time

from crew.journal import Busy
from crew.testing.store_suite import new_run


def commit(store, operations):
    """Commit; what is busy is tried again."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return store.commit(operations)
        except Busy:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def start(store, name, **changes):
    (started,) = commit(store, [new_run(name, **changes)])
    return started.row.number


def offsets(store, number):
    return [item.offset for item in store.events(number)]
