"""Bytes on disk and time a turn: 1,000 turns of 400 bytes asked and 400 answered.

Ratios to the bytes said: 1 would be the texts and nothing else. LangGraph's store grows with the
square of the turns (1.2 GB), so it runs once.

    python benchmarks/disk.py --peer-python PYTHON
"""

import statistics

import race
from words import TEXT_BYTES

TURNS = 1000
EARLY = slice(5, 15)
LATE = slice(TURNS - 10, TURNS)


def rows(options: race.Options) -> list[race.Row]:
    ours = {
        f"{shape} {form}": race.Program("ours/turns.py", (str(TURNS), shape, form))
        for shape in ("runs", "loop")
        for form in ("plain", "deflated")
    }
    floors = {form: race.Program("peers/plain_log.py", (str(TURNS), form)) for form in _GOALS}
    figures = race.race(ours | floors, options)
    figures |= race.race(
        {"langgraph": race.Program("peers/langgraph_turns.py", (str(TURNS),))}, options, rounds=1
    )
    return [*_bytes(figures), *_growth(figures)]


_GOALS = {"plain": 1.45, "deflated": 0.9}


def _bytes(figures: race.Figures) -> list[race.Row]:
    found = []
    for shape, what in (("runs", "1,000 runs of one turn"), ("loop", "one run of 1,000 turns")):
        for form, goal in _GOALS.items():
            work, sizes = f"bytes, {what}, {form}", _per_byte(figures, f"{shape} {form}")
            found.append(race.bound(work, "said", sizes, goal))
            found.append(race.times(work, "said", sizes, f"log, {form}", _per_byte(figures, form)))
            if form == "deflated":
                peer = _per_byte(figures, "langgraph")
                found.append(race.times(work, "said", sizes, "LangGraph messages", peer))
    return found


def _per_byte(figures: race.Figures, name: str) -> list[float]:
    return [size / (2 * TEXT_BYTES * TURNS) for size in race.column(figures, name, "bytes")]


def _growth(figures: race.Figures) -> list[race.Row]:
    found = []
    for shape, what in (("runs", "a turn"), ("loop", "a turn in one run")):
        name = f"{shape} deflated"
        early, late = _medians(figures, name, EARLY, 0), _medians(figures, name, LATE, 0)
        found.append(race.Row(f"{what}, turns 6-15", early, "ms"))
        if shape == "runs":
            peer = _medians(figures, "langgraph", LATE, 0)
            found.append(race.times(f"{what}, turns 991-1,000", "ms", late, "LangGraph", peer))
        found.append(race.bound(f"{what}, time: late / early", "x", _ratio(late, early), 1.2))
        early, late = _medians(figures, name, EARLY, 1), _medians(figures, name, LATE, 1)
        found.append(race.Row(f"{what}, bytes written, turns 6-15", early, "KB"))
        found.append(race.bound(f"{what}, bytes: late / early", "x", _ratio(late, early), 1.2))
    return found


def _medians(figures: race.Figures, name: str, turns: slice, which: int) -> list[float]:
    """Return of each round the median turn: milliseconds (0), or kilobytes written (1)."""
    scale = (1e3, 1e-3)[which]
    return [
        scale * statistics.median(turn[which] for turn in figure["turns"][turns])
        for figure in figures[name]
    ]


def _ratio(late: list[float], early: list[float]) -> list[float]:
    return [b / a for a, b in zip(early, late, strict=True)]


if __name__ == "__main__":
    race.main(__doc__, rows)
