"""Agents in Ray hosts: their calls beside another checkout's and beside one process, and tokens.

    git worktree add ../base b3b91aa
    make bench BENCH="hosts --base ../base"
    python benchmarks/hosts.py [--base ../base] [--full]

The other checkout maps fewer items, unless --full: there each takes longer the more there are.
"""

import race

MAPPED = (1_000, 10_000)
MOST_OF_BASE = 2_000
ALONE = 200
STREAMS = 64
TOKENS_EACH = 2_000
AT_LEAST = 8
OF_ONE_PROCESS = 0.5
ALONE_MS = 2.5
TOKENS_A_SECOND = 20_000


def rows(options: race.Options) -> list[race.Row]:
    works = (f"alone={ALONE}", *(f"map={size}" for size in MAPPED))
    programs = {
        "crew": race.Program("ours/hosts.py", ("ray", *works, f"tokens={STREAMS}")),
        "local": race.Program("ours/hosts.py", ("local", *works)),
    }
    if options.base is not None:
        of_base = (f"alone={ALONE}", *(f"map={_of_base(size, options)}" for size in MAPPED))
        programs["base"] = race.Program("ours/hosts.py", ("ray", *of_base), of_base=True)
    figures = race.race(programs, options)
    return [
        *_alone(figures),
        *(row for size in MAPPED for row in _mapped(figures, size, options)),
        _tokens(figures),
    ]


def _of_base(size: int, options: race.Options) -> int:
    return size if options.full else min(size, MOST_OF_BASE)


def _alone(figures: race.Figures) -> list[race.Row]:
    work, what = f"alone={ALONE}", "an agent's call in a host, alone"
    ours = _each(figures, "crew", work, "wall", 1e-3)
    found = [race.bound(what, "ms", ours, ALONE_MS)]
    if "base" in figures:
        theirs = _each(figures, "base", work, "wall", 1e-3)
        found.append(race.times(what, "ms", ours, "the other checkout", theirs))
    return found


def _mapped(figures: race.Figures, size: int, options: race.Options) -> list[race.Row]:
    found = []
    for clock in ("wall", "cpu"):
        what, unit = f"an agent's call in a host, {size:,} by map ({clock})", 1e-6 * size
        ours = _each(figures, "crew", f"map={size}", clock, unit)
        if "base" in figures:
            fewer = _of_base(size, options)
            theirs = _each(figures, "base", f"map={fewer}", clock, 1e-6 * fewer)
            other = f"the other, {fewer:,}"
            found.append(_row(what, ours, other, theirs, AT_LEAST, clock))
        theirs = _each(figures, "local", f"map={size}", clock, unit)
        found.append(_row(what, ours, "in one process", theirs, OF_ONE_PROCESS, clock))
    return found


def _row(
    what: str, ours: list[float], peer: str, theirs: list[float], at_least: float, clock: str
) -> race.Row:
    return race.times(what, "us", ours, peer, theirs, at_least if clock == "wall" else None)


def _tokens(figures: race.Figures) -> race.Row:
    unit = 1e-6 * STREAMS * TOKENS_EACH
    ours = _each(figures, "crew", f"tokens={STREAMS}", "wall", unit)
    most = 1e6 / TOKENS_A_SECOND
    return race.bound(f"a token through hosts, {STREAMS} streams (wall)", "us", ours, most)


def _each(figures: race.Figures, name: str, work: str, clock: str, unit: float) -> list[float]:
    return [figure[work][clock] / unit for figure in figures[name]]


if __name__ == "__main__":
    race.main(__doc__, rows)
