"""Code of the user's, called: by itself, in a thread, or from a script; and what it raises."""

import asyncio
import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, Future
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any, TypeVar

from crew.errors import CrewError, NotAnException

T = TypeVar("T")
MOST_THREADS = 512
"""How many synchronous functions are under way in a process at once; further ones wait."""


async def invoke(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function of the user's; a synchronous one in a thread, off the event loop.

    Raises:
        NotAnException: it raised what would end more than this call, and nobody asked for that.
    """
    try:
        if _is_async(function):
            return await function(*arguments, **options)
        result = await _in_thread(functools.partial(function, *arguments, **options))
        return await result if isinstance(result, Awaitable) else result
    except (Exception, KeyboardInterrupt):
        raise
    except asyncio.CancelledError as error:
        if is_asked_to_stop():
            raise
        raise not_an_exception(error) from error
    except BaseException as error:
        raise not_an_exception(error) from error


def _is_async(function: Callable[..., Any]) -> bool:
    target = function.func if isinstance(function, functools.partial) else function
    code = getattr(target, "__code__", None)  # a method shows that of its function
    if code is not None and code.co_flags & inspect.CO_COROUTINE:
        return True
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        getattr(target, "__call__", None)  # noqa: B004  asks what it is, not whether it is
    )


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread, and bring whatever it raises back as it is.

    A future takes no StopIteration, and an event loop ends at a SystemExit.
    """
    thread, loop = _Thread(function), asyncio.get_running_loop()
    call = functools.partial(copy_context().run, thread.run)
    try:
        outcome, error = await loop.run_in_executor(_threads(os.getpid()), call)
    except asyncio.CancelledError:
        thread.give_up()
        raise
    if isinstance(error, StopIteration):
        raise not_an_exception(error) from error
    if error is not None:
        raise error
    return outcome


@functools.lru_cache(maxsize=1)
def _threads(process: int) -> Executor:
    """Return the threads of a process; one that was forked has none of its parent's.

    asyncio's own are four more than there are processors: a few functions that block, as those of
    tools that wait for a network, would hold up every other run.
    """
    from concurrent.futures import ThreadPoolExecutor  # it loads when first needed

    return ThreadPoolExecutor(MOST_THREADS, "crew-functions")


class _Thread:
    """One call in a thread, whose caller may stop waiting for it.

    What it returns then is nobody's any more: a coroutine, such as that of a lambda, is closed, so
    that Python does not warn of one that was never awaited.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._returned: Any = None
        self._is_given_up = False

    def run(self) -> tuple[Any, BaseException | None]:
        try:
            self._returned = self._function()
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the caller's
            return None, error
        # Set before it is asked, as in `give_up`: one of the two sees both.
        if self._is_given_up:
            self._close()
        return self._returned, None

    def give_up(self) -> None:
        self._is_given_up = True
        self._close()

    def _close(self) -> None:
        if inspect.iscoroutine(self._returned):
            self._returned.close()


def on_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], T]) -> T:
    """Do something on the event loop, for code that may run in a thread, and return what it gives.

    Whoever drives a run needs no lock, since it does all there.
    """
    if _loop_here() is loop:
        return work()
    done = Future[T]()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the caller's
            done.set_exception(error)

    loop.call_soon_threadsafe(do, context=Variables())
    return done.result()


def run_sync(work: Coroutine[Any, Any, T], advice: str) -> T:
    """Run a coroutine to its end from a thread without an event loop.

    Args:
        work: the coroutine.
        advice: what to await instead where there is a loop.

    Raises:
        CrewError: there is a running loop, as in a notebook.
    """
    if _loop_here() is None:
        return asyncio.run(work)
    work.close()
    raise CrewError(
        message=f"run_sync() cannot run inside a running event loop (a notebook has one); "
        f"write `await {advice}` instead"
    )


def _loop_here() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_asked_to_stop() -> bool:
    """Return whether somebody cancelled the current task."""
    return cancels() > 0


def cancels() -> int:
    """Return how many times the current task was cancelled."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def not_an_exception(error: BaseException) -> NotAnException:
    """Return the error of code that raised what is no ordinary exception."""
    return NotAnException(
        message=f"the code raised {type(error).__name__}, which would end more than this call, and "
        "nobody asked for that; raise an Exception instead"
    )
