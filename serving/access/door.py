"""What every route knows: the runtime, the workflows it may start, and the limits."""

import asyncio
import difflib
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from starlette.requests import Request

from crew.config import Settings
from crew.errors import InputInvalid
from crew.graph import Workflow
from crew.run import Runtime
from serving.access.caller import Caller
from serving.access.limits import Counts, Limits, Tally, Usage

__all__ = ["Door", "by_name"]

_PREFIX = "crew/"


@dataclass(frozen=True, kw_only=True)
class Door:
    """Workflows by the names they are served under (see `by_name`), and the runtime that runs them.

    `closing` is set when the server stops: open streams then end.
    """

    runtime: Runtime
    workflows: dict[str, Workflow]
    settings: Settings
    input_defaults: Mapping[str, object] = field(default_factory=dict)
    max_body_bytes: int = 4 << 20
    heartbeat: float = 10.0
    limits: Limits = field(default_factory=Limits)
    counts: Counts = field(default_factory=Tally)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    opened_at: int = field(default_factory=lambda: int(time.time()))

    @cached_property
    def usage(self) -> Usage:
        """What is in use of what the limits allow."""
        return Usage(self.limits, self.counts)

    def tenant(self, request: Request) -> Caller:
        """What the caller may do and see."""
        scope = request.scope
        return Caller(
            self.runtime,
            scope.get("tenant") or self.runtime.tenant,
            key=scope.get("key"),
            usage=self.usage,
            closing=self.closing,
        )

    def workflow(self, model: str) -> Workflow:
        """The workflow served as `model`: its name, also as `crew/<name>` or `<name>@<version>`.

        A name alone is the newest version.

        Raises:
            KeyError: none; its text names those there are.
        """
        id = model.removeprefix(_PREFIX)  # noqa: A001 - the API's word
        name, _, version = id.partition("@")
        for found in (self.workflows.get(id), self.workflows.get(name)):
            if found is not None and version in ("", found.version):
                return found
        raise KeyError(self._unknown(model, name))

    def _unknown(self, model: str, name: str) -> str:
        known = ", ".join(self.workflows) or "none"
        near = difflib.get_close_matches(name, self.workflows, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"the model {model!r:.99} does not exist; served here: {known}{hint}"


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
