"""The files that served workflows are made of, and whether they changed."""

from collections.abc import Sequence
from pathlib import Path

from crew.errors import InputInvalid

__all__ = ["Files"]


class Files:
    """The files that are served by their path, and what may be imported from beside them.

    Args:
        specs: what is served; see `serving.gallery.load_workflow`.

    Raises:
        InputInvalid: none of it is a file.
    """

    def __init__(self, specs: Sequence[str]) -> None:
        files = [Path(spec.rpartition(".py")[0] + ".py") for spec in specs if ".py" in spec]
        if not files:
            raise InputInvalid(
                message="--reload serves a file anew when it changes; name one: crew serve flow.py"
            )
        self._folders = {file.absolute().parent for file in files}
        self._seen = self._look()

    def changed(self) -> str:
        """Return the name of a file that is new, gone or other than at the last look, or ""."""
        before, self._seen = self._seen, self._look()
        other = sorted(set(before.items()) ^ set(self._seen.items()))
        return other[0][0].name if other else ""

    def _look(self) -> dict[Path, tuple[int, int]]:
        found: dict[Path, tuple[int, int]] = {}
        for file in (file for folder in self._folders for file in folder.glob("*.py")):
            try:
                seen = file.stat()
            except FileNotFoundError:  # an editor puts a new one in its place
                continue
            found[file] = (seen.st_mtime_ns, seen.st_size)
        return found
