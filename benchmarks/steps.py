"""A durable no-op step beside its peers': one run, and 64 at once.

python benchmarks/steps.py --peer-python PYTHON
"""

import race

STEPS = 1000
RUNS = 64
STEPS_OF_MANY = 100


def rows(options: race.Options) -> list[race.Row]:
    return [*_one(options), *_many(options)]


def _one(options: race.Options) -> list[race.Row]:
    figures = race.race(
        {
            "crew": race.Program("ours/loop.py", (str(STEPS), "1")),
            "langgraph": race.Program("peers/langgraph_loop.py", (str(STEPS), "1", "threads")),
            "dbos": race.Program("peers/dbos_loop.py", (str(STEPS),)),
            "pydantic_graph": race.Program("peers/pydantic_graph_loop.py", (str(STEPS),)),
        },
        options,
    )
    goals = {"langgraph": 20, "dbos": 60, "pydantic_graph": 1}
    shown = {
        "langgraph": "LangGraph sync",
        "dbos": "DBOS",
        "pydantic_graph": "pydantic_graph, none",
    }
    return [
        race.times(
            f"a durable step, one run ({clock})",
            "us",
            race.column(figures, "crew", clock),
            shown[peer],
            race.column(figures, peer, clock),
            goal if clock == "wall" else None,
        )
        for peer, goal in goals.items()
        for clock in ("wall", "cpu")
    ]


def _many(options: race.Options) -> list[race.Row]:
    size = (str(STEPS_OF_MANY), str(RUNS))
    figures = race.race(
        {
            "crew": race.Program("ours/loop.py", size),
            "threads": race.Program("peers/langgraph_loop.py", (*size, "threads")),
            "async": race.Program("peers/langgraph_loop.py", (*size, "async")),
        },
        options,
    )
    best = min(("threads", "async"), key=lambda name: min(race.column(figures, name, "wall")))
    return [
        race.times(
            f"a durable step, {RUNS} runs at once ({clock})",
            "us",
            race.column(figures, "crew", clock),
            f"LangGraph {best}",
            race.column(figures, best, clock),
            100 if clock == "wall" else None,
        )
        for clock in ("wall", "cpu")
    ]


if __name__ == "__main__":
    race.main(__doc__, rows)
