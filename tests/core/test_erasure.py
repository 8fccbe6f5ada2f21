"""What is erased is in no file any more."""

import asyncio
import secrets
import sqlite3
from contextlib import closing

import pytest

from crew import Context, Runtime, StoreError, workflow
from crew.journal.sqlite import SqliteStore
from crew.message import Message
from crew.run import retention
from tests.core.test_retention import done, echo, parent


@pytest.mark.parametrize("compress", [True, False])
async def test_no_byte_of_an_erased_conversation_is_in_any_file(compress, tmp_path):
    """Texts of every size: in rows, in packed bodies and their dictionary, in blobs and files."""
    store = SqliteStore(tmp_path / "runs.db", compress=compress)
    secret = secrets.token_hex(16)
    texts = [secret, *(f"{secret} {'word ' * n}" for n in (10, 100, 1_000, 20_000, 300_000))]
    async with Runtime(store) as runtime:
        for n in range(40):
            await done(runtime, echo, f"number {n} of the others " + "other words " * n)
            await done(runtime, echo, f"{secret} and {'other words ' * n}", thread="secret")
        await runtime.describe_thread("secret", {"about": secret})
        await runtime.open_thread("begun", [Message("user", secret)])
        await runtime.branch_thread("branch", [Message("user", secret)], base="secret", turn=3)
        await done(runtime, echo, f"{secret} in a branch", thread="branch")
        for text in texts:
            await done(runtime, parent, text, thread="secret")
        last = await done(runtime, echo, "the others go on" * 20)
        assert found(tmp_path, secret)
        await runtime.erase(thread="begun")
        assert found(tmp_path, secret)
        await runtime.erase(thread="secret")
        assert not found(tmp_path, secret)
        assert await last.result() == ("the others go on" * 20)[::-1]
        assert (await runtime.thread("secret")).messages == ()
        await done(runtime, echo, "and on" * 100)
    store.close()
    assert not found(tmp_path, secret)


async def test_no_byte_of_what_an_erased_thread_kept_is_in_any_file(tmp_path):
    store, secret = SqliteStore(tmp_path / "runs.db"), secrets.token_hex(16)

    @workflow(name="keeps")
    async def keeps(ctx: Context, text: str) -> str:
        ctx.thread.state["said"] = f"{text} {'word ' * 1000}"
        ctx.thread.state[text] = True
        return "kept"

    async with Runtime(store) as runtime:
        for _ in range(3):
            await done(runtime, keeps, secret, thread="secret")
        await done(runtime, echo, "the others go on" * 20)
        assert found(tmp_path, secret)
        await runtime.erase(thread="secret")
        assert not found(tmp_path, secret)
        assert dict((await runtime.thread("secret")).state) == {}
    store.close()
    assert not found(tmp_path, secret)


def found(folder, secret: str) -> list[str]:
    """Return the files that hold the secret, in either direction."""
    forms = (secret.encode(), secret[::-1].encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(form in path.read_bytes() for form in forms)]


def reader_of(path):
    """Return a connection that reads the store, and has not finished."""
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM runs").fetchone()
    return reader


async def test_erasing_waits_for_others_who_still_read(tmp_path):
    async with Runtime(f"sqlite:///{tmp_path}/runs.db") as runtime:
        await done(runtime, echo, "x", thread="t")
        reader = reader_of(tmp_path / "runs.db")
        asyncio.get_running_loop().call_later(0.1, reader.close)
        assert (await runtime.erase(thread="t")).runs == 1
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            reader.execute("SELECT 1")


async def test_erasing_says_so_where_others_read_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(retention, "SCRUB_SECONDS", 0.0)
    async with Runtime(f"sqlite:///{tmp_path}/runs.db") as runtime:
        await done(runtime, echo, "x", thread="t")
        told = "the runs are removed, .* erase again when they"
        with closing(reader_of(tmp_path / "runs.db")), pytest.raises(StoreError, match=told):
            await runtime.erase(thread="t")
        assert (await runtime.erase(thread="t")).runs == 0
