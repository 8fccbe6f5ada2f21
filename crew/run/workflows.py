"""The workflows that a runtime knows."""

from collections.abc import Callable, Iterable, Iterator

from crew.errors import InputInvalid
from crew.graph import Workflow
from crew.journal import RunRow


class Workflows:
    """The workflows whose runs may be driven here, by name and version; each started one joins."""

    def __init__(self, workflows: Iterable[Workflow] = ()) -> None:
        self.joined: Callable[[], None] = _nobody
        """Called when there is one of another name or version."""
        self._known = {(item.name, item.version): item for item in workflows}

    def __iter__(self) -> Iterator[Workflow]:
        return iter(self._known.values())

    def add(self, workflow: Workflow) -> None:
        is_new = (workflow.name, workflow.version) not in self._known
        self._known[workflow.name, workflow.version] = workflow
        if is_new:
            self.joined()

    def names(self) -> list[tuple[str, str]]:
        """Return the names and versions."""
        return list(self._known)

    def of(self, row: RunRow) -> Workflow | None:
        """Return the workflow of a run, if it is known."""
        return self._known.get((row.workflow, row.version))

    def known(self, row: RunRow) -> Workflow:
        """Return the workflow of a run.

        Raises:
            InputInvalid: it is not known here.
        """
        workflow = self.of(row)
        if workflow is None:
            raise InputInvalid(
                message=f"run {row.id} is of workflow {row.workflow!r} version {row.version}, "
                "which this runtime does not know; give it in `workflows=`"
            )
        return workflow


def _nobody() -> None:
    """Nobody asks which there are."""
