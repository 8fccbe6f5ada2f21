"""A model's file from the Hugging Face hub, over plain HTTPS."""

import asyncio
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TypeAlias, cast

from crew.errors import ModelError
from crew.llm.claim import claimed
from crew.llm.gguf import check_gguf

__all__ = ["fetch_from_hub"]

Report: TypeAlias = Callable[[int, int, str], None]

HUB = "https://huggingface.co"
COPY_BYTES = 1 << 20
SECONDS_WITHOUT_A_BYTE = 30.0


async def fetch_from_hub(name: str, folder: Path, report: Report) -> Path:
    """Return the file `owner/repository/path/file.gguf`, kept under its name in `folder`.

    An interrupted download goes on where it stopped. The address of a mirror is taken from
    `HF_ENDPOINT`, the hub's own variable, and a token from `HF_TOKEN`.

    Raises:
        ModelError: the hub cannot be reached or has no such file. Safe to retry.
    """
    path = folder / name
    async with claimed(folder / f".{name.replace('/', '--')}.lock"):
        if not await asyncio.to_thread(path.is_file):
            stopped = threading.Event()
            try:
                await asyncio.to_thread(_fetch, name, path, report, stopped)
            finally:
                stopped.set()
    return path


def _fetch(name: str, path: Path, report: Report, stopped: threading.Event) -> None:
    owner, repository, file = name.split("/", 2)
    host = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    url = f"{host}/{owner}/{repository}/resolve/main/{file}"
    part = path.with_name(f".{path.name}.part")

    def report_file(done: int, total: int) -> None:
        if stopped.is_set():
            raise InterruptedError("cancelled")
        report(done, total, f"fetching {file}")

    try:
        _download(url, part, report_file)
    except (OSError, HTTPException) as error:
        raise ModelError(message=_no_download(url, error), endpoint=host) from error
    check_gguf(part)
    part.replace(path)


def _download(url: str, part: Path, report: Callable[[int, int], None]) -> None:
    done = part.stat().st_size if part.exists() else 0
    with _open(url, done) as response:
        part.parent.mkdir(parents=True, exist_ok=True)
        resumed = response.status == 206
        done = done if resumed else 0
        total = done + int(response.headers.get("content-length") or 0)
        with part.open("ab" if resumed else "wb") as file:
            while piece := response.read(COPY_BYTES):
                file.write(piece)
                done += len(piece)
                report(done, total)
            file.flush()
            os.fsync(file.fileno())
    if done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _open(url: str, start: int) -> HTTPResponse:
    request = urllib.request.Request(url)  # noqa: S310  (the hub's address, not a user's)
    if start:
        request.add_header("Range", f"bytes={start}-")
    if token := os.environ.get("HF_TOKEN"):
        # Not sent on to where the hub redirects: that is another service.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    opened = urllib.request.urlopen(request, timeout=SECONDS_WITHOUT_A_BYTE)  # noqa: S310
    return cast("HTTPResponse", opened)


def _no_download(url: str, error: Exception) -> str:
    status = error.code if isinstance(error, urllib.error.HTTPError) else None
    if status in (401, 403, 404):
        return (
            f"{url} answered {status}: no such file, or it needs a token; check owner, repository "
            "and file name in CREW_MODEL, and set HF_TOKEN for gated models"
        )
    return (
        f"cannot fetch {url}: {error}; try again to go on where it stopped, or fetch the file "
        "elsewhere and set CREW_MODEL to its path"
    )
