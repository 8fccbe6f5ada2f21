"""The packages that served files belong to which import relatively: their folders, privately named.

Such a file runs as a module of its folder, whatever that is called and wherever it lies; so nothing
of it can hide what is installed, nor be hidden by it.
"""

import ast
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["package_of", "packaged_modules"]

_PREFIX = "_crew_package_"


def package_of(path: Path, content: bytes) -> str:
    """Return the name of the package that a file imports from; empty if it imports from none."""
    levels = _levels(content)
    if not levels:
        return ""
    folders = [path.parent, *path.parent.parents][:levels]
    return ".".join([_root(folders[-1]), *(folder.name for folder in folders[-2::-1])])


def packaged_modules() -> list[ModuleType]:
    """Return the modules of all such packages that were imported."""
    return [module for name, module in list(sys.modules.items()) if name.startswith(_PREFIX)]


def _levels(content: bytes) -> int:
    """Return how many dots a file's relative imports have at most."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return 0  # running it says what is wrong
    return max(
        (node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0
    )


def _root(folder: Path) -> str:
    """Return the name of a folder as a package, which is imported now if it was not."""
    name = f"{_PREFIX}{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return name
    begin = folder / "__init__.py"
    if not begin.is_file():
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [str(folder)]
        return name
    places = [str(folder)]
    spec = importlib.util.spec_from_file_location(name, begin, submodule_search_locations=places)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[name])
    except BaseException:
        del sys.modules[name]
        raise
    return name
