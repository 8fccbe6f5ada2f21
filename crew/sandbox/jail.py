"""The jail: a child Python behind Landlock, seccomp and resource limits.

It works in an unprivileged container, at native speed, with the interpreter's own packages. It
shares the host's kernel, so a hole in the kernel is a hole in it; for hostile tenants put a
stronger wall (gVisor, Kata) around the whole process.
"""

import asyncio
import json
import os
import platform
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from crew.errors import SandboxUnavailable
from crew.sandbox import DEFAULT_MEMORY_BYTES, Execution, inside
from crew.sandbox.syscalls import AUDIT_ARCH, clones, refused

MAX_OUTPUT_BYTES = 1 << 20
MAX_ERROR_BYTES = 64 << 10
MAX_FILE_BYTES = 64 << 20
INTERPRETER_BYTES = 256 << 20
"""Address space that Python itself and its libraries take."""

_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/share/zoneinfo")
_FILES = ("/etc/ld.so.cache", "/etc/localtime")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_ENVIRONMENT = {
    "PATH": "",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Jail:
    """Runs each piece of code in a process of its own.

    Raises:
        SandboxUnavailable: the kernel or the processor is none that it was made for.
    """

    def __init__(self) -> None:
        self._machine = platform.machine()
        if sys.platform != "linux" or self._machine not in AUDIT_ARCH:
            raise SandboxUnavailable(
                message=f"code can be isolated on Linux on {' or '.join(AUDIT_ARCH)}, not on "
                f"{sys.platform} on {self._machine}; run the agents on such a machine"
            )
        self._abi = inside.landlock_abi()
        if self._abi < 1:
            raise SandboxUnavailable(
                message="this kernel has no Landlock (Linux 5.13 and later, with `landlock` in "
                "the boot parameter lsm=); code that a model wrote is not run without it"
            )

    @property
    def name(self) -> str:
        return f"jail (Landlock {self._abi}, seccomp, limits)"

    async def run(
        self, code: str, *, seconds: float = 10, memory_bytes: int = DEFAULT_MEMORY_BYTES
    ) -> Execution:
        """Run code; see `crew.sandbox.Sandbox`.

        Raises:
            SandboxUnavailable: the jail could not be applied; the code was not run.
        """
        scratch = await asyncio.to_thread(tempfile.mkdtemp, prefix="crew-jail-")
        began = time.monotonic()
        try:
            order = self._order(code, scratch, seconds, memory_bytes)
            status, output, errors, late = await _execute(order, scratch, seconds)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        if status == inside.NOT_JAILED:
            raise SandboxUnavailable(
                message=f"the jail could not be closed ({errors}), so the code was not run"
            )
        error = _why(status, output, errors, seconds, late=late)
        text = output[:MAX_OUTPUT_BYTES].decode("utf-8", "replace")
        return Execution(text, error, time.monotonic() - began, self.name)

    def _order(self, code: str, scratch: str, seconds: float, memory_bytes: int) -> bytes:
        order = {
            "code": code,
            "parent": os.getpid(),
            "machine": self._machine,
            "arch": AUDIT_ARCH[self._machine],
            "refused": refused(self._machine),
            "clones": clones(self._machine),
            "readable": _readable(),
            "devices": _DEVICES,
            "scratch": scratch,
            "cpu_seconds": max(1, round(seconds)),
            "memory_bytes": memory_bytes + INTERPRETER_BYTES,
            "file_bytes": MAX_FILE_BYTES,
        }
        return json.dumps(order).encode()


async def _execute(order: bytes, scratch: str, seconds: float) -> tuple[int, bytes, str, bool]:
    """Return the exit status, the output, the error text, and whether time ran out."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        inside.__file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=scratch,
        env={**_ENVIRONMENT, "HOME": scratch, "TMPDIR": scratch},
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    late = False
    reading = asyncio.gather(
        _bounded(child.stdout, MAX_OUTPUT_BYTES, child),
        _bounded(child.stderr, MAX_ERROR_BYTES, child),
    )
    try:
        child.stdin.write(order)
        child.stdin.close()
        async with asyncio.timeout(seconds):
            output, errors = await asyncio.shield(reading)
            await child.wait()
    except TimeoutError:
        late = True
        _kill(child)
        output, errors = await reading
    finally:
        _kill(child)
        status = await asyncio.shield(child.wait())
        if not reading.done():
            reading.cancel()
    return status, output, errors.decode("utf-8", "replace"), late


async def _bounded(stream: asyncio.StreamReader, limit: int, child: "_Process") -> bytes:
    """Read up to `limit` bytes; a child that writes more is ended."""
    found = b""
    while len(found) <= limit:
        chunk = await stream.read(1 << 16)
        if not chunk:
            return found
        found += chunk
    _kill(child)
    return found


_Process = asyncio.subprocess.Process


def _kill(child: _Process) -> None:
    if child.returncode is None:
        try:
            child.kill()
        except ProcessLookupError:
            return


def _why(status: int, output: bytes, errors: str, seconds: float, *, late: bool) -> str:
    """Return why the code ended early, or an empty text."""
    if len(output) > MAX_OUTPUT_BYTES:
        return f"stopped: it printed more than {MAX_OUTPUT_BYTES >> 20} MiB"
    if late or status in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"stopped after {seconds:g} s"
    if "MemoryError" in errors:
        return "out of memory"
    if status == -signal.SIGXFSZ:
        return f"stopped: it wrote a file of more than {MAX_FILE_BYTES >> 20} MiB"
    if status < 0:
        return f"stopped by signal {-status}: out of memory, or a call that is not allowed"
    if status:
        return errors.strip()[-2000:] or f"ended with status {status}"
    return ""


def _readable() -> list[str]:
    """Return what the interpreter needs of the disk: its own libraries, and the system's."""
    paths = sysconfig.get_paths()
    own = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own |= {str(Path(sys.base_prefix) / "lib"), str(Path(sys.prefix) / "pyvenv.cfg")}
    return [*sorted(own), *_SYSTEM, *_FILES]
