"""Work on big values beside the event loop: in a thread, which lets go of the interpreter.

Python code is interrupted every 5 ms (`sys.getswitchinterval`) for the loop, which has other runs
to go on with; so are two calls of C. What is one long call of C is not: on this way nothing is
handed to C but parts of a value, or what lets go by itself, as hashing does.
"""

import asyncio
import functools
import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

_NEVER = 2**31 - 1
"""The biggest threshold that the collector takes."""


async def aside(work: Callable[..., T], *arguments: object) -> T:
    """Do work in a thread, and return what comes of it; it should not touch what others change.

    There is one such thread: a second one would keep the loop waiting as long again. Who is
    cancelled does not wait for the end of the work, of which nothing is used then.
    """
    made = list[T]()

    def outcome() -> BaseException | None:
        # A future takes no StopIteration, which a validator may raise.
        try:
            with _without_full_passes():
                made.append(work(*arguments))
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the caller's
            return error
        return None

    loop, call = asyncio.get_running_loop(), functools.partial(copy_context().run, outcome)
    error = await loop.run_in_executor(_thread(os.getpid()), call)
    if error is not None:
        raise error
    return made.pop()


@contextmanager
def _without_full_passes() -> Iterator[None]:
    """A block in which the garbage collector looks at new objects alone.

    A pass over all there is holds the interpreter, half a second for four million containers; and a
    big value makes many, of which nearly none is garbage yet.
    """
    new, young, old = gc.get_threshold()
    gc.set_threshold(new, young, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(new, young, old)


@functools.lru_cache(maxsize=1)
def _thread(process: int) -> ThreadPoolExecutor:
    """Return the thread of a process; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(1, "crew-values")
