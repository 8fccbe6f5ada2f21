"""What an agent sees of the earlier turns of a thread."""

from dataclasses import dataclass

from crew.errors import GraphError
from crew.llm import choice
from crew.llm.choice import ModelChoice, name_of

__all__ = ["History", "history_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Lets an agent see the turns before, whole, as far as they fit into its model's window.

    Once they do not fit, the older ones are compacted, so that half of the room is free again: a
    summary of them, or a line that says how many are left out, stands in their place from then on.
    Between two compactions each prompt begins with the one before. The thread keeps all that was
    said.

    The window is what `context_window` of the model says, else what its engine does, else 32,768
    tokens. Left free of it are the most tokens of the answer (`max_tokens`; 1,024 where the agent
    has none).

    Args:
        last: how many turns it sees at most; beyond that the older half is compacted.
        summarise_with: what writes the summary: a name of `crew.toml`, a model, or a `Fallback`;
            without, the oldest turns are left out.
        tools: whether it sees what it asked of its tools in those turns, and what they gave.

    Raises:
        GraphError: `last` is less than 1, or `summarise_with` is no model.
    """

    last: int | None = None
    summarise_with: ModelChoice = None
    tools: bool = False

    def __post_init__(self) -> None:
        if self.last is not None and (type(self.last) is not int or self.last < 1):
            raise GraphError(
                message=f"History(last={self.last!r}): how many turns are seen is a whole number, "
                "1 or more; leave it out for as many as fit"
            )
        choice.check(self.summarise_with, "History(summarise_with=…)")

    def __repr__(self) -> str:
        return f"History({self.last}, {name_of(self.summarise_with)!r}, {self.tools})"


def history_of(agent: str, given: bool | History) -> History | None:
    """Return what an agent's `history=` says; True is short for `History()`.

    Raises:
        GraphError: it is something else.
    """
    if isinstance(given, History):
        return given
    if not isinstance(given, bool):
        raise GraphError(
            message=f"agent {agent!r}: history= takes True, or History(last=…, "
            f"summarise_with=…, tools=…), not {given!r:.200}"
        )
    return History() if given else None
