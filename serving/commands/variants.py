"""The code of recorded runs, and variants of it with another model."""

from crew.agent import WithModel
from crew.config import Settings
from crew.errors import InputInvalid
from crew.graph import Workflow
from crew.run import Run
from serving.gallery import bundled_names, load_workflows

WITH = "model="
"""What `--with` understands."""


def code_of(run: Run, spec: str | None) -> Workflow:
    """Return the workflow that a run is of, by its name and version.

    A fork with other agents is a version `1+…` of its own; for it the workflow of version 1 is
    returned under that version, without those agents.

    Args:
        run: the recorded run.
        spec: a bundled name, a file, or `module:name`; None for the bundled one of its name.

    Raises:
        InputInvalid: it is not there; the message says what to give.
    """
    if spec is None and run.workflow not in bundled_names():
        raise InputInvalid(
            message=f"run {run.id} is of workflow {run.workflow!r}, which does not come with crew; "
            "give the file that defines it: --workflow path/to/it.py"
        )
    found = load_workflows(spec or run.workflow)
    named = {item.version: item for item in found if item.name == run.workflow}
    if not named:
        names = ", ".join(item.name for item in found)
        raise InputInvalid(
            message=f"run {run.id} is of workflow {run.workflow!r}; {spec} defines {names}; "
            "give the file that defines it: --workflow path/to/it.py"
        )
    if (exact := named.get(run.version)) is not None:
        return exact
    if (base := named.get(run.version.partition("+")[0])) is not None:
        return base.overridden(base.overrides, run.version)
    raise InputInvalid(
        message=f"run {run.id} is of version {run.version} of workflow {run.workflow!r}, and this "
        f"code is version {', '.join(named)}; give the file with the code of that version: "
        "--workflow path/to/it.py"
    )


def has_other_agents(run: Run) -> bool:
    """Return whether a run is a fork in which agents were replaced."""
    return "+" in run.version


def model_named(varied: str | None) -> str | None:
    """Return the model that `--with model=NAME` names.

    Raises:
        InputInvalid: it is something else.
    """
    if varied is None:
        return None
    if not varied.startswith(WITH) or varied == WITH:
        raise InputInvalid(message=f"--with {varied} is not understood; write --with model=NAME")
    return varied.removeprefix(WITH)


def with_model(settings: Settings) -> WithModel:
    """Return what gives every agent the model that the settings name; one of crew.toml's first."""
    from crew.llm.choice import default_model  # engines load when first needed

    if settings.model in settings.models:
        return WithModel(settings.model)
    return WithModel(default_model(settings, will_close=False))
