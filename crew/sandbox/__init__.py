"""Sandboxes: where code that a model wrote runs, and what it can reach from there."""

from typing import Protocol

from crew.define import frozen

__all__ = ["Execution", "Sandbox", "open_sandbox"]

DEFAULT_MEMORY_BYTES = 512 << 20


@frozen
class Execution:
    """How a piece of code went: what it printed, and why it ended early, if it did.

    `isolation` names what held it, for the record.
    """

    stdout: str
    error: str
    seconds: float
    isolation: str


class Sandbox(Protocol):
    """A place for code that is not to be trusted."""

    @property
    def name(self) -> str: ...

    async def run(
        self, code: str, *, seconds: float = 10, memory_bytes: int = DEFAULT_MEMORY_BYTES
    ) -> Execution:
        """Run Python code; the value of a last line that is an expression is printed.

        Cancelling the awaiting task ends the code.
        """
        ...


def open_sandbox() -> Sandbox:
    """Return this machine's sandbox.

    Raises:
        SandboxUnavailable: code cannot be isolated here; the message says what is missing.
    """
    from crew.sandbox.jail import Jail

    return Jail()
