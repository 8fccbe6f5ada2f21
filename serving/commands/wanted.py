"""Which runs a command is about."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from crew.errors import InputInvalid
from crew.journal import STATUSES, RunStatus
from crew.message import Json
from crew.run import Run, Runtime
from serving.commands.keeping import seconds_of

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """Runs by what they are of; what is None or empty is asked of none.

    `since` is an age such as `7d`, or a time; `metadata` are NAME=VALUE, a value JSON or text.
    """

    status: str | None = None
    thread: str | None = None
    workflow: str | None = None
    since: str | None = None
    metadata: Sequence[str] = ()

    async def page(self, runtime: Runtime, *, before: str | None, limit: int) -> list[Run]:
        """Return the newest runs, of those accepted earlier than run `before`.

        Raises:
            InputInvalid: what is wanted is no status, no time, or no NAME=VALUE.
        """
        return await runtime.runs(
            status=_statuses(self.status),
            thread=self.thread,
            workflow=self.workflow,
            since=None if self.since is None else _moment(self.since),
            metadata=metadata_of(self.metadata) or None,
            before=before,
            limit=limit,
        )

    async def all(self, runtime: Runtime) -> AsyncIterator[Run]:
        """Yield every run, the newest first, a page in memory at a time."""
        before = None
        while page := await self.page(runtime, before=before, limit=_PAGE):
            for run in page:
                yield run
            before = page[-1].id


def metadata_of(pairs: Sequence[str]) -> dict[str, Json]:
    """Return what NAME=VALUE says.

    Raises:
        InputInvalid: one has no `=`.
    """
    found = dict[str, Json]()
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise InputInvalid(message=f"--metadata {pair} is not understood; write NAME=VALUE")
        found[name] = value_of(text)
    return found


def value_of(text: str) -> Json:
    """Return JSON, or the text where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _statuses(status: str | None) -> tuple[RunStatus, ...]:
    if status is not None and status not in STATUSES:
        raise InputInvalid(message=f"{status!r} is no status; there are: {', '.join(STATUSES)}")
    return tuple(item for item in STATUSES if item == status)


def _moment(text: str) -> float:
    with suppress(ValueError):
        return datetime.fromisoformat(text).astimezone().timestamp()
    try:
        return time.time() - seconds_of(text)
    except InputInvalid as error:
        raise InputInvalid(
            message=f"{text!r} is no time; write an age such as 12h or 7d, or 2026-11-30T08:00"
        ) from error
