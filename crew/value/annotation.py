"""What an annotation says."""

import types
from typing import Annotated, Any, Union, get_args, get_origin


def describe(annotation: Any) -> str:
    """Return an annotation as its author would write it."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    if is_union(annotation):
        return " | ".join(describe(member) for member in get_args(annotation))
    if args := get_args(annotation):
        name = getattr(get_origin(annotation), "__name__", str(get_origin(annotation)))
        return f"{name}[{', '.join(describe(item) for item in args)}]"
    return str(annotation)


def union_members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone; `Annotated` is looked through."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if not is_union(annotation):
        return (annotation,)
    return tuple(member for part in get_args(annotation) for member in union_members(part))


def is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)
