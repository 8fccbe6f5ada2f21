"""A run that ends the processes that drive it is parked after three; the others go on."""

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from crew import Runtime
from crew.event import (
    CallCompleted,
    ProgressMade,
    RunTaken,
    StepFailed,
    StepStarted,
    TextDiscarded,
    TextEmitted,
)
from crew.event import Failure as Error
from crew.journal import Append, RunRow, Take
from crew.journal.memory import MemoryStore
from crew.journal.writer import OpenRun, seal
from crew.run.poison import FIRST_LOOK, deaths_of
from crew.testing.store_suite import new_run
from tests.core.test_cancel import begun, slow, under_way

ROOT = Path(__file__).parents[2]
MOST_PROCESSES = 8
PROGRAM = """
import asyncio, os, sys
from crew import Agent, Context, Graph, Retry, Runtime, tool, workflow
from crew.testing import ScriptedModel, ToolCall

def die(*_): os._exit(9)
async def dies(*_): os._exit(9)
async def works(n: int) -> int: return n

@workflow
async def at_once(ctx: Context, name: str) -> str:
    die()

@workflow
async def later(ctx: Context, name: str) -> str:
    await asyncio.sleep(0.2)
    die()

@workflow
async def in_a_thread(ctx: Context, name: str) -> str:
    await asyncio.to_thread(die)

@workflow
async def in_a_function(ctx: Context, name: str) -> str:
    return await ctx.run(dies, name)

@workflow
async def in_an_effect(ctx: Context, name: str) -> str:
    return await ctx.effect(dies, name, unknown="retry")

@tool(effect="idempotent")
async def kill(name: str) -> str:
    "Kill it."
    os._exit(9)

model = ScriptedModel(lambda _: ToolCall("kill", {"name": "x"}))
killer = Agent("killer", model=model, tools=[kill])

@workflow
async def in_a_tool(ctx: Context, name: str) -> str:
    return (await ctx.run(killer, name)).output

@workflow
async def in_a_child(ctx: Context, name: str) -> str:
    return await ctx.run(at_once, name)

after_work = Graph("after_work", input=str, output=int)
@after_work.node
async def first(name: str) -> float: return 1.0
@after_work.node
async def second(value: float) -> int: die()

@workflow
async def with_progress(ctx: Context, name: str) -> int:
    for n in range(6):
        done = await ctx.run(works, n)
        await ctx.sleep(0.01)
        if not os.path.exists(f"{sys.argv[1]}.{n}"):
            open(f"{sys.argv[1]}.{n}", "w").close()
            die()
    return 6

@workflow
async def innocent(ctx: Context, name: str) -> str:
    await asyncio.sleep(0.5)
    return "done"

FLOWS = {flow.name: flow for flow in (at_once, later, in_a_thread, in_a_function, in_an_effect,
    in_a_tool, in_a_child, after_work, with_progress, innocent)}

async def main():
    url, names = sys.argv[2], sys.argv[3].split(",")
    async with Runtime(url, workflows=list(FLOWS.values())) as runtime:
        runs = [await runtime.start(FLOWS[name], "x", key=f"{name}{n}")
                for n, name in enumerate(names)]
        while True:
            every = await runtime.runs()
            rows = [runtime.store.run(run.id) for run in every]
            if all(row.owner == "parked" or row.status in ("completed", "failed") for row in rows):
                break
            if "in_a_child" in names and any(row.owner == "parked" for row in rows):
                break
            await asyncio.sleep(0.02)

asyncio.run(main())
"""


def lived_through(tmp_path: Path, url: str, *names: str) -> int:
    """Start runs, and processes one after the other; return which was the first to live."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, str(program), str(tmp_path / "mark"), url, ",".join(names)]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    for number in range(1, MOST_PROCESSES + 1):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
        if done.returncode == 0:
            return number
        assert done.returncode == 9, done.stderr
    pytest.fail(f"{MOST_PROCESSES} processes died")


async def ends(url: str) -> dict[str, str]:
    """Return what became of each workflow's run: its status, or why it is parked."""
    async with Runtime(url, worker=False) as runtime:
        found = {}
        for run in await runtime.runs():
            last = (await run.recorded())[-1]
            found[run.workflow] = last.data.get("reason", await run.status())
        return found


KILLERS = [
    "at_once",
    "later",
    "in_a_thread",
    "in_a_function",
    "in_an_effect",
    "in_a_tool",
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", KILLERS)
async def test_a_run_that_ends_its_process_is_parked_after_three_deaths(name, tmp_path, url):
    assert lived_through(tmp_path, url, name) == 4
    assert await ends(url) == {name: "poisoned"}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
@pytest.mark.parametrize("name", ["at_once", "in_an_effect"])
async def test_it_is_parked_on_postgres_too(name, tmp_path, url):
    assert lived_through(tmp_path, url, name) == 4
    assert await ends(url) == {name: "poisoned"}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("names", [("later", "innocent"), ("innocent", "later")])
async def test_of_two_runs_the_poisonous_one_alone_is_parked(names, tmp_path, url):
    lived_through(tmp_path, url, *names)
    assert await ends(url) == {"later": "poisoned", "innocent": "completed"}


@pytest.mark.timeout(240)
async def test_two_poisonous_runs_are_named_one_after_the_other(tmp_path, url):
    lived_through(tmp_path, url, "at_once", "innocent", "later")
    found = await ends(url)
    assert found == {"at_once": "poisoned", "later": "poisoned", "innocent": "completed"}


@pytest.mark.timeout(240)
async def test_a_child_that_ends_its_process_is_parked_and_not_its_parent(tmp_path, url):
    lived_through(tmp_path, url, "in_a_child")
    found = await ends(url)
    assert found["at_once"] == "poisoned"


@pytest.mark.timeout(240)
async def test_what_was_done_before_does_not_count_as_progress(tmp_path, url):
    assert lived_through(tmp_path, url, "after_work") == 4
    assert await ends(url) == {"after_work": "poisoned"}


@pytest.mark.timeout(240)
async def test_a_run_that_gets_something_done_each_time_is_never_parked(tmp_path, url):
    assert lived_through(tmp_path, url, "with_progress") == 7
    assert await ends(url) == {"with_progress": "completed"}


class Journal:
    """A run in memory whose events are written by hand, to count its deaths."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        (started,) = self.store.commit([new_run("a")])
        self.row: RunRow = started.row

    def take(self, *, died: bool) -> None:
        self.row = self.store.commit([Take(self.row.number, "me", self.row.owner)])[0]
        self.add(RunTaken("h", 1, self.row.epoch, died=died))

    def add(self, event) -> None:
        chain = OpenRun("a", self.row.number, self.row.epoch, self.row.offset, self.row.crc)
        stored = seal(chain, self.row.offset + 1, event)
        self.store.commit([Append(self.row.number, self.row.epoch, (stored,))])
        self.row = self.store.numbered(self.row.number)

    def deaths(self, *, died: bool = True) -> int:
        return deaths_of(self.store, self.row, died=died)


def test_deaths_are_counted_to_the_third():
    journal = Journal()
    counted = [journal.deaths()]
    for _ in range(3):
        journal.take(died=True)
        counted.append(journal.deaths())
    assert counted == [1, 2, 3, 3]


@pytest.mark.parametrize(
    "done",
    [
        CallCompleted("s[0]/f", "function", {"result": 1}),
        CallCompleted("s[0]/q", "ask", {"value": 1}),
        StepFailed("s[0]", Error("E", "m"), 1, final=False),
    ],
)
def test_what_was_done_since_takes_the_suspicion_away(done):
    journal = Journal()
    journal.take(died=True)
    journal.take(died=True)
    journal.add(done)
    assert journal.deaths() == 1
    journal.take(died=True)
    assert journal.deaths() == 2


def test_an_answer_that_each_owner_took_further_takes_it_away_too():
    journal = Journal()
    for _ in range(3):
        journal.take(died=True)
        journal.add(TextEmitted("s[0]/a/model.0", "a word", streamed=True))
    assert journal.deaths() == 1


def test_an_answer_that_each_owner_began_anew_does_not():
    journal = Journal()
    for _ in range(3):
        journal.take(died=True)
        journal.add(TextDiscarded("s[0]/a/model.0"))
        journal.add(TextEmitted("s[0]/a/model.0", "a word", streamed=True))
    assert journal.deaths() == 3


@pytest.mark.parametrize("event", [StepStarted("s[0]"), ProgressMade("s[0]", "at it")])
def test_what_was_only_begun_or_reported_does_not(event):
    journal = Journal()
    for _ in range(2):
        journal.take(died=True)
        for _ in range(FIRST_LOOK):
            journal.add(event)
    assert journal.deaths() == 3


def test_owners_that_left_do_not_count():
    journal = Journal()
    for _ in range(5):
        journal.take(died=False)
    assert journal.deaths(died=False) == 0
    assert journal.deaths() == 1


def test_no_more_of_a_journal_is_read_than_is_needed():
    journal = Journal()
    for number in range(300):
        journal.add(CallCompleted(f"s[0]/f{number}", "function", {"result": 1}))
    journal.take(died=True)
    read = []
    events = journal.store.events
    journal.store.events = lambda *a, **k: read.append(k["limit"]) or events(*a, **k)
    assert journal.deaths() == 2
    assert read == [FIRST_LOOK]


async def test_leaving_in_order_five_times_is_no_poison(url):
    for number in range(6):
        async with Runtime(url, workflows=[slow]) as runtime:
            if number == 0:
                run_id = (await begun(runtime, slow)).id
            run = await runtime.get(run_id)
            await under_way(run)
            deadline = time.monotonic() + 20
            while not runtime._worker.owned.drives(runtime.store.run(run_id).number):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
    async with Runtime(url, worker=False) as runtime:
        recorded = await (await runtime.get(run_id)).recorded()
    taken = [event.data["died"] for event in recorded if event.kind == "run.taken"]
    assert taken == [False] * 5
    assert recorded[-1].kind != "run.parked"
