"""A call of a tool is a run: begun, or gone on with by an answer, and followed to its rest."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crew.errors import AskError
from crew.fold import Questions, progress_line, typed_of
from crew.graph import Workflow
from crew.message import Json
from crew.run import Question, Run
from crew.value import text_of
from serving.access.caller import Caller
from serving.access.door import Door
from serving.chat.asks import give_answer
from serving.chat.stuck import refuse_stuck, refuse_stuck_thread
from serving.chat.tail import Outcome, watch
from serving.http.errors import ApiError
from serving.mcp.tools import input_from

__all__ = ["Call", "Result", "Waiting"]

Report = Callable[[int, str], Awaitable[None]]
"""Told how far a run is: a number that grows, and a line."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run came to."""

    text: str
    structured: dict[str, Json]


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A run that waits for people: for answers of who calls, or of `others`."""

    run: str
    questions: list[Question]
    others: list[str]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a tool.

    Args:
        door: what every route knows.
        caller: what who calls may do.
        report: told how far the run is.
    """

    door: Door
    caller: Caller
    report: Report

    async def begin(
        self, workflow: Workflow, arguments: dict[str, Any], *, key: str | None, thread: str | None
    ) -> Result | Waiting:
        """Start a run, or with the key of an earlier one go on following that.

        Raises:
            ApiError, CrewError: it could not be started, or it failed.
        """
        value = input_from(workflow, arguments, self.door.input_defaults)
        if thread is not None:
            await refuse_stuck_thread(self.caller, thread, key)
        run = await self.caller.start(workflow, value, thread=thread, key=key)
        return await self._followed(run, 0, Outcome())

    async def go_on(self, run_id: str, answers: Mapping[str, Json]) -> Result | Waiting:
        """Answer questions of a run, by their paths or keys, and follow it.

        Raises:
            AskError: an answer is none.
            ApiError, CrewError: there is no such run, it failed, or somebody else is asked.
        """
        run = await self.caller.get(run_id)
        if not answers:
            return await self._followed(run, 0, Outcome())
        after = await run.offset()
        given = [await self._answered(run, key, value) for key, value in answers.items()]
        asked = Questions({item.path: item for item in await run.questions()})
        pending = given[-1] if given and given[-1] in asked.open else ""
        return await self._followed(run, after, Outcome(questions=asked, pending=pending))

    async def answer(self, arguments: dict[str, Any]) -> Result | Waiting:
        """Answer a question as the tool of that name does, or without a value look at a run again.

        It is the oldest one that is for who calls, if none is named.

        Raises:
            AskError: there is none, or the answer is none.
            ApiError, CrewError: there is no such run, or it failed.
        """
        run_id, named = arguments.get("run"), arguments.get("question")
        if not isinstance(run_id, str):
            raise ApiError(status=400, message="give the id of the run")
        if "value" not in arguments:
            return await self.go_on(run_id, {})
        if named is None:
            asked = await (await self.caller.get(run_id)).questions()
            mine = [item.path for item in asked if self.caller.is_asked(item.to)]
            if not mine:
                raise AskError(message=f"run {run_id} asks you nothing now")
            named = mine[0]
        return await self.go_on(run_id, {str(named): arguments["value"]})

    async def _answered(self, run: Run, key: str, value: Json) -> str:
        """Answer a question; return its path."""
        found = [item for item in await run.questions() if key in (item.path, item.key)]
        if isinstance(value, str) and len(found) == 1:
            return (await give_answer(self.caller, run, found[0], value, key=None)).path
        self.caller.check_answers(found)
        await refuse_stuck(run)
        await run.answer(key, value, by=self.caller.author)
        return found[0].path if found else ""

    async def _followed(self, run: Run, after: int, outcome: Outcome) -> Result | Waiting:
        watched = watch(
            run, outcome, after=after, idle=self.door.heartbeat, closing=self.door.closing
        )
        async for events in watched:
            for event in events:
                known = typed_of(event)
                if known and (line := progress_line(known, event.offset).strip()):
                    await self.report(event.offset, line)
        if (error := outcome.error(run.id)) is not None:
            raise error
        if not outcome.has_ended:
            asked = await run.questions()
            mine = [item for item in asked if self.caller.is_asked(item.to)]
            others = [item.waiting_for for item in asked if item not in mine]
            return Waiting(run=run.id, questions=mine, others=others)
        output = outcome.ending.output
        structured = output if isinstance(output, dict) else {"result": output}
        return Result(text=text_of(output), structured=structured)
