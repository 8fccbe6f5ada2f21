"""Dataclasses for what is inside: those that are frozen are guarded by type checkers alone.

For a class, `dataclass(frozen=True, slots=True)` writes and compiles six functions, and its guard
sets each field by a call. With some 180 such classes that was a sixth of what a program does up to
its first call, in instructions. A class made here has an `__init__` of its own, and shares the
others.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform()
def define(cls: type[T]) -> type[T]:
    """Make a class a dataclass with slots that is compared and shown by its fields."""
    return _made(cls, __eq__=_equal, __repr__=_shown, __hash__=None)


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Make a class a dataclass with slots whose fields stay, and that is hashed by them too."""
    return _made(cls, __eq__=_equal, __repr__=_shown, __hash__=_hash)


def _made(cls: type[T], **shared: Callable[..., Any] | None) -> type[T]:
    own = cls.__dict__
    made = dataclass(slots=True, eq=False, repr=False)(cls)
    for name, method in shared.items():
        if name not in own:
            setattr(made, name, method)
    return made


def _equal(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _compared(self) == _compared(other)


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _compared(of: Any) -> tuple[Any, ...]:
    return tuple([getattr(of, field.name) for field in fields(of) if field.compare])


def _shown(self: Any) -> str:
    shown = [f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"
