"""The arguments of a journalled call, as copies: what it does to them stays its own.

A call that was made before a crash is not made again, so what it would do to its caller's list
would not be done again either.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

from crew.errors import OutputInvalid
from crew.value.same import shown

_CONSTANT = frozenset({str, int, bool, float, bytes, type(None)})


def with_own_arguments(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a function and its arguments, as copies that share nothing with the caller's.

    A run's context is handed on as it is. What a `functools.partial` holds is copied, too. What
    stands at two places is one thing in the copies as well.

    Raises:
        OutputInvalid: an argument cannot be copied, as a connection cannot.
    """
    if not isinstance(function, functools.partial):
        return function, own_copy(arguments)
    held = own_copy((*function.args, *function.keywords.values(), *arguments))
    first, last = len(function.args), len(held) - len(arguments)
    kept = dict(zip(function.keywords, held[first:last], strict=True))
    return functools.partial(function.func, *held[:first], **kept), held[last:]


def own_copy(value: Any) -> Any:
    """Return a copy that shares nothing with `value` that could change.

    Raises:
        OutputInvalid: it cannot be copied.
    """
    parts = value if type(value) is tuple else (value,)
    if _CONSTANT.issuperset(map(type, parts)):
        return value
    # What is a context is found at the top alone: nothing that is data holds one.
    contexts = {id(part): part for part in parts if getattr(type(part), "is_crew_context", False)}
    try:
        return copy.deepcopy(value, contexts)
    except Exception as error:  # a class's own way of being copied may raise anything
        raise OutputInvalid(
            message=f"an argument of a journalled call must be data, of which the call gets a copy "
            f"of its own; {shown(value)} cannot be copied: {type(error).__name__}"
        ) from error
