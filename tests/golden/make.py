"""Make the golden journal of this release: `python -m tests.golden.make NAME`."""

import asyncio
import contextlib
import sqlite3
import sys
from pathlib import Path

from crew import RunFailed, Runtime
from tests.golden.flows import Question, failing, plain, raced, research

FOLDER = Path(__file__).parent


async def main(name: str) -> None:
    path = FOLDER / f"{name}.db"
    async with Runtime(f"sqlite:///{path}") as runtime:
        await (await runtime.start(research, Question(text="c"), thread="t")).result()
        run = await runtime.start(plain, "me", key="k")
        while not await run.questions():
            await asyncio.sleep(0.01)
        await run.answer("agreed", True)
        await run.result()
        await runtime.branch_thread("b", base="t", turn=1)
        await (await runtime.start(raced, "race", thread="b", metadata={"of": "b"})).result()
        with contextlib.suppress(RunFailed):
            await (await runtime.start(failing, "nothing")).result()
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("VACUUM")
    db.close()
    Path(f"{path}.owners").rmdir()


asyncio.run(main(sys.argv[1]))
