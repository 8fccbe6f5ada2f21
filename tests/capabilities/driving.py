"""The process that is killed: it begins every capability, answers questions, sees to their ends.

python -m tests.capabilities.driving STORE OUTCOMES
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from crew import AskError, Runtime, StoreError
from tests.capabilities.all import ALL
from tests.capabilities.capability import Capability, begin, capabilities

LOOK_SECONDS = 0.1


async def outcome(runtime: Runtime, each: Capability) -> Any:
    """Return what comes of a capability, or how it failed."""
    try:
        if each.drive is not None:
            return await each.drive(runtime)
        run = await begin(runtime, each.name, **each.options)
        return await run.result()
    except Exception as error:  # noqa: BLE001  it is told to the test
        return f"{type(error).__name__}: {error}"


async def answer(runtime: Runtime) -> None:
    """Say what persons say, for as long as somebody asks, but where that is what is struck."""
    unanswered = {"ask"} if os.environ.get("CAPABILITIES_UNANSWERED") else set()
    asked = [each for each in ALL.values() if each.struck not in unanswered]
    answers = {question: value for each in asked for question, value in each.answers.items()}
    while True:
        for run in await runtime.runs(status=("running", "waiting")):
            for question in await run.questions():
                if question.question in answers:
                    try:
                        await run.answer(question.key, answers[question.question])
                    except (AskError, StoreError):
                        continue  # it was answered, and is not on record yet
        await asyncio.sleep(LOOK_SECONDS)


async def main(store: str, outcomes: str) -> None:
    async with Runtime(store, workflows=[capabilities]) as runtime:
        answering = asyncio.create_task(answer(runtime))
        found = await asyncio.gather(*(outcome(runtime, each) for each in ALL.values()))
        answering.cancel()
    told = to_jsonable_python(dict(zip(ALL, found, strict=True)))
    Path(outcomes).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
