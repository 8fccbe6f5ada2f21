"""Our own packages in processes of a cluster, whatever is called like them there.

Ray puts the user's working directory in front of the path of its processes, and a folder
`crew/` or `serving/` there would be imported in place of the package. So what starts in such a
process travels by value, and first puts the right folder in front. A module that does so imports
nothing of ours at its top but this one.
"""

import sys
from pathlib import Path
from types import ModuleType

__all__ = ["find_package", "travel_by_value"]


def travel_by_value(*modules: ModuleType) -> None:
    """Make Ray send what these modules define, instead of a name to import it by."""
    from ray import cloudpickle

    for module in (sys.modules[__name__], *modules):
        cloudpickle.register_pickle_by_value(module)


def find_package(name: str, file: str) -> None:
    """Put the folder that holds the package `name` first on the path, known by a `file` in it.

    One that was imported from elsewhere is forgotten. Nothing changes if none is found: the
    import that follows then says what is missing.
    """
    for entry in sys.path:
        if (Path(entry) / name / file).is_file():
            _forget_others(name, Path(entry) / name)
            sys.path.remove(entry)
            sys.path.insert(0, entry)
            return


def _forget_others(name: str, folder: Path) -> None:
    loaded = sys.modules.get(name)
    if loaded is None or str(folder) in list(getattr(loaded, "__path__", [])):
        return
    for module in [other for other in sys.modules if f"{other}.".startswith(f"{name}.")]:
        del sys.modules[module]
