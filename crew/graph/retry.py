"""How often a step or call is tried again, and when."""

from dataclasses import dataclass

from crew.errors import BudgetExceeded, Diverged, EffectUnknown, Fenced, StoreError, Unreadable

_HOPELESS = (BudgetExceeded, Diverged, EffectUnknown, Fenced, StoreError, Unreadable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try up to `attempts` times in all, waiting `first_delay`, then twice as long each time.

    Delays are in seconds, `max_delay` at most. Transport errors of models are retried by the model
    client already; this is for the work around them.
    """

    attempts: int = 3
    first_delay: float = 0.2
    max_delay: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, not {self.attempts}")

    def allows(self, error: BaseException, attempt: int) -> bool:
        """Return whether another attempt follows the failed `attempt` (from 1)."""
        return attempt < self.attempts and not isinstance(error, _HOPELESS)

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after the failed `attempt` (from 1)."""
        return min(self.max_delay, self.first_delay * 2 ** (attempt - 1))


ONCE = Retry(attempts=1)
