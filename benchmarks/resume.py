"""The next step after kill -9: from opening the store in a fresh process to the step's body.

One process writes and is killed with SIGKILL when it says that so many steps are finished; each
measurement then starts from a copy of the files that it left.

    python benchmarks/resume.py --peer-python PYTHON
"""

import shutil
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import race

LENGTHS = (100, 1_000, 10_000)
DBOS_LENGTHS = (100, 1_000)  # its 10,000 steps take a minute to write: --full

_FILES = {
    "graph": ("ours/resume.py", ("graph",)),
    "code": ("ours/resume.py", ("code",)),
    "langgraph": ("peers/langgraph_resume.py", ()),
    "dbos": ("peers/dbos_resume.py", ()),
}


def rows(options: race.Options) -> list[race.Row]:
    return [row for steps in LENGTHS for row in _of_length(steps, options)]


def _of_length(steps: int, options: race.Options) -> list[race.Row]:
    names = [n for n in _FILES if n != "dbos" or options.full or steps in DBOS_LENGTHS]
    taken: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        left = {name: stack.enter_context(_killed(name, steps, options)) for name in names}
        for _ in range(options.rounds):
            for name in names:
                taken[name].append(_resumed(name, steps, left[name], options))
    return _shown(steps, taken)


def _program(name: str, steps: int, phase: str) -> race.Program:
    file, more = _FILES[name]
    return race.Program(file, (str(steps), phase, *more))


@contextmanager
def _killed(name: str, steps: int, options: race.Options) -> Iterator[str]:
    """Give the folder that a process left which was killed after so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        command = _program(name, steps, "write").command(options, folder)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=race.environment()
        ) as child:
            assert child.stdout is not None
            late = threading.Timer(race.SECONDS_EACH, child.kill)
            late.start()
            ready = child.stdout.readline()
            late.cancel()
            child.kill()
        if ready != "ready\n":
            raise RuntimeError(f"{name} ended before its {steps} steps were done")
        yield folder


def _resumed(name: str, steps: int, left: str, options: race.Options) -> float:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        shutil.copytree(left, copy)
        return race.run(_program(name, steps, "resume"), options, str(copy))["ms"]


def _shown(steps: int, taken: dict[str, list[float]]) -> list[race.Row]:
    work = f"next step after kill -9 at {steps:,}"
    per_call = [1e3 * ms / steps for ms in taken["code"]]
    found = [race.bound(f"{work}, graph", "ms", taken["graph"], 5)]
    for name, peer in (("langgraph", "LangGraph"), ("dbos", "DBOS")):
        if name in taken:
            found.append(race.times(f"{work}, graph", "ms", taken["graph"], peer, taken[name]))
    if "dbos" in taken:
        found.append(race.times(f"{work}, code", "ms", taken["code"], "DBOS", taken["dbos"]))
    else:
        found.append(race.Row(f"{work}, code", taken["code"], "ms"))
    # Below 1,000 calls the fixed part, opening and taking over, is most of it.
    goal = 20 if steps >= 1_000 else None
    reached = None if goal is None else statistics.median(per_call) <= goal
    wanted = "" if goal is None else f"<= {goal}"
    found.append(race.Row(f"{work}, per call", per_call, "us", wanted=wanted, reached=reached))
    return found


if __name__ == "__main__":
    race.main(__doc__, rows)
