"""Functions that take an idempotency key, by what else they are given: for type checkers alone.

The key is handed over by its name, wherever its parameter stands, which a `Callable` cannot say.
"""

from typing import Protocol

from typing_extensions import TypeVar

__all__ = ["Keyed0", "Keyed1", "Keyed2", "Keyed3", "Keyed4"]

A = TypeVar("A", contravariant=True)
B = TypeVar("B", contravariant=True)
C = TypeVar("C", contravariant=True)
D = TypeVar("D", contravariant=True)
R = TypeVar("R", covariant=True)


class Keyed0(Protocol[R]):
    def __call__(self, *, idempotency_key: str) -> R: ...


class Keyed1(Protocol[A, R]):
    def __call__(self, a: A, /, *, idempotency_key: str) -> R: ...


class Keyed2(Protocol[A, B, R]):
    def __call__(self, a: A, b: B, /, *, idempotency_key: str) -> R: ...


class Keyed3(Protocol[A, B, C, R]):
    def __call__(self, a: A, b: B, c: C, /, *, idempotency_key: str) -> R: ...


class Keyed4(Protocol[A, B, C, D, R]):
    def __call__(self, a: A, b: B, c: C, d: D, /, *, idempotency_key: str) -> R: ...
