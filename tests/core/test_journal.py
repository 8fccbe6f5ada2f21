"""What lies on disk, and what happens when the disk does not do its part."""

import asyncio
import json
import os
import random
import sqlite3
import string
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crew import Context, RunFailed, Runtime, StoreError, workflow
from crew.journal.memory import MemoryStore
from crew.journal.opening import open_store
from crew.journal.sqlite import SqliteStore, connect
from crew.journal.text import POINTER, TextReader, TextWriter
from tests.core.flows import Count, Question, loop, research

long_text = st.text(alphabet=string.ascii_letters, min_size=60, max_size=80)
bodies = st.recursive(
    long_text | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "$text", "$data", "$blob"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.lists(bodies, max_size=6))
@example([{"$text": "a dict of the user's own"}, ["x" * 70]])
def test_packed_text_comes_back_whatever_it_looks_like(values):
    writer, reader = (
        TextWriter(),
        TextReader({}.__getitem__, {}.__getitem__, lambda first, last: [], {}.__getitem__),
    )
    packed = [writer.pack(offset, value)[0] for offset, value in enumerate(values, start=1)]
    stored = [json.loads(json.dumps(item)) for item in packed]
    assert [reader.unpack(offset, item) for offset, item in enumerate(stored, start=1)] == values


def test_a_long_text_is_written_once():
    writer = TextWriter()
    text = "x" * 1000
    assert writer.pack(1, {"a": text}) == ({"a": text}, ())
    assert writer.pack(2, {"b": [text]}) == ({"b": [{POINTER: [1, 0]}]}, ())


async def test_a_text_that_goes_through_many_steps_costs_its_size_once(url, tmp_path):
    text = "".join(random.choices(string.ascii_letters, k=20_000))

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        for _ in range(20):
            text = await ctx.run(same, text)
        return text

    async with Runtime(url) as runtime:
        await (await runtime.start(flow, text)).result()
    with sqlite3.connect(tmp_path / "runs.db") as db:
        (size,) = db.execute("SELECT sum(length(body)) FROM segments").fetchone()
    db.close()
    assert size < 1.2 * len(text)


async def same(text: str) -> str:
    return text


async def test_a_damaged_event_is_found_and_others_are_not_affected(url, tmp_path):
    async with Runtime(url, worker=False) as runtime:
        bad = await runtime.start(research(), Question(text="c"))
        good = await runtime.start(research(), Question(text="d"))
    db = connect(str(tmp_path / "runs.db"))
    db.execute("UPDATE segments SET body = replace(body, '\"c\"', '\"x\"')")
    db.close()
    async with Runtime(url, workflows=[research()]) as runtime:
        assert (await (await runtime.get(good.id)).result()).text.endswith("found d")
        with pytest.raises(StoreError, match=f"run {bad.id} .* is damaged at event 1"):
            await (await runtime.get(bad.id)).result()


@pytest.mark.parametrize(("version", "writer"), [(99, "newer release"), (7, "development version")])
def test_a_database_that_this_release_cannot_read_is_refused_untouched(tmp_path, version, writer):
    path = tmp_path / "new.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"{writer} .schema {version}.*Nothing was changed"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "garbage.db"
    path.write_bytes(b"this is not a database, but long enough to look like a page" * 100)
    with pytest.raises(StoreError, match="not a sound database .*crew doctor"):
        SqliteStore(path)


def test_a_file_that_may_only_be_read_is_refused(tmp_path):
    def reading(name: str) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{name}?mode=ro", uri=True, isolation_level=None)

    (tmp_path / "runs.db").touch()
    with pytest.raises(StoreError, match="cannot open .* readonly"):
        SqliteStore(tmp_path / "runs.db", opener=reading)


def test_a_network_filesystem_is_refused_naming_postgresql(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nserver:/x {tmp_path}/shared nfs4 rw 0 0\n")
    with pytest.raises(StoreError, match="nfs4 at .*shared.*postgresql://"):
        SqliteStore(tmp_path / "shared" / "runs.db", mounts=mounts)
    SqliteStore(tmp_path / "local.db", mounts=mounts).close()


@pytest.mark.parametrize("url", ["mysql://x", "runs.db", ""])
def test_an_unknown_address_is_refused(url):
    with pytest.raises(StoreError, match="is not a store; use sqlite:///"):
        open_store(url)


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite://", ":memory:"])
def test_memory_is_meant_as_sqlalchemy_writes_it(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_store(url), MemoryStore)
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    open_store("sqlite:///~/deep/runs.db").close()
    assert (tmp_path / "deep" / "runs.db").exists()


@pytest.mark.parametrize("url", ["sqlite:///runs.db?mode=ro", "sqlite:///"])
def test_an_address_of_a_file_that_would_be_another_is_refused(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="leave them out|names no file"):
        open_store(url)
    assert list(tmp_path.iterdir()) == []


async def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(tmp_path):
    path = tmp_path / "runs.db"

    def small(name: str) -> sqlite3.Connection:
        db = connect(name)
        db.execute("PRAGMA max_page_count = 50")
        return db

    full = SqliteStore(path, opener=small)
    async with Runtime(full) as runtime:
        run = await runtime.start(loop(6000, max_steps=9000), Count(n=0))
        with pytest.raises(
            StoreError, match="the disk is full; free some space, then `crew resume`"
        ):
            await run.result()
    full.close()
    roomy = SqliteStore(path)
    async with Runtime(roomy, workflows=[loop(6000, max_steps=9000)]) as runtime:
        assert (await (await runtime.get(run.id)).result()).n == 6000
    roomy.close()


async def test_a_worker_goes_on_by_itself_when_its_store_works_again(tmp_path):
    pages = [50]

    def limited(name: str) -> sqlite3.Connection:
        db = connect(name)
        db.execute(f"PRAGMA max_page_count = {pages[0]}")
        return db

    store = SqliteStore(tmp_path / "runs.db", opener=limited)
    async with Runtime(store) as runtime:
        run = await runtime.start(loop(6000, max_steps=9000), Count(n=0))
        with pytest.raises(StoreError, match="the disk is full"):
            await run.result()
        pages[0] = 10_000
        store.close_connection()
        while await run.status() == "running":
            await asyncio.sleep(0.05)
        assert (await run.result()).n == 6000
    store.close()


async def test_a_lock_of_another_process_is_waited_for_without_holding_the_loop(url, tmp_path):
    code = (
        "import sqlite3, sys, time\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('BEGIN IMMEDIATE')\nprint('locked', flush=True)\ntime.sleep(0.4)\n"
    )
    async with Runtime(url) as runtime:
        await (await runtime.start(research(), Question(text="c"))).result()
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "runs.db")], stdout=subprocess.PIPE
        )
        assert holder.stdout.readline() == b"locked\n"
        began = time.monotonic()
        run = await runtime.start(research(), Question(text="d"))
        assert time.monotonic() - began > 0.2
        assert (await run.result()).text.endswith("found d")
        holder.communicate()


async def test_an_owner_that_lives_is_not_taken_over(url):
    @workflow
    async def waits(ctx: Context) -> str:
        await ctx.sleep(0.8)
        return f"in {os.getpid()}"

    async with Runtime(url) as first, Runtime(url, workflows=[waits]):
        run = await first.start(waits)
        await run.result()
        assert "run.taken" not in [e.kind for e in await run.recorded()]


async def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open .*check the folder's permissions"):
        SqliteStore(tmp_path / "file" / "runs.db")


async def test_what_does_not_validate_is_not_stored(url):
    @workflow
    async def wrong(ctx: Context) -> int:
        return "not a number, and a long text of more than sixty-four characters, indeed"

    async with Runtime(url) as runtime:
        run = await runtime.start(wrong)
        with pytest.raises(RunFailed, match="OutputInvalid"):
            await run.result()
        assert "step.completed" not in [e.kind for e in await run.recorded()]


async def test_text_without_utf8_is_kept(runtime):
    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return await ctx.run(same, text + "\ud800")

    run = await runtime.start(flow, "half a pair: ")
    assert await run.result() == "half a pair: \ud800"


@pytest.mark.parametrize("url", ["memory", "sqlite"], indirect=True)
async def test_a_key_without_utf8_is_kept(url):
    @workflow
    async def flow(ctx: Context) -> str:
        return await ctx.run(same, "done", key="half a pair: \ud800")

    async with Runtime(url) as runtime:
        run = await runtime.start(flow)
        assert await run.result() == "done"
        assert "flow[0]/=half a pair: \ud800" in [event.path for event in await run.recorded()]


def test_many_may_open_a_new_store_at_the_same_moment(tmp_path):
    with ThreadPoolExecutor(4) as threads:
        for number in range(60):
            path = tmp_path / f"{number}.db"
            for opening in [threads.submit(SqliteStore, path) for _ in range(4)]:
                opening.result().close()
