"""Where a command prints: results to standard output, everything else to standard error.

Ray prints warnings of its own to standard output, from threads, whatever it is told. So a command
keeps the real standard output for itself, and lets everybody else's go to standard error.
"""

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
    return _kept["stdout"]


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
