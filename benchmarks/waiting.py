"""Runs that wait for a person: memory of each in the process, and time of an answer.

python benchmarks/waiting.py --peer-python PYTHON [--full]
"""

import race

SIZES = (100, 1_000, 10_000)
SIZES_FULL = (*SIZES, 100_000)
ROUNDS = 1  # it waits for every size to leave memory, for minutes


def rows(options: race.Options) -> list[race.Row]:
    sizes = SIZES_FULL if options.full else SIZES
    program = race.Program("ours/waiting.py", tuple(map(str, sizes)))
    rounds = race.race({"crew": program}, options, rounds=min(ROUNDS, options.rounds))["crew"]
    found = [_row(rounds, size) for size in sizes]
    most = sizes[-1]
    blocks = _of(rounds, most, "blocks")
    grows = [of[str(most)]["answer_ms"] / of[str(sizes[0])]["answer_ms"] for of in rounds]
    return [
        *found,
        race.bound(f"an answer, {most:,} waiting / {sizes[0]} waiting", "x", grows, 1.2),
        race.bound(f"blocks kept a run, {most:,} waiting", "blocks", blocks, 0.1),
        # Without a goal: what all of them took at their peak, before they left, is not given back.
        race.Row(f"resident bytes a run, {most:,} waiting", _of(rounds, most, "bytes"), "B"),
        race.Row(f"until {most:,} have left", _of(rounds, most, "leave_s"), "s"),
        race.Row(f"starting one of {most:,}", _of(rounds, most, "start_us"), "us"),
    ]


def _row(rounds: list, size: int) -> race.Row:
    return race.Row(f"an answer, {size:,} waiting", _of(rounds, size, "answer_ms"), "ms")


def _of(rounds: list, size: int, key: str) -> list[float]:
    return [of[str(size)][key] for of in rounds]


if __name__ == "__main__":
    race.main(__doc__, rows)
