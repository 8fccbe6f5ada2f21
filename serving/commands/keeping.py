"""Commands that remove what is stored: prune, erase."""

import re
from dataclasses import asdict

from crew.config import Settings
from crew.errors import InputInvalid
from crew.run.retention import Removed
from serving.commands.opening import reading
from serving.commands.output import notes, show_json

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


async def prune_runs(
    settings: Settings, older_than: str | None, keep: int | None, *, as_json: bool
) -> int:
    """Remove runs and conversations that have ended and are old."""
    age = seconds_of(older_than) if older_than is not None else None
    async with reading(settings) as runtime:
        removed = await runtime.prune(older_than=age, keep=keep)
    return _report(removed, "pruned", as_json=as_json)


async def erase_runs(
    settings: Settings, thread: str | None, tenant: str | None, *, as_json: bool
) -> int:
    """Remove a conversation, or everything of a tenant, to the last byte."""
    if (thread is None) == (tenant is None):
        raise InputInvalid(message="say what to erase: --thread NAME or --tenant NAME")
    async with reading(settings, tenant=tenant or "default") as runtime:
        removed = await runtime.erase(thread=thread)
    return _report(removed, "erased", as_json=as_json)


def _report(removed: Removed, word: str, *, as_json: bool) -> int:
    if as_json:
        show_json(asdict(removed))
        return 0
    notes().print(f"{word} {removed.runs} runs")
    for run in removed.kept_for_forks:
        notes().print(f"kept {run}: a fork or a branch that stays stands on it")
    return 0


def seconds_of(text: str) -> float:
    """Return an age in seconds.

    Raises:
        InputInvalid: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|d|w)", text)
    if match is None:
        raise InputInvalid(message=f"{text!r} is no age; write such as 90s, 30min, 12h, 7d or 4w")
    return float(match[1]) * _SECONDS[match[2]]
