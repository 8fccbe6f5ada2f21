"""Start-up: `import crew`, and a durable hello from nothing, from process start to process end.

python benchmarks/start.py --peer-python PYTHON
"""

import subprocess
import tempfile
import time

import race

_PROGRAMS = {
    "floor": "ours/floor.py",
    "import": "ours/bare.py",
    "hello": "ours/hello.py",
    "langgraph import": "peers/langgraph_bare.py",
    "langgraph hello": "peers/langgraph_hello.py",
}
_FLOOR = "pydantic + sqlite + asyncio"


def rows(options: race.Options) -> list[race.Row]:
    taken: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for warm in (False, *[True] * options.rounds):
        for name, file in _PROGRAMS.items():
            seconds = _seconds(race.Program(file), options)
            if warm:  # the first one compiles, and fetches files from the disk
                taken[name].append(seconds)
    return [
        race.bound("import crew", "s", taken["import"], 0.15),
        race.times("import crew", "s", taken["import"], _FLOOR, taken["floor"]),
        race.times("import crew", "s", taken["import"], "LangGraph", taken["langgraph import"]),
        race.bound("a durable hello from nothing", "s", taken["hello"], 0.3),
        race.times("a durable hello from nothing", "s", taken["hello"], _FLOOR, taken["floor"]),
        race.times(
            "a durable hello from nothing",
            "s",
            taken["hello"],
            "LangGraph",
            taken["langgraph hello"],
        ),
    ]


def _seconds(program: race.Program, options: race.Options) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = program.command(options, folder)
        began = time.perf_counter()
        subprocess.run(command, check=True, env=race.environment())
        return time.perf_counter() - began


if __name__ == "__main__":
    race.main(__doc__, rows)
