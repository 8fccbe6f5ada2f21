"""The state of a thread as one attempt of a step, or of a tool that holds the run, sees it.

What changes it is recorded with the end of whatever made the change: of a tool, of the agent whose
tool that is, of a function in which the agent was called, of the step, and in the end of the run.
So code that is not entered again after a crash has changed it all the same.
"""

import json
from collections.abc import Mapping
from typing import Any

from crew.errors import OutputInvalid
from crew.message import Json
from crew.value import Codec, json_text, own_copy
from crew.value.changes import Changes, change, changes_of, joined

__all__ = ["ThreadView", "storable"]

MOST_BYTES = 1 << 20
"""Of JSON, in the whole state of a thread: each turn reads it."""


class ThreadView:
    """A copy of a thread's state, and what was changed in it.

    Args:
        kept: what the thread holds before this turn.
        base: what others had changed in this turn when the view was opened.
    """

    def __init__(self, kept: Mapping[str, Json], base: Changes) -> None:
        self._base = base
        begun = {**kept}
        change(begun, base)
        self._before = {name: json_text(value) for name, value in begun.items()}
        self.values: dict[str, Json] = {n: json.loads(text) for n, text in self._before.items()}
        self.came: dict[str, Changes] = {}
        """What calls have changed whose ends are not handed out yet, by their paths."""
        self.within: dict[str, Changes] = {}
        """What was changed within functions that are under way, by the paths of their calls."""

    def changes(self) -> Changes:
        """Return what was changed in it, in values that it holds too.

        Raises:
            OutputInvalid: there is something in it by now that cannot be stored.
        """
        values = {name: storable(name, value) for name, value in self.values.items()}
        texts = {name: json_text(value) for name, value in values.items()}
        size = sum(len(json_text(n)) + len(text.encode()) for n, text in texts.items())
        if size > MOST_BYTES:
            raise OutputInvalid(
                message=f"ctx.thread.state would hold {size} bytes of JSON, more than "
                f"{MOST_BYTES}; keep what is big elsewhere, and its name here"
            )
        before = self._before
        changed = {n: value for n, value in values.items() if before.get(n) != texts[n]}
        return changes_of(changed, {*before} - {*values})

    def since_turn(self) -> Changes:
        """Return what was changed since the turn began, by others too."""
        return joined(self._base, self.changes())

    def hand_out(self, path: str, function: str) -> None:
        """Take in what the call at `path` has changed; within a function, with the end of that."""
        changes = self.came.pop(path, None)
        if changes is None:
            return
        if function:
            self.within[function] = joined(self.within.get(function, {}), changes)
        else:
            change(self.values, own_copy(changes))

    def items_of(self, place: str) -> list[str]:
        """Return the paths of what came of the items of the map at `place`, in their order."""
        head = f"{place}["
        items = [path for path in self.came if path.startswith(head)]
        return sorted(items, key=lambda path: int(path[len(head) :].partition("]")[0]))


def storable(name: str, value: Any) -> Json:
    """Return a copy of a value as it is kept.

    Raises:
        OutputInvalid: it is no JSON.
    """
    where = f"ctx.thread.state[{name!r}]"
    try:
        return Codec(Any, where=where).passed_on(value)[1]
    except OutputInvalid as error:
        raise OutputInvalid(
            message=f"{where} keeps JSON alone, which is texts, numbers, true, false and null, and "
            f"lists and dicts of these; not {value!r:.200}"
        ) from error
