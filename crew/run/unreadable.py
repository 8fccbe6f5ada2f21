"""What is said of an event that this code cannot fold: what the journal holds, and what it has."""

from crew.errors import Unreadable
from crew.event import Event
from crew.fold.paths import base_path
from crew.graph.node import type_name
from crew.graph.wiring import Wiring

MOST_SHOWN = 200
"""Letters of an event's data that are quoted."""


def unreadable_event(run: str, event: Event, error: Exception, wiring: Wiring) -> Unreadable:
    """Return the error of an event that could not be folded, from the error that came up."""
    problem = f"{type(error).__name__}: {error}"
    return Unreadable(
        run=run,
        path=event.path,
        recorded=f"{event.kind} with {event.data!r:.{MOST_SHOWN}}",
        asked=f"{_side_of(wiring, event.path)} ({problem:.{MOST_SHOWN}})",
    )


def _side_of(wiring: Wiring, path: str) -> str:
    """Return what the code has at a path: what its node takes and gives, or which nodes it has."""
    name = base_path(path).partition("/")[0].partition("[")[0]
    node = wiring.nodes.get(name)
    if node is None:
        return f"the nodes {', '.join(wiring.nodes)}"
    takes = " | ".join(map(type_name, node.takes)) or "nothing"
    return f"a node {name} that takes {takes} and gives {' | '.join(wiring.gives[name])}"
