"""Runs that are started, answered and followed in one process and driven in another.

Nobody looks by itself here, unless a test says so: what comes, comes because it was told.
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from crew import Context, RunCancelled, Runtime, StoreError, workflow
from crew.journal import Started, datagrams
from crew.journal.opening import open_store
from crew.run import leaving, other_runtimes
from crew.testing.store_suite import new_run
from tests.core.lives import SECONDS, result, stores, until

NEVER = 3600.0
ROOT = Path(__file__).parents[2]


@workflow
async def hello(name: str) -> str:
    return f"Hello, {name}"


@workflow
async def asking(ctx: Context, name: str) -> str:
    return f"{name}: {await ctx.ask(str, 'What?', key='what')}"


@workflow
async def asking_a_child(ctx: Context, name: str) -> str:
    return await ctx.run(asking, name)


@workflow
async def slow(ctx: Context, seconds: float) -> None:
    await ctx.sleep(seconds)


def client(url: str) -> Runtime:
    return Runtime(url, worker=False, look_seconds=NEVER)


def worker(url: str, *flows) -> Runtime:
    return Runtime(url, workflows=flows, look_seconds=NEVER)


@contextlib.contextmanager
def process(url: str):
    """A worker in a process of its own, which knows `hello` and `asking`."""
    code = (
        "import asyncio\nfrom crew import Runtime\n"
        "from tests.core.test_other_runtimes import asking, hello\n"
        "async def main():\n"
        f"    async with Runtime({url!r}, workflows=[asking, hello]):\n"
        "        print(flush=True)\n        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        try:
            yield started
        finally:
            started.kill()


async def asked(run):
    async with asyncio.timeout(SECONDS):
        while not await run.questions():
            await asyncio.sleep(0.01)


async def kinds(run):
    return [event.kind async for event in run.events()]


@stores
async def test_a_run_that_is_started_in_one_process_is_driven_in_another(url):
    with process(url):
        async with client(url) as here:
            for name in ("Ada", "Bob"):
                assert await result(await here.start(hello, name)) == f"Hello, {name}"


@stores
async def test_many_that_are_started_at_once_all_end(url):
    async with worker(url, hello), worker(url, hello), client(url) as here:
        runs = await asyncio.gather(*(here.start(hello, str(n)) for n in range(50)))
        found = await asyncio.gather(*(result(run) for run in runs))
    assert found == [f"Hello, {n}" for n in range(50)]


@stores
@pytest.mark.parametrize("flow", [asking, asking_a_child])
async def test_an_answer_reaches_the_process_that_drives_the_run(url, flow):
    async with worker(url, asking, asking_a_child), client(url) as here:
        run = await here.start(flow, "a")
        async with asyncio.timeout(SECONDS):
            while not (open_runs := [it for it in await here.runs() if await it.questions()]):
                await asyncio.sleep(0.01)
        await open_runs[0].answer("what", "this")
        assert await result(run) == "a: this"


@stores
async def test_an_answer_has_a_run_taken_that_left_memory(url, monkeypatch):
    monkeypatch.setattr(leaving, "LINGER_SECONDS", 0.0)
    async with worker(url, asking) as there, client(url) as here:
        run = await here.start(asking, "a")
        await asked(run)
        async with asyncio.timeout(SECONDS):
            while there.store.run(run.id).owner is not None:
                await asyncio.sleep(0.01)
        await run.answer("what", "this")
        assert await result(run) == "a: this"


@stores
async def test_a_cancel_reaches_the_process_that_drives_the_run(url):
    async with worker(url, slow), client(url) as here:
        run = await here.start(slow, 60.0)
        following = asyncio.create_task(kinds(run))
        await until(run, "waiting")
        await run.cancel()
        with pytest.raises(RunCancelled):
            await result(run)
        assert "run.cancelled" in await following


@stores
async def test_a_cancel_from_another_process_reaches_children_too(url):
    async with worker(url, asking, asking_a_child), client(url) as here:
        run = await here.start(asking_a_child, "a")
        async with asyncio.timeout(SECONDS):
            while len(found := await here.runs()) < 2:
                await asyncio.sleep(0.01)
        await run.cancel()
        for each in found:
            with pytest.raises(RunCancelled):
                await result(each)


@stores
async def test_what_a_run_says_is_followed_from_another_process_as_it_is_said(url):
    go_on = asyncio.Semaphore(0)

    @workflow
    async def tells(ctx: Context) -> None:
        for text in "abc":
            ctx.progress(text)
            await go_on.acquire()

    async with worker(url, tells), client(url) as here, asyncio.timeout(SECONDS):
        run = await here.start(tells)
        said = ""
        async for event in run.events():
            if event.kind == "progress.made":
                said += event.data["text"]
                go_on.release()  # it says the next thing once this one has been read
    assert said == "abc"


@stores
async def test_text_is_followed_from_another_process_as_it_is_written(url):
    go_on = asyncio.Semaphore(0)

    @workflow
    async def writes(ctx: Context) -> None:
        for text in ("one ", "two ", "three"):
            ctx.emit(text)
            await go_on.acquire()

    async with worker(url, writes), client(url) as here, asyncio.timeout(SECONDS):
        run = await here.start(writes)
        read = ""
        async for event in run.events():
            if event.kind == "text.emitted":
                read += event.data["text"]
                go_on.release()
        await result(run)
    assert read == "one two three"


@stores
async def test_turns_of_threads_that_another_process_drives_end_in_their_order(url):
    @workflow
    async def turn(ctx: Context, n: int) -> list[str]:
        return [message.text for message in ctx.thread.messages if message.role == "user"]

    async with worker(url, turn), worker(url, turn), client(url) as here:
        runs = [
            (thread, n, await here.start(turn, n, thread=thread))
            for n in range(4)
            for thread in ("a", "b")
        ]
        for _, n, run in runs:
            before = await result(run)
            assert before[:n] == [str(k) for k in range(n)]


@stores
async def test_several_follow_one_run_and_one_of_them_goes_away(url):
    async with worker(url, asking) as there, client(url) as first:
        run = await first.start(asking, "a")
        async with client(url) as second:
            following = [
                asyncio.create_task(kinds(run)),
                asyncio.create_task((await second.get(run.id)).result()),
            ]
            async with client(url) as third:
                left = asyncio.create_task(kinds(await third.get(run.id)))
                await asked(run)
                left.cancel()
            await run.answer("what", "this")
            async with asyncio.timeout(SECONDS):
                assert (await following[0])[-1] == "run.completed"
                assert await following[1] == "a: this"
        async with asyncio.timeout(SECONDS):
            while there.followers._afar:  # it remembers nobody who followed
                await asyncio.sleep(0.01)


@stores
async def test_a_worker_that_comes_later_is_heard_of(url):
    async with client(url) as here:
        run = await here.start(hello, "Ada")
        following = asyncio.create_task(run.result())
        await asyncio.sleep(0.05)
        async with worker(url, hello):
            async with asyncio.timeout(SECONDS):
                assert await following == "Hello, Ada"


@stores
async def test_one_that_learns_a_workflow_later_is_given_its_runs(url):
    async with worker(url) as there, client(url) as here:
        await result(await there.start(hello, "before"))
        assert await result(await here.start(hello, "Ada")) == "Hello, Ada"


@stores
async def test_a_run_whose_process_is_killed_is_followed_where_it_is_taken(url):
    with process(url) as killed:
        async with client(url) as here:
            assert await result(await here.start(hello, "Ada")) == "Hello, Ada"
            killed.send_signal(signal.SIGSTOP)
            run = await here.start(hello, "Bob")  # it is offered to one that does not answer
            following = asyncio.create_task(run.result())
            killed.kill()
            killed.wait()
            async with Runtime(url, workflows=[hello]), asyncio.timeout(SECONDS):
                assert await following == "Hello, Bob"


@stores
async def test_a_run_that_was_followed_in_a_killed_process_is_followed_in_the_next(url):
    with process(url) as killed:
        async with client(url) as here:
            run = await here.start(asking, "a")
            await asked(run)
            following = asyncio.create_task(kinds(run))
            killed.kill()
            killed.wait()
            await run.answer("what", "this")
            async with Runtime(url, workflows=[asking]), asyncio.timeout(SECONDS):
                assert (await following)[-1] == "run.completed"


@stores
async def test_nothing_is_offered_to_a_process_that_was_killed(url):
    with process(url) as killed:
        async with worker(url, hello), client(url) as here:
            await result(await here.start(hello, "Ada"))
            killed.kill()
            killed.wait()
            runs = [await here.start(hello, name) for name in "abcd"]
            assert [await result(run) for run in runs] == [f"Hello, {name}" for name in "abcd"]
            found = {path.name for path in here.store.sockets.iterdir()}
            assert len(found) == 2  # what the dead one left is gone


@stores
async def test_where_nobody_can_be_told_everything_ends_by_looking(
    url, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    async with Runtime(url, workflows=[hello, asking]), Runtime(url, worker=False) as here:
        assert "socket.missing" in caplog.messages
        assert await result(await here.start(hello, "Ada")) == "Hello, Ada"
        run = await here.start(asking, "a")
        following = asyncio.create_task(kinds(run))
        await asked(run)
        await run.answer("what", "this")
        assert await result(run) == "a: this"
        assert (await following)[-1] == "run.completed"


async def test_a_folder_that_others_may_enter_is_not_used(url, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sockets = open_store(url).sockets
    assert sockets is not None
    sockets.mkdir(parents=True)
    sockets.chmod(0o777)
    async with Runtime(url, workflows=[hello]) as runtime:
        assert "socket.missing" in caplog.messages
        assert await result(await runtime.start(hello, "Ada")) == "Hello, Ada"


async def test_a_runtime_has_a_bell_though_the_last_of_others_just_took_the_folder_away(
    url, monkeypatch, caplog
):
    made, times = datagrams.make_private, iter(range(100))

    def taken_away(folder):
        made(folder)
        if next(times) == 1:  # the one above it is made first
            folder.rmdir()

    monkeypatch.setattr(datagrams, "make_private", taken_away)
    async with worker(url, hello), client(url) as here:
        assert await result(await here.start(hello, "Ada")) == "Hello, Ada"
    assert "socket.missing" not in caplog.messages


async def test_a_runtime_without_a_folder_for_its_bell_goes_on_without(url, monkeypatch, caplog):
    monkeypatch.setattr(datagrams, "make_private", lambda folder: None)
    async with Runtime(url, workflows=[hello]) as runtime:
        assert "socket.missing" in caplog.messages
        assert await result(await runtime.start(hello, "Ada")) == "Hello, Ada"


async def test_who_does_not_listen_holds_up_nobody(url):
    folder = open_store(url).sockets
    deaf, ringing = (
        datagrams.DatagramSocket(folder, name, lambda name, said: None) for name in "ab"
    )
    assert [ringing.send("a", b"x" * 1000) for _ in range(2000)] == [True] * 2000
    deaf.close()
    assert not ringing.send("a", b"x")
    ringing.close()


@stores
async def test_a_run_that_could_not_be_taken_when_it_was_told_of_is_taken_by_looking(
    url, monkeypatch
):
    async with worker(url, hello) as first, worker(url, hello) as second, client(url) as here:
        await result(await here.start(hello, "a"))
        for each in (first, second):
            store, takeable = each.store, each.store.takeable

            def failing(*arguments, store=store, takeable=takeable, **options):
                monkeypatch.setattr(store, "takeable", takeable)
                raise StoreError(message="not now")

            monkeypatch.setattr(store, "takeable", failing)
        assert await result(await here.start(hello, "b")) == "Hello, b"


async def test_of_many_runs_that_nobody_takes_some_are_told_of_later(url, monkeypatch):
    monkeypatch.setattr(other_runtimes, "MOST_KEPT", 1)
    async with client(url) as here:
        runs = [await here.start(hello, name) for name in "abc"]
        async with worker(url, hello):  # it looks when it comes
            assert [await result(run) for run in runs] == [f"Hello, {name}" for name in "abc"]


async def test_nothing_is_left_behind_by_those_who_leave(url):
    async with worker(url, hello) as there, client(url) as here:
        await result(await here.start(hello, "Ada"))
        sockets = there.store.sockets
        assert len(list(sockets.iterdir())) == 2
    assert not sockets.exists()


@pytest.mark.parametrize("said", [b"", b"{}", b"\xff", b"7", b'[["no such thing"], 3, ["take"]]'])
async def test_what_nobody_understands_harms_nobody(url, said, caplog):
    async with worker(url, hello) as there, client(url) as here:
        stranger = datagrams.DatagramSocket(
            there.store.sockets, "stranger", lambda name, said: None
        )
        stranger.send(there.other_runtimes.name, said)
        stranger.close()
        assert await result(await here.start(hello, "Ada")) == "Hello, Ada"
    assert {"socket.garbage", "notice.unknown"} & set(caplog.messages)


@stores
async def test_a_run_that_was_started_in_a_workers_name_is_adopted_though_nobody_told(url):
    async with Runtime(url, workflows=[hello]) as there, client(url) as here:
        named = await here.start(hello, "Ada")  # whatever a first event looks like
        await result(named)
        first = here.store.events(named._row.number)[0]
        new = new_run("named", owner=there.other_runtimes.name, workflow="hello", first=first)
        started = await here.writer.execute(new)
        assert isinstance(started, Started)
        run = await here.get("named")
        assert await result(run) == "Hello, Ada"
        assert [event.kind for event in await run.recorded()].count("run.taken") == 0


@stores
async def test_a_run_whose_worker_died_before_it_adopted_it_is_taken_by_another(url):
    async with client(url) as here:
        async with Runtime(url, workflows=[hello]) as other:
            model = await here.start(hello, "Ada")
            await result(model)
            first = here.store.events(model._row.number)[0]
            new = new_run("named", owner="nobody lives", workflow="hello", first=first)
            await here.writer.execute(new)
            run = await here.get("named")
            assert await result(run) == "Hello, Ada"
            assert other.drives
        assert [event.kind for event in await run.recorded()].count("run.taken") == 1


@stores
async def test_a_run_in_the_name_of_one_that_does_not_know_its_workflow_is_given_up(url):
    async with Runtime(url) as there, client(url) as here:
        new = new_run("named", owner=there.other_runtimes.name, workflow="another")
        await here.writer.execute(new)
        async with asyncio.timeout(SECONDS):
            while here.store.run("named").owner is not None:
                await asyncio.sleep(0.01)
