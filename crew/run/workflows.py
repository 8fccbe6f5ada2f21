"""The workflows that a runtime knows."""

from collections.abc import Callable, Iterable, Iterator

from crew.errors import InputInvalid
from crew.graph import Workflow
from crew.journal import RunRow

_MOST_CODES = 32
"""How many definitions of one name and version are kept."""
_Name = tuple[str, str]


class Workflows:
    """The workflows whose runs may be driven here, by name and version; each started one joins.

    One that is defined anew, as by a notebook's cell, takes the place of the one before; runs that
    were started here with that go on with it.
    """

    def __init__(self, workflows: Iterable[Workflow] = ()) -> None:
        self.joined: Callable[[], None] = _nobody
        """Called when there is one of another name or version."""
        self.code_of: Callable[[RunRow], str] = _unknown
        """Gives the hash of the code that a run was started with."""
        self._newest = {(item.name, item.version): item for item in workflows}
        self._codes: dict[_Name, dict[str, Workflow]] = {}
        """The definitions that runs were started with, by the hashes of their code."""
        self._redefined: set[_Name] = set()

    def __iter__(self) -> Iterator[Workflow]:
        return iter(self._newest.values())

    def build(self) -> None:
        """Check all, and keep them as they are.

        Raises:
            GraphError: one of them cannot work.
        """
        for workflow in self._newest.values():
            workflow.build()
        self._newest = {name: item.frozen() for name, item in self._newest.items()}

    def add(self, workflow: Workflow, code: str = "") -> Workflow:
        """Know a workflow, and return it as it is now, whatever is defined later.

        Args:
            workflow: one that is built.
            code: the hash of its code, where a run of it is started.
        """
        name = (workflow.name, workflow.version)
        known = self._newest.get(name)
        if known is None or not known.is_same(workflow):
            self._newest[name] = workflow.frozen()
            if known is None:
                self.joined()
            else:
                self._redefined.add(name)
                self._codes.setdefault(name, {}).setdefault(known.code_hash(), known)
        if code:
            self._keep(name, code)
        return self._newest[name]

    def _keep(self, name: _Name, code: str) -> None:
        codes = self._codes.setdefault(name, {})
        codes[code] = self._newest[name]
        if len(codes) > _MOST_CODES:
            del codes[next(iter(codes))]

    def names(self) -> list[tuple[str, str]]:
        """Return the names and versions."""
        return list(self._newest)

    def of(self, row: RunRow) -> Workflow | None:
        """Return the workflow of a run, if it is known: the one that it was started with here.

        A fork is of the newest: it is made to see what that does.
        """
        name = (row.workflow, row.version)
        newest = self._newest.get(name)
        if name not in self._redefined or row.base is not None:
            return newest
        return self._codes[name].get(self.code_of(row), newest)

    def known(self, row: RunRow) -> Workflow:
        """Return the workflow of a run.

        Raises:
            InputInvalid: it is not known here.
        """
        if (workflow := self.of(row)) is None:
            raise _not_known(row)
        return workflow

    def newest(self, row: RunRow) -> Workflow:
        """Return the newest workflow of a run's name and version.

        Raises:
            InputInvalid: none is known here.
        """
        workflow = self._newest.get((row.workflow, row.version))
        if workflow is None:
            raise _not_known(row)
        return workflow


def _not_known(row: RunRow) -> InputInvalid:
    return InputInvalid(
        message=f"run {row.id} is of workflow {row.workflow!r} version {row.version}, "
        "which this runtime does not know; give it in `workflows=`"
    )


def _nobody() -> None:
    """Nobody asks which there are."""


def _unknown(row: RunRow) -> str:
    return ""
