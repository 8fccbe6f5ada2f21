"""The garbage collector of a host: it has nothing to find in what is there when the host begins."""

import gc

MOST_NEW = 50_000
"""So many objects are made before those are looked at that are new; 700 is Python's own number.

A host holds thousands of tasks at once, nearly all of them alive at each look.
"""


def look_less() -> None:
    """Leave alone what is there by now, which stays, and look at what is new less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(MOST_NEW, *gc.get_threshold()[1:])
