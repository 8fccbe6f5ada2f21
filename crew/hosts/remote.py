"""The journal of a run, seen from another process: calls of `Calls` as messages, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from crew.budget import Allowance, Amount
from crew.call.record import AgentTask, Calls
from crew.content import content_data, content_from
from crew.errors import Fenced
from crew.event import CallKind, Failure, failure_data, failure_from
from crew.fold.calls import Record, record_data, record_from
from crew.hosts import HostLost
from crew.hosts.link import Answer
from crew.message import Json, message_data, message_from
from crew.thread import Compaction


class Work(Protocol):
    """Says things about one piece of work to the host of its run."""

    async def ask(self, verb: str, body: Json) -> Answer: ...

    async def send(self, verb: str, body: Json) -> None: ...


class RemoteCalls:
    """The journal of a run, seen from an agent host: each method asks the run's host.

    What came of a call is only sent: whatever is asked next comes behind it.
    """

    def __init__(self, work: Work, run: str) -> None:
        self._work, self._run = work, run

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        answer = await self._ask("begin", path, call, fingerprint, data)
        return None if answer is None else record_from(answer)

    async def restart(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> None:
        await self._ask("restart", path, call, fingerprint, data)

    async def allowance(self, path: str, needed: Amount) -> Allowance | None:
        answer = await self._ask("allowance", path, needed.tokens, needed.money)
        return None if answer is None else Allowance(**answer)

    async def is_due(self, path: str) -> bool:
        return bool(await self._ask("is_due", path))

    async def enter(self, path: str, tool: str, arguments: dict[str, Json]) -> dict[str, Json]:
        result: dict[str, Json] = await self._ask("enter", path, tool, arguments)
        return result

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        await self._send("complete", path, call, data)

    async def fail(
        self, path: str, call: CallKind, error: Failure, usage: dict[str, int] | None = None
    ) -> None:
        await self._send("fail", path, call, failure_data(error), usage)

    async def mark_unknown(self, path: str, call: CallKind) -> None:
        await self._send("mark_unknown", path, call)

    async def approval(self, path: str) -> Json:
        return await self._ask("approval", path)

    async def rests(self, path: str, calls: Sequence[str]) -> None:
        await self._send("rests", path, list(calls))

    async def emit_text(self, path: str, text: str) -> None:
        await self._send("emit_text", path, text)

    async def discard_text(self, path: str) -> None:
        await self._send("discard_text", path)

    async def note_progress(self, path: str, text: str) -> None:
        await self._send("note_progress", path, text)

    async def _ask(self, verb: str, *arguments: Json) -> Json:
        try:
            return (await self._work.ask(verb, arguments)).body
        except HostLost as lost:
            raise self._gone() from lost

    async def _send(self, verb: str, *arguments: Json) -> None:
        try:
            await self._work.send(verb, arguments)
        except HostLost as lost:
            raise self._gone() from lost

    def _gone(self) -> Fenced:
        """Whoever drives the run next dispatches this task again, under a new epoch."""
        return Fenced(run=self._run, message=f"the host of run {self._run} is gone")


async def carry_out(calls: Calls, verb: str, arguments: Json) -> Json:
    """Carry out a call of `RemoteCalls` where the run is driven; return what it answers.

    Raises:
        Exception: what the call raises.
    """
    match verb, arguments:
        case "begin", [path, call, fingerprint, data]:
            record = await calls.begin(path, call, fingerprint, data)
            return None if record is None else record_data(record)
        case "restart", [path, call, fingerprint, data]:
            await calls.restart(path, call, fingerprint, data)
        case "allowance", [path, tokens, money]:
            allowance = await calls.allowance(path, Amount(tokens, money))
            return None if allowance is None else asdict(allowance)
        case "is_due", [path]:
            return await calls.is_due(path)
        case "enter", [path, tool, arguments]:
            return await calls.enter(path, tool, arguments)
        case "complete", [path, call, data]:
            await calls.complete(path, call, data)
        case "fail", [path, call, error, usage]:
            await calls.fail(path, call, failure_from(error), usage)
        case "mark_unknown", [path, call]:
            await calls.mark_unknown(path, call)
        case "approval", [path]:
            return await calls.approval(path)
        case "rests", [path, asked]:
            await calls.rests(path, asked)
        case "emit_text", [path, text]:
            await calls.emit_text(path, text)
        case "discard_text", [path]:
            await calls.discard_text(path)
        case "note_progress", [path, text]:
            await calls.note_progress(path, text)
        case _:
            raise ValueError(f"an agent asked for {verb!r}, which is no call of a run")
    return None


def task_data(task: AgentTask) -> dict[str, Json]:
    """Return an agent's task as JSON."""
    return {
        "text": task.text,
        "history": [message_data(message) for message in task.history],
        "session": task.session,
        "emit": task.emit,
        "tenant": task.tenant,
        "limited": task.limited,
        "parts": content_data(task.parts),
        "instructions": task.instructions,
        "compacted": None if task.compacted is None else task.compacted.to_data(),
    }


def task_from(run: str, epoch: int, path: str, data: Mapping[str, Json]) -> AgentTask:
    """Return the task that `task_data` described."""
    return AgentTask(
        run,
        path,
        data["text"],
        tuple(message_from(each) for each in data["history"]),
        data["session"],
        epoch,
        data["emit"],
        data["tenant"],
        data["limited"],
        tuple(content_from(data["parts"])),
        data["instructions"],
        None if data["compacted"] is None else Compaction(**data["compacted"]),
    )
