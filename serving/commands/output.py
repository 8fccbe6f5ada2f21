"""Where a command prints: results to standard output, everything else to standard error.

Ray prints warnings of its own to standard output, from threads, whatever it is told. So a command
keeps the real standard output for itself, and lets what others print go to standard error, without
Ray's lines: that a host died is told by the run's own events.
"""

import io
import json
import os
import sys
from typing import Any, TextIO

from rich.console import Console

_kept: dict[str, TextIO] = {}


def results() -> TextIO:
    """Return the real standard output; whatever else is printed there goes to standard error."""
    if "stdout" not in _kept:
        sys.stdout.flush()
        _kept["stdout"] = os.fdopen(os.dup(1), "w", encoding="utf-8", closefd=True)
        os.dup2(2, 1)
        sys.stdout = _WithoutRay()
    return _kept["stdout"]


class _WithoutRay(io.TextIOBase):
    """Standard error, for what is printed to standard output; Ray's own lines are left out."""

    _dropped = False

    def write(self, text: str) -> int:
        # Python's print writes a line and its end apart.
        is_end = self._dropped and text == "\n"
        self._dropped = "(raylet)" in text or "(pid=" in text
        if not (self._dropped or is_end):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


def notes(*, quiet: bool = False) -> Console:
    """Return the console for what is not a result."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)


def show(text: str) -> None:
    """Print a result."""
    out = results()
    out.write(text + "\n")
    out.flush()


def show_json(value: Any) -> None:
    """Print a result as JSON."""
    show(json.dumps(value, ensure_ascii=False, indent=2))
