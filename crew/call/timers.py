"""The timers that code of steps has set in an event loop, as `asyncio.timeout` does."""

import asyncio
from collections.abc import Callable
from contextvars import Context as Variables
from typing import Any
from weakref import WeakKeyDictionary

from crew.call.lineage import SCOPE, Owner, Scope

_SEEN = "_crew_timers"
"""Where the timers of a loop are kept that does not show them."""


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """See the timers that are set from now on, in a loop that does not show them, as uvloop."""
    if hasattr(loop, "_scheduled") or hasattr(loop, _SEEN):
        return
    seen = WeakKeyDictionary[asyncio.TimerHandle, Owner]()
    setattr(loop, _SEEN, seen)
    for name in ("call_at", "call_later"):
        setattr(loop, name, _seeing(getattr(loop, name), seen))


def _seeing(
    set_timer: Callable[..., asyncio.TimerHandle],
    seen: "WeakKeyDictionary[asyncio.TimerHandle, Owner]",
) -> Callable[..., asyncio.TimerHandle]:
    def set_and_see(
        when: float, callback: Callable[..., object], *args: Any, context: Variables | None = None
    ) -> asyncio.TimerHandle:
        timer = set_timer(when, callback, *args, context=context)
        scope = SCOPE.get() if context is None else context.get(SCOPE)
        if type(scope) is Scope:
            seen[timer] = scope.owner
        return timer

    return set_and_see


def owners(loop: asyncio.AbstractEventLoop) -> list[Owner]:
    """Return whose code has set a timer that runs, each as often as it has."""
    shown = getattr(loop, "_scheduled", None)
    if shown is None:
        seen: WeakKeyDictionary[asyncio.TimerHandle, Owner] = getattr(loop, _SEEN)
        now = loop.time()
        return [o for timer, o in seen.items() if not timer.cancelled() and timer.when() > now]
    scopes = (timer._context.get(SCOPE) for timer in shown if not timer.cancelled())  # noqa: SLF001
    return [scope.owner for scope in scopes if type(scope) is Scope]
