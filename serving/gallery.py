"""Workflows found by name, by file or as `module:name`, and loaded without touching `sys.path`."""

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import crew.errors
from crew.errors import CrewError, InputInvalid
from crew.graph import Workflow
from serving.packages import package_of, packaged_modules

__all__ = ["bundled_names", "by_name", "load_workflow", "load_workflows", "loaded_modules"]

_loaded: dict[str, ModuleType] = {}  # by module name, in the order of loading


def load_workflow(spec: str) -> Workflow:
    """Load the one workflow that `spec` names.

    Args:
        spec: a bundled name (`research`), a file (`flows/triage.py`), one object of a file
            (`flows/triage.py:triage`) or of an importable module (`package.flows:triage`).
            A file of several workflows stands for the one that is named like it.

    Raises:
        InputInvalid: nothing of that name, several, or the file cannot be loaded.
        GraphError: a graph of it cannot work.
    """
    found = load_workflows(spec)
    if len(found) == 1:
        return found[0]
    place, stem = _place(spec), Path(_place(spec)).stem
    if named := [workflow for workflow in found if workflow.name == stem]:
        return named[0]
    names = ", ".join(workflow.name for workflow in found)
    raise InputInvalid(
        message=f"{place} defines several workflows ({names}); choose one with {place}:<name>"
    )


def load_workflows(spec: str) -> list[Workflow]:
    """Load every workflow that `spec` names, in the order of their definition; see `load_workflow`.

    Raises:
        InputInvalid: nothing of that name, or the file cannot be loaded.
        GraphError: a graph of it cannot work.
    """
    place, name = _place(spec), _object_name(spec)
    if place.endswith(".py"):
        module = _from_file(Path(place))
    elif name:
        module = _from_import(place)
    else:
        module = _bundled(place)
    found = _workflows_in(module)
    chosen = [_pick(found, name, place)] if name else _some(found, place)
    for workflow in chosen:
        workflow.build()
    return chosen


def loaded_modules() -> tuple[ModuleType, ...]:
    """The modules that hold loaded workflows.

    Workers of a cluster cannot import them: they must travel by value
    (`ray.cloudpickle.register_pickle_by_value`).
    """
    return (*_loaded.values(), *packaged_modules())


def bundled_names() -> list[str]:
    """Names of the workflows that come with the package, sorted."""
    return sorted(file.stem for file in _gallery().glob("*.py") if not file.stem.startswith("_"))


def _place(spec: str) -> str:
    return spec if spec.endswith(".py") else spec.rpartition(":")[0] or spec


def _object_name(spec: str) -> str:
    return "" if _place(spec) == spec else spec.rpartition(":")[2]


def _gallery() -> Path:
    """The folder of bundled workflows: in the wheel beside our modules, else in the checkout.

    The wheel's comes first: beside an installed package `workflows` is somebody else's.
    """
    package = Path(crew.errors.__file__).parent
    inside = package / "gallery"
    return inside if inside.is_dir() else package.parent / "workflows"


def _bundled(name: str) -> ModuleType:
    if name in bundled_names():
        return _from_file(_gallery() / f"{name}.py")
    message = f"no workflow is called {name!r}; known: {', '.join(bundled_names()) or 'none'}"
    if Path(f"{name}.py").is_file():
        message += f"; for the file of that name write {name}.py"
    elif near := difflib.get_close_matches(name, bundled_names(), n=1):
        message += f"; did you mean {near[0]!r}?"
    raise InputInvalid(message=message)


def _from_file(file: Path) -> ModuleType:
    """Run a file as a module under a private name: one for each content of each file."""
    try:
        path, content = file.resolve(), file.read_bytes()
    except OSError as error:
        raise InputInvalid(message=_missing(file, error)) from error
    digest = hashlib.sha256(str(path).encode() + b"\0" + content).hexdigest()[:16]
    try:
        package = package_of(path, content)
    except CrewError:
        raise
    except Exception as error:
        raise InputInvalid(message=_raised(str(path.parent / "__init__.py"), error)) from error
    name = f"{package}{'.' if package else ''}_crew_workflow_{digest}"
    if name not in sys.modules:
        _execute(name, path)
    return _remember(sys.modules[name])


def _missing(file: Path, error: OSError) -> str:
    message = f"cannot read the workflow file {file}: {error.strerror}"
    siblings = [other.name for other in file.parent.glob("*.py")] if file.parent.is_dir() else []
    if near := difflib.get_close_matches(file.name, siblings, n=1):
        message += f"; did you mean {file.parent / near[0]}?"
    return message


def _execute(name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before running it: annotations are resolved through it
    _see_siblings(path.parent)
    try:
        spec.loader.exec_module(module)
    except CrewError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise InputInvalid(message=_raised(str(path), error)) from error


def _see_siblings(folder: Path) -> None:
    """Let a user's file import the modules beside it.

    Last on the path, so that a folder or file there can hide nothing that is installed.
    """
    if folder != _gallery().resolve() and str(folder) not in sys.path:
        sys.path.append(str(folder))


def _from_import(name: str) -> ModuleType:
    _see_siblings(Path.cwd())
    try:
        module = importlib.import_module(name)
    except CrewError:
        raise
    except ModuleNotFoundError as error:
        raise InputInvalid(
            message=f"cannot import {name!r}: {error}; a file can be given as path/to/it.py"
        ) from error
    except Exception as error:
        raise InputInvalid(message=_raised(name, error)) from error
    return _remember(module)


def _raised(place: str, error: Exception) -> str:
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
    return f"loading {place}{line} raised {type(error).__name__}: {error}"


def _remember(module: ModuleType) -> ModuleType:
    return _loaded.setdefault(module.__name__, module)


def _workflows_in(module: ModuleType) -> dict[str, Workflow]:
    """Workflows of a module by their variable's name; one under two names counts once."""
    seen: set[int] = set()
    found: dict[str, Workflow] = {}
    for name, value in vars(module).items():
        if isinstance(value, Workflow) and id(value) not in seen:
            seen.add(id(value))
            found[name] = value
    return found


def _pick(found: dict[str, Workflow], name: str, place: str) -> Workflow:
    if name in found:
        return found[name]
    for workflow in found.values():
        if workflow.name == name:
            return workflow
    message = f"{place} has no workflow {name!r}; it has: {_names(found.values())}"
    if near := difflib.get_close_matches(name, found, n=1):
        message += f"; did you mean {place}:{near[0]}?"
    raise InputInvalid(message=message)


def _some(found: dict[str, Workflow], place: str) -> list[Workflow]:
    if not found:
        raise InputInvalid(
            message=f"{place} defines no workflow; it needs a Graph(...) or an @workflow function"
        )
    return list(found.values())


def _names(workflows: Iterable[Workflow]) -> str:
    return ", ".join(workflow.name for workflow in workflows) or "none"


def by_name(workflows: Iterable[Workflow]) -> dict[str, Workflow]:
    """Workflows by the names they are served under, in the order given.

    Of several versions of one workflow the newest has the name alone, each older one is
    `name@version`. Versions are compared as people do: 10 comes after 9, and 1.10 after 1.9.

    Raises:
        InputInvalid: two have the same name and version.
    """
    given = dict[tuple[str, str], Workflow]()
    newest = dict[str, Workflow]()
    for workflow in workflows:
        name, version = workflow.name, workflow.version
        if given.setdefault((name, version), workflow) is not workflow:
            raise InputInvalid(
                message=f"two workflows are called {name!r} and are of version {version}; give the "
                "newer one another version, or one of them another name"
            )
        if name not in newest or _age(version) > _age(newest[name].version):
            newest[name] = workflow
    return {
        name if newest[name] is workflow else f"{name}@{version}": workflow
        for (name, version), workflow in given.items()
    }


def _age(version: str) -> list[tuple[int, str]]:
    """Return what versions are compared by: their numbers as numbers, the rest as text."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
