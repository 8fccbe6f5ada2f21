"""Several processes drive the runs of one database; each may die at any moment."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from crew import Runtime
from crew.journal.owner_place import Place
from crew.journal.postgres import PostgresStore
from crew.journal.reading import JournalReader
from tests.core.flows import Count
from tests.postgres_store.asking import STEPS, counting
from tests.postgres_store.committing import start

ROOT = Path(__file__).parents[2]


class Worker:
    def __init__(self, url):
        command = [sys.executable, "-m", "tests.postgres_store.asking", url]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def workers(postgres_url):
    workers = [Worker(postgres_url) for _ in range(2)]
    yield workers
    for worker in workers:
        worker.kill()


async def until_offset(runtime, run, offset):
    async with asyncio.timeout(20):
        while runtime.store.run(run.id).offset < offset:
            await asyncio.sleep(0.005)


async def answered(run):
    async with asyncio.timeout(20):
        while not await run.questions():
            await asyncio.sleep(0.02)
    await run.answer("go", True)
    return await asyncio.wait_for(run.result(), 30)


def assert_one_dense_history(runtime, run):
    row = runtime.store.run(run.id)
    events = JournalReader(runtime.store, row).every(upto=row.offset)
    assert [event.offset for event in events] == list(range(1, row.offset + 1))
    done = Counter(event.path for event in events if event.kind == "step.completed")
    assert set(done.values()) == {1}
    assert len(done) == STEPS + 1


async def test_a_killed_worker_is_replaced_and_nothing_is_doubled(postgres_url, workers):
    async with Runtime(postgres_url, worker=False) as door:
        runs = [await door.start(counting(), Count(n=0)) for _ in range(4)]
        await until_offset(door, runs[0], 30)
        workers[0].kill()
        workers.append(Worker(postgres_url))
        await until_offset(door, runs[1], 80)
        workers[1].kill()
        results = await asyncio.gather(*(answered(run) for run in runs))
        assert [result.n for result in results] == [STEPS] * 4
        for run in runs:
            assert_one_dense_history(door, run)


@pytest.mark.parametrize("how", ["restart_immediately", "terminate_backends"])
async def test_workers_outlive_their_server(postgres_url, postgres_server, workers, how):
    async with Runtime(postgres_url, worker=False) as door:
        runs = [await door.start(counting(), Count(n=0)) for _ in range(4)]
        for offset in (20, 50, 90):
            await until_offset(door, runs[0], offset)
            await asyncio.to_thread(getattr(postgres_server, how))
        results = await asyncio.gather(*(answered(run) for run in runs))
        assert [result.n for result in results] == [STEPS] * 4
        for run in runs:
            assert_one_dense_history(door, run)


def test_only_a_process_of_this_machine_is_proven_dead(postgres_url):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait(10)
    here, store = Place(), PostgresStore(postgres_url)
    rows = [
        ("lives", here.machine, here.pid, here.began),
        ("gone", here.machine, gone.pid, "1"),
        ("again", here.machine, here.pid, "another start"),
        ("elsewhere", "another machine", gone.pid, "1"),
    ]
    with psycopg.connect(postgres_url, autocommit=True) as db:
        for row in rows:
            db.execute("INSERT INTO owners VALUES (%s, 0, %s, %s, %s)", row)
    dead = {name: store.sign(name).dead for name, *_ in rows}
    assert dead == {"lives": False, "gone": True, "again": True, "elsewhere": False}
    store.claim_owner("new")  # sweeps
    with psycopg.connect(postgres_url) as db:
        left = db.execute("SELECT owner FROM owners ORDER BY owner").fetchall()
    assert left == [("elsewhere",), ("lives",), ("new",)]
    store.close()


@pytest.mark.parametrize(("pid", "is_gone"), [(1 << 23, False), (os.getppid(), True)])
def test_a_process_that_may_not_be_looked_at_is_not_proven_dead(pid, is_gone, monkeypatch):
    """As another user's, where /proc shows only one's own; no process has an id that high."""

    def refuse(pid, signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    here = Place()
    assert here.is_gone(here.machine, pid, "another start") is is_gone


@pytest.mark.parametrize("place", ["lock_timeout", "pg_advisory_xact_lock"])
def test_two_processes_may_make_the_tables_at_the_same_moment(postgres_url, wire, place):
    wire.cut(place, "pause", lambda: PostgresStore(postgres_url).close())
    store = PostgresStore(wire.url(postgres_url))
    assert start(store, "a")
    store.close()


OPENING = """
import sys
from crew.journal.postgres import PostgresStore
for url in sys.stdin:
    try:
        PostgresStore(url.strip()).close()
        print("opened", flush=True)
    except Exception as error:
        print(error, flush=True)
"""


@pytest.fixture
def openers():
    """Processes that open each database whose address they are told, and say what came of it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    found = [subprocess.Popen([sys.executable, "-c", OPENING], **pipes) for _ in range(4)]
    yield found
    for process in found:
        process.communicate(timeout=30)


def test_many_processes_open_a_new_database_at_once_fifty_times(postgres_server, openers):
    for _ in range(50):
        url = postgres_server.new_database()
        for process in openers:
            process.stdin.write(f"{url}\n")
            process.stdin.flush()
        assert [process.stdout.readline().strip() for process in openers] == ["opened"] * 4
        postgres_server.drop(url)


def test_a_store_that_is_closed_leaves_no_row_and_no_connection(postgres_url):
    store = PostgresStore(postgres_url)
    start(store, "a")
    store.close()
    with psycopg.connect(postgres_url, autocommit=True) as db:
        assert db.execute("SELECT count(*) FROM writers").fetchone() == (0,)
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE pid != pg_backend_pid() "
            "AND datname = current_database() AND backend_type = 'client backend'"
        )
        for _ in range(100):
            if db.execute(query).fetchone() == (0,):
                return
    pytest.fail("a connection is left")


async def test_a_user_who_may_not_know_the_server_looks_for_what_others_write(postgres_url):
    role = f"r{secrets.token_hex(6)}"
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(f"CREATE ROLE {role} LOGIN")
        db.execute(f"GRANT ALL ON SCHEMA public TO {role}")
        db.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    url, graph = postgres_url.replace("crew@", f"{role}@"), counting()
    async with Runtime(url, workflows=[graph]) as there, Runtime(url, worker=False) as here:
        assert there.store.sockets is None
        run = await here.start(graph, Count(n=0))
        async with asyncio.timeout(20):
            while not await run.questions():
                await asyncio.sleep(0.01)
            await run.answer("go", True)
            assert (await run.result()).n == STEPS
