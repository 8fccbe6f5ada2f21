"""What is made of a runtime's work: metrics, or spans."""

from crew.fold.work import FirstText, Work

__all__ = ["Sink"]


class Sink:
    """Gets what happens; by default it does nothing."""

    def ended(self, work: Work) -> None:
        """A run, a step, or a call of an agent, a model or a tool is over."""

    def first_text(self, first: FirstText) -> None:
        """The first text of a model's streamed answer arrived."""

    def refused(self) -> None:
        """A budget refused a call."""

    def recovered(self) -> None:
        """A run was taken from a worker that died, or fell silent."""

    def committed(self, events: int, seconds: float) -> None:
        """So many events were written in one transaction, which took so long."""
