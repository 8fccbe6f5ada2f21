"""The paths of events: which step one is in, and what lies beneath it."""

from collections.abc import Iterator


def base_path(path: str) -> str:
    """Return a step's path without its attempt: `look_up[2]` of `look_up[2]~3`."""
    return path.partition("~")[0]


def step_of(path: str) -> str:
    """Return the step of a call's path, without its attempt: `look_up[2]` of `look_up[2]~2/a`."""
    step = path.partition("/")[0]
    return base_path(step) if "~" in step else step


def is_within(path: str, place: str) -> bool:
    """Return whether a path is `place`, or beneath it."""
    return path == place or path.startswith(f"{place}/")


def places_around(path: str) -> Iterator[str]:
    """Yield what a path lies within, the innermost first: attempts, and what they are tries at."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
        tried, mark, attempt = path.rpartition("~")
        if mark and attempt.isdecimal():
            yield tried
