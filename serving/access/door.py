"""What every route knows: the runtime, the workflows it may start, and the limits."""

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from starlette.requests import Request

from crew.config import Settings
from crew.graph import Workflow
from crew.run import Run, Runtime
from serving.access.caller import Caller
from serving.access.limits import Counts, Limits, Tally, Usage
from serving.http.notes import Noted

__all__ = ["Door"]

_PREFIX = "crew/"


@dataclass(frozen=True, kw_only=True)
class Door:
    """Workflows by the names they are served under, and the runtime that runs them.

    The names are those that `serving.gallery.by_name` gives.
    `closing` is set when the server stops: open streams then end. `progress` says whether streams
    show what runs do before they answer.
    """

    runtime: Runtime
    workflows: dict[str, Workflow]
    settings: Settings
    input_defaults: Mapping[str, object] = field(default_factory=dict)
    max_body_bytes: int = 4 << 20
    heartbeat: float = 10.0
    limits: Limits = field(default_factory=Limits)
    counts: Counts = field(default_factory=Tally)
    progress: bool = True
    noted: Noted = field(default_factory=Noted)
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

    def cancelling(self, run: Run) -> Callable[[], Awaitable[None]]:
        """Return what cancels a run when its caller goes away."""

        async def cancel() -> None:
            if not self.closing.is_set():  # then it is the server that leaves
                await run.cancel()

        return cancel

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
