"""The code of recorded runs, and variants of it with another model."""

from collections.abc import Iterable, Sequence

from crew.agent import Agent
from crew.config import Settings
from crew.errors import InputInvalid
from crew.event import Event
from crew.graph import Workflow
from crew.llm import Model
from crew.run import Run
from crew.source import held_by
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


def model_of(settings: Settings) -> Model:
    """Return the model that the settings name, where its endpoint or engine is theirs."""
    from crew.llm.choice import default_model  # engines load when first needed

    return default_model(settings)


def agents_of(events: Sequence[Event]) -> list[str]:
    """Return the names of the agents that worked in a run, in the order of their first task."""
    return list(dict.fromkeys(e.data["agent"] for e in events if e.kind == "agent.started"))


def with_model(workflow: Workflow, used: Iterable[str], model: Model) -> dict[str, Agent[object]]:
    """Return each agent that a workflow's nodes hold, by name, with another model.

    Args:
        workflow: its code.
        used: the names that must be among them.
        model: the one that each gets.

    Raises:
        InputInvalid: one of `used` is not held by a node, or two agents share its name.
    """
    held: dict[str, dict[str, Agent[object]]] = {}
    for node in workflow.nodes.values():
        for thing in held_by(node.function):
            if isinstance(thing, Agent):
                held.setdefault(thing.name, {})[thing.definition()] = thing
    for name in used:
        if name not in held:
            raise InputInvalid(
                message=f"agent {name!r} is made while workflow {workflow.name!r} runs, so its "
                "model cannot be replaced from outside; make it at the top of the file"
            )
        if len(held[name]) > 1:
            raise InputInvalid(
                message=f"{len(held[name])} agents of workflow {workflow.name!r} are called "
                f"{name!r}, and a replacement is by name; give them names of their own"
            )
    return {
        name: agent.with_model(model)
        for name, agents in held.items()
        if len(agents) == 1
        for agent in agents.values()
    }
