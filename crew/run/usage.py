"""What a run has spent: the tokens and calls of all its agents and children."""

from crew.budget import Ledger
from crew.call.record import Record
from crew.errors import BudgetExceeded
from crew.event import CallKind
from crew.message import Json


class Usage:
    """Counts what calls cost, and reserves what those under way may still cost."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.paid: dict[str, int] = {}
        """What the run paid, by unit."""
        self.reused: dict[str, int] = {}
        """What a fork did not have to pay, since its base's records answered."""

    def started(self, call: CallKind, data: dict[str, Json]) -> None:
        """Reserve what a call that was begun may cost."""
        calls = 1 if call == "model" else data.get("reserve_calls", 0)
        self.ledger.reserve(data.get("reserve", 0), calls)

    def ended(self, record: Record | None, call: CallKind, result: dict[str, Json]) -> None:
        """Count what a call that has ended did cost, in place of what was reserved for it."""
        # An agent's usage is that of its model calls, which were counted one by one.
        if call not in ("model", "child"):
            return
        usage: dict[str, int] = result.get("usage", {})
        if result.get("reused"):
            _add(self.reused, usage)
            usage = dict[str, int]()
        _add(self.paid, usage)
        cost = sum(usage.get(name, 0) for name in ("input_tokens", "output_tokens"))
        asked = record.data if record else {}
        self.ledger.settle(asked.get("reserve", 0), cost)
        if call == "child":
            self.ledger.settle_calls(asked.get("reserve_calls", 0), usage.get("calls", 0))

    def forked(self) -> None:
        """Note that a fork begins: what was paid so far it does not pay."""
        _add(self.reused, self.paid)
        self.paid = dict[str, int]()
        self.ledger = Ledger()

    def check(self, run: str, path: str, needed: int) -> None:
        """Let a model call be made that may cost so many tokens.

        Raises:
            BudgetExceeded: the run has not so many left, or no call.
        """
        if (left := self.ledger.left()) is not None and needed > left:
            raise BudgetExceeded(run=run, path=path, needed=needed, left=left)
        if (calls := self.ledger.left_calls()) is not None and calls < 1:
            raise BudgetExceeded(run=run, path=path, needed=1, left=calls, unit="calls")

    def to_data(self) -> dict[str, Json]:
        """Return everything but the limit as JSON, for a snapshot."""
        return {
            "usage": self.paid,
            "reused": self.reused,
            "spent": self.ledger.spent,
            "reserved": self.ledger.reserved,
            "calls": self.ledger.calls,
        }

    def load(self, data: dict[str, Json]) -> None:
        """Know what `to_data` gave."""
        self.paid, self.reused = data["usage"], data["reused"]
        self.ledger.spent, self.ledger.reserved = data["spent"], data["reserved"]
        self.ledger.calls = data["calls"]


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count
