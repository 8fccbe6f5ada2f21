"""Where a call is in the program: its step, the tasks it is made in, and its position there.

A place depends on the user's program alone. Tasks that this package makes for its own work run
outside any scope: they take no number, and calls of a context are refused in them.
"""

import asyncio
import functools
import re
import sys
from collections.abc import Coroutine
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from types import CodeType, FrameType
from typing import Any, Protocol, TypeVar

from crew.define import define, frozen
from crew.errors import GraphError

T = TypeVar("T")

_SPECIAL_IN_NAMES = re.compile(r"[/%:~]|^=|\.(?=\d+$)")
_SPECIAL_IN_KEYS = re.compile(r"[/%~]")
"""What tells the parts of a path apart, or their kinds, and so has to be written otherwise."""
_MADE_BY_WAIT_FOR = asyncio.wait_for.__code__
_MADE_BY_AS_COMPLETED = asyncio.as_completed.__code__
_ASYNCIO = asyncio.tasks.__file__.rpartition("tasks")[0]


class Owner(Protocol):
    """Whoever the tasks of one step belong to."""

    def add(self, task: "asyncio.Task[Any]", scope: "Scope") -> None: ...


@define
class Scope:
    """Where the calls of one asyncio task of a step get their paths.

    `prefix` names the attempts it is in, and `lasting` does not: what further attempts must find
    again is named by the latter. Calls by position, by key, and tasks are told apart in a path:
    `fetch`, `fetch.1` · `=refund` · `branch:0`.
    """

    owner: Owner
    prefix: str
    lasting: str
    tries: str = ""
    """The attempts of the calls around, such as `~2`: what a key does not tell by itself."""
    is_placed: bool = False
    """Whether the next task that is made here is in this very place, such as an item of a map."""
    _calls: dict[str, int] | None = None
    _tasks: dict[str, int] | None = None

    def next(self, name: str) -> str:
        """Return the last part of the path of the next call of this name in this task."""
        if self._calls is None:
            self._calls = {}
        position = self._calls.get(name, 0)
        self._calls[name] = position + 1
        return f"{as_part(name)}.{position}" if position else as_part(name)

    def beneath(self, part: str) -> "Scope":
        """Return the scope of a task that is made here, as `part` of the path."""
        prefix = f"{self.prefix}/{part}"
        # Where nothing is tried again both are the same text, which need not be made twice.
        lasting = prefix if self.lasting is self.prefix else f"{self.lasting}/{part}"
        return Scope(self.owner, prefix, lasting, self.tries)

    def placed(self, part: str) -> "Scope":
        """Return the scope of a task that is made for the place `part`."""
        scope = self.beneath(part)
        scope.is_placed = True
        return scope

    def of_task(self, coroutine: Coroutine[Any, Any, Any]) -> "Scope":
        """Return the scope of a task that is made here for a coroutine.

        Raises:
            GraphError: it is made by `asyncio.as_completed`, which makes them in no order.
        """
        if self.is_placed:
            self.is_placed = False
            return self
        maker = _maker(sys._getframe(2))  # noqa: SLF001  who makes a task is nowhere else
        if maker is _MADE_BY_WAIT_FOR:
            return self  # newer versions of Python wait in the caller's own task
        if maker is _MADE_BY_AS_COMPLETED:
            coroutine.close()
            raise GraphError(
                message="asyncio.as_completed() makes tasks of coroutines in an order that "
                "changes; make them first: as_completed([create_task(c) for c in coroutines])"
            )
        name = _name_of(coroutine)
        if self._tasks is None:
            self._tasks = {}
        number = self._tasks.get(name, 0)
        self._tasks[name] = number + 1
        return self.beneath(f"{name}:{number}")


@frozen
class Inside:
    """Code that this package runs for a step, in which no call of a context is journalled."""

    what: str


SCOPE: ContextVar[Scope | Inside | None] = ContextVar("crew_scope", default=None)


_ENDED_IN_A_GROUP = asyncio.TaskGroup._on_task_done.__code__  # noqa: SLF001  nowhere else


class Task(asyncio.Task[T]):
    """A task that counts the cancels which somebody asked for, and no others.

    A group of which a task fails cancels the task around it, and takes that back at the end of its
    block; but not if that end was reached before: see `asyncio.TaskGroup.__aexit__`.
    """

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        is_new = super().cancel(msg)
        if is_new and _is_left_group(sys._getframe(1)):  # noqa: SLF001  nobody else says who asks
            self.uncancel()
        return is_new


def _is_left_group(caller: FrameType) -> bool:
    group = caller.f_locals["self"] if caller.f_code is _ENDED_IN_A_GROUP else None
    return group is not None and group._exiting  # noqa: SLF001


def task_factory(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    *,
    context: Variables | None = None,
    **options: Any,
) -> asyncio.Task[T]:
    """Make a task that knows its place among its parent's; for `loop.set_task_factory`."""
    scope = SCOPE.get() if context is None else context.get(SCOPE)
    if type(scope) is not Scope:
        return Task(coroutine, loop=loop, context=context, **options)
    inner = scope.of_task(coroutine)
    context = copy_context() if context is None else context.copy()
    context.run(SCOPE.set, inner)
    task = Task(coroutine, loop=loop, context=context, **options)
    scope.owner.add(task, inner)
    return task


@functools.lru_cache(maxsize=4096)
def as_part(name: str) -> str:
    """Return a name as one part of a path."""
    return _SPECIAL_IN_NAMES.sub(_escaped, name)


def as_key(key: str) -> str:
    """Return the part of a path that stands for a key of the user's.

    Raises:
        GraphError: it is no text, or an empty one.
    """
    if not isinstance(key, str) or not key:
        raise GraphError(message=f"a key is a text of one letter at least, not {key!r:.200}")
    return f"={_SPECIAL_IN_KEYS.sub(_escaped, key)}"


def _escaped(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _name_of(coroutine: Coroutine[Any, Any, Any]) -> str:
    """Return the name of a coroutine's function, from where it was defined."""
    return _own_name(getattr(coroutine, "__qualname__", type(coroutine).__qualname__))


@functools.lru_cache(maxsize=4096)
def _own_name(name: str) -> str:
    return name.rpartition("<locals>.")[2].removeprefix("Context.")


def _maker(frame: FrameType | None) -> CodeType | None:
    """Return which of the two functions of asyncio that matter is making a task, if one is."""
    while frame is not None and frame.f_code.co_filename.startswith(_ASYNCIO):
        if frame.f_code in (_MADE_BY_WAIT_FOR, _MADE_BY_AS_COMPLETED):
            return frame.f_code
        frame = frame.f_back
    return None


class entered:  # noqa: N801  reads as `with entered(scope)`
    """A block in which calls get their paths in `scope`, or are refused `Inside` something."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope | Inside) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = SCOPE.set(self._scope)

    def __exit__(self, *exc: object) -> None:
        SCOPE.reset(self._token)
