"""`crew serve` in processes of its own: several at once, or one anew whenever its code changes.

The parent takes the port, passes it on, and serves nothing itself. Workers know nothing of each
other: what they share is the store, and what their parent counts for all of them. A worker that
dies loses its runs to the others.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from serving.commands.files import Files
from serving.commands.output import show
from serving.commands.shared import Shared

__all__ = ["Ready", "Workers", "announce_to_parent"]

FIRST_WAIT_SECONDS = 0.5
"""Before a worker that ended before it served is tried again; each time twice as long."""
MOST_WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.3
"""How often files are looked at for changes."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a parent tells once all its workers serve: their code and their processes."""

    codes: dict[str, str]
    processes: list[int]


class Workers:
    """Keeps processes of `crew serve` alive on one port, until a signal ends them.

    Args:
        words: the command line of `crew` that each runs.
        count: how many.
        listener: the port; it is closed here once the workers are told to stop, so that nobody
            connects to a server which answers no more.
        files: whose changes end the workers, so that new ones read them; None for none.
        on_ready: called when all serve, and again when they serve after a change.
        console: where it is said what happens to them.
    """

    def __init__(
        self,
        words: Sequence[str],
        count: int,
        listener: socket.socket,
        *,
        files: Files | None,
        on_ready: Callable[[Ready], None],
        console: Console,
    ) -> None:
        self._words, self._count, self._listener = words, count, listener
        self._files, self._on_ready, self._console = files, on_ready, console
        self._shared = Shared()
        self._processes: dict[Process, asyncio.Task[None]] = {}
        """With what attends to each."""
        self._ready: dict[Process, dict[str, str]] = {}
        self._is_announced = False
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()

    async def run(self) -> int:
        """Serve until a signal; return the exit status, of the first worker if it never served."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        watching = asyncio.create_task(self._watch())
        try:
            first = await self._started()
            if self._stopped.is_set() or not self._ready:
                return 0 if self._stopped.is_set() else await first.wait() or 1
            rest = [self._place(None) for _ in range(self._count - 1)]
            await asyncio.gather(self._place(first), *rest)
        finally:
            watching.cancel()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return 0

    def _stop(self, number: int) -> None:
        self._stopped.set()
        self._end_all(number)
        self._listener.close()

    def _end_all(self, number: int) -> None:
        """Send a signal; a worker that does not yet serve has nothing to bring to an end."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number if process in self._ready else signal.SIGTERM)

    async def _place(self, process: Process | None) -> None:
        """Have one worker serve, and another one in its place when it ends."""
        wait = FIRST_WAIT_SECONDS
        while not self._stopped.is_set():
            process = process or await self._started()
            served = process in self._ready
            status = await process.wait()
            self._processes.pop(process).cancel()
            self._ready.pop(process, None)
            if not (self._stopped.is_set() or self._changed.is_set()):
                self._console.print(f"worker {process.pid} ended ({_why(status)})")
                wait = FIRST_WAIT_SECONDS if served else min(2 * wait, MOST_WAIT_SECONDS)
                await self._until_tried_again(0.0 if served else wait)
            process = None
            self._changed.clear()

    async def _started(self) -> Process:
        """Start a worker and wait until it serves, or has ended."""
        process, end = await _start(self._words, self._listener)
        self._processes[process] = asyncio.create_task(self._shared.attend(end))
        if self._stopped.is_set():
            process.terminate()
        assert process.stdout is not None
        if line := await process.stdout.readline():
            self._ready[process] = json.loads(line)
            self._announce()
        return process

    def _announce(self) -> None:
        if len(self._ready) == self._count and not self._is_announced:
            self._is_announced = True
            codes = next(iter(self._ready.values()))
            self._on_ready(Ready(codes, sorted(process.pid for process in self._ready)))

    async def _until_tried_again(self, seconds: float) -> None:
        """Wait: where files are watched for one to change, as the same code would end again."""
        if self._files is not None:
            seconds = 0.0 if not seconds else 3600.0
        waits = {asyncio.create_task(e.wait()) for e in (self._stopped, self._changed)}
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _watch(self) -> None:
        while self._files is not None:
            await asyncio.sleep(LOOK_SECONDS)
            if changed := await asyncio.to_thread(self._files.changed):
                self._console.print(f"{changed} changed; serving it anew", markup=False)
                self._is_announced = False
                self._changed.set()
                self._end_all(signal.SIGINT)


async def _start(words: Sequence[str], listener: socket.socket) -> tuple[Process, socket.socket]:
    """Start a worker; return it, and this end of the sockets between us.

    In a process group of its own, as Ctrl-C is its parent's to tell; without the working directory
    on its path, where folders may be called like ours.
    """
    port = str(listener.fileno())
    mine, its = socket.socketpair()
    with its:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "serving.cli", *words, "--listener", port),
            stdin=its.fileno(),
            stdout=PIPE,
            pass_fds=[listener.fileno()],
            process_group=0,
        )
    return process, mine


def announce_to_parent(codes: dict[str, str]) -> None:
    """Say, in a worker, that it serves, and which code."""
    show(json.dumps(codes))


def _why(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
