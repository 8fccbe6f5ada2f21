"""The speed of the journal and of the endpoint beside their peers: every topic, one table.

Each program is a process of its own; programs that are compared run in interleaved rounds. Only
ratios are to be trusted: the machine is shared. Exits with 1 when a goal is not reached.

    make bench
    make bench BENCH="steps resume --rounds 5"
    make bench BENCH="hosts --base ../base"
"""

import subprocess
import sys
from importlib.metadata import version

import disk
import endpoint
import hosts
import kills
import race
import resume
import start
import steps
import waiting

TOPICS = {
    topic.__name__: topic for topic in (steps, disk, resume, start, waiting, kills, endpoint, hosts)
}
_PEERS = ("langgraph", "langgraph-checkpoint-sqlite", "dbos", "pydantic-graph", "litellm")


def main() -> None:
    options = race.options_from(__doc__ or "", tuple(TOPICS))
    print(_machine(options), flush=True)
    rows = [row for name in options.topics or TOPICS for row in _rows(name, options)]
    sys.exit(not race.show(rows))


def _rows(name: str, options: race.Options) -> list[race.Row]:
    print(f"… {name}", file=sys.stderr, flush=True)
    try:
        return TOPICS[name].rows(options)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        # The other topics' figures are worth their minutes whatever happened to this one.
        print(error, file=sys.stderr)
        return [race.Row(f"{name}: a program failed", (), "", reached=False)]


def _machine(options: race.Options) -> str:
    ask = "import sys; from importlib.metadata import version; print([*map(version, sys.argv[1:])])"
    peers = subprocess.run(
        [options.peer_python, "-c", ask, *_PEERS], capture_output=True, text=True, check=True
    ).stdout.strip()
    return (
        f"{race.machine()}, crew {version('raycrew')}; "
        f"{', '.join(_PEERS)}: {peers}; {options.rounds} rounds"
    )


if __name__ == "__main__":
    main()
