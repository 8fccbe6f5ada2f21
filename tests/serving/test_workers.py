"""What holds over all workers of one `crew serve`: the limits of its keys, and its metrics."""

import asyncio
import os
import signal
import socket
import sqlite3
from contextlib import asynccontextmanager, closing

import openai
import pytest

from serving.access.keys import add_key, key_of
from serving.commands.link import Link
from serving.commands.shared import Parent, Shared
from serving.http.errors import ApiError
from tests.serving.test_metrics import Scrape
from tests.serving.test_serve_options import FLOW, lives, serving, until

ASKING = """
import asyncio
from crew.call.context import Context
from crew.run import workflow

@workflow
async def asking(ctx: Context, text: str) -> bool:
    if text == "waits":
        return await ctx.ask(bool, "ok?", key="ok")
    await asyncio.gather(ctx.ask(bool, "ok?", key="ok"), ctx.run(working))
    return True

async def working() -> None:
    await asyncio.sleep(3600)
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "words.py").write_text("GREETING = 'hello from'\n")
    (tmp_path / "open").touch()
    return tmp_path


def limited(place, **limits: int) -> list[str]:
    """Options of a server of two workers, where the secret `k1` has these limits."""
    key = key_of("k1", name="k", tenant="default").model_copy(update=limits)
    add_key(place / "keys.toml", key)
    return ["--workers", "2", "--keys", str(place / "keys.toml")]


@asynccontextmanager
async def only(worker: int, server):
    """Let one of the workers alone answer, for as long as the block lasts."""
    others = [pid for pid in server.told["workers"] if pid != worker and lives(pid)]

    async def stopped() -> bool:
        send(others, signal.SIGSTOP)
        if not (is_free := await asyncio.to_thread(can_write, server.place)):
            send(others, signal.SIGCONT)
        return is_free

    try:
        yield await until(stopped)
    finally:
        send(others, signal.SIGCONT)


def send(workers: list[int], number: int) -> None:
    for pid in workers:
        os.kill(pid, number)


def can_write(place) -> bool:
    """Say whether nobody, and so no worker that was stopped, holds the store's write lock."""
    with closing(sqlite3.connect(place / "runs.db", timeout=0, isolation_level=None)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        db.execute("ROLLBACK")
        return True


async def scrape(server) -> Scrape:
    url = server.told["url"].removesuffix("/v1")
    async with openai.AsyncOpenAI(base_url=url, api_key="k1", max_retries=0) as client:
        reply = await client.get("/metrics", cast_to=str)
    return Scrape("", reply)


async def ask(server) -> str:
    """Ask over a connection of its own, which any worker may take."""
    async with openai.AsyncOpenAI(
        base_url=server.told["url"], api_key="k1", max_retries=0
    ) as client:
        said = [{"role": "user", "content": f"{server.place}/open"}]
        reply = await client.chat.completions.create(model="patient", messages=said)
        return reply.choices[0].message.content


async def post(server, path: str, body: dict) -> None:
    """Post over a connection of its own."""
    async with openai.AsyncOpenAI(
        base_url=server.told["url"], api_key="k1", max_retries=0
    ) as client:
        await client.post(path, body=body, cast_to=object)


async def stream(server):
    said = [{"role": "user", "content": f"{server.place}/never"}]
    return await server.client.chat.completions.create(model="patient", messages=said, stream=True)


async def test_a_rate_holds_over_all_workers(place):
    async with serving(place, *limited(place, requests_per_minute=4)) as server:
        for worker in server.told["workers"]:
            async with only(worker, server):
                assert [await ask(server) for _ in range(2)] == [f"hello from {worker}"] * 2
        for worker in server.told["workers"]:
            async with only(worker, server):
                with pytest.raises(openai.RateLimitError, match="4 requests"):
                    await ask(server)


async def test_a_stream_at_one_worker_counts_at_the_other_until_its_worker_dies(place):
    async with serving(place, *limited(place, streams=1)) as server:
        one, other = server.told["workers"]
        async with only(one, server):
            held = await stream(server)
        async with only(other, server):
            with pytest.raises(openai.RateLimitError, match="1 answers open"):
                await ask(server)
        os.kill(one, signal.SIGKILL)

        async def answered() -> str:
            try:
                return await ask(server)
            except openai.RateLimitError:
                return ""

        assert await until(answered)
        await held.close()


async def test_metrics_are_those_of_all_workers_whichever_answers(place):
    async with serving(place, "--workers", "2") as server:
        for worker in server.told["workers"]:
            async with only(worker, server):
                await ask(server)
        held = await stream(server)
        for worker in server.told["workers"]:
            seen = await scrape(server)
            assert seen.value("crew_runs_total", workflow="patient", outcome="completed") == 2
            assert seen.value("crew_http_streams_open") == 1
            assert seen.value("crew_runs_open", status="running") == 1, worker
        await held.close()


async def test_questions_of_runs_at_work_and_of_those_that_wait_are_counted_once(place):
    (place / "flow.py").write_text(ASKING)
    async with serving(place, "--workers", "2") as server:
        for worker in server.told["workers"]:
            async with only(worker, server):
                for text in ("waits", "works"):
                    body = {"workflow": "asking", "input": text}
                    await post(server, "/runs", body)

        async def asked() -> bool:
            return (await scrape(server)).value("crew_asks_open") == 4

        assert await until(asked)
        for worker in server.told["workers"]:
            async with only(worker, server):
                seen = await scrape(server)
            assert seen.value("crew_asks_open") == 4
            assert seen.value("crew_runs_open", status="waiting") == 2


async def test_what_a_dead_worker_counted_stays_and_what_it_held_open_goes(place):
    async with serving(place, "--workers", "2") as server:
        one = server.told["workers"][0]
        async with only(one, server):
            await ask(server)
            held = await stream(server)
        before = await scrape(server)
        os.kill(one, signal.SIGKILL)

        async def after() -> Scrape | None:
            seen = await scrape(server)
            return seen if seen.value("crew_recoveries_total") == 1 else None

        seen = await until(after)
        assert before.value("crew_http_streams_open") == 1
        assert seen.value("crew_http_streams_open") == 0
        assert seen.value("crew_runs_total", outcome="completed") == 1
        await held.close()


async def test_a_worker_that_does_not_answer_counts_with_what_it_said_last(place):
    async with serving(place, "--workers", "2") as server:
        one, other = server.told["workers"]
        async with only(one, server):
            await ask(server)
        await scrape(server)
        async with only(other, server):
            seen = await scrape(server)
        assert seen.value("crew_runs_total", outcome="completed") == 1


@pytest.fixture
async def workers():
    """Two workers' sides of what they share, and what attends to each; all in this process."""
    shared, sides, attending = Shared(), [], []
    for _ in range(2):
        mine, its = socket.socketpair()
        attending.append(asyncio.create_task(shared.attend(mine)))
        sides.append(await Parent.joined(its, gone=lambda: None))
    yield sides, attending
    for task in attending:
        task.cancel()
    await asyncio.gather(*attending, return_exceptions=True)


async def test_an_answer_that_nobody_waits_for_any_more_is_not_counted(workers):
    [one, other], _ = workers
    entering = asyncio.create_task(one.enter("k", 1))
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    async with asyncio.timeout(5):
        while not await other.enter("k", 1):
            await asyncio.sleep(0.01)


async def test_a_worker_without_its_parent_begins_nothing(workers):
    [one, _], attending = workers
    attending[0].cancel()
    await asyncio.gather(attending[0], return_exceptions=True)
    with pytest.raises(ApiError, match="the server stops"):
        await one.take("k", 60)


async def test_what_was_asked_over_a_link_fails_when_its_other_end_is_gone():
    asked = asyncio.Event()

    async def never(word: str) -> None:
        asked.set()
        await asyncio.Event().wait()

    here, there = [await Link.over(end, never) for end in socket.socketpair()]
    serving_here, serving_there = (asyncio.create_task(it.serve()) for it in (here, there))
    asking = asyncio.create_task(here.ask("anything"))
    await asked.wait()
    serving_there.cancel()
    for one in (asking, here.ask("more")):
        with pytest.raises(ConnectionError):
            await one
    await serving_here
    serving_there.cancel()
