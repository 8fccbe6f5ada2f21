"""A journal in PostgreSQL outlives its server's restarts and cut connections."""

import asyncio

import pytest

from crew import Context, Runtime, StoreError, workflow
from crew.journal.postgres import PostgresStore
from crew.journal.reading import JournalReader
from tests.core.flows import Count, loop


async def disturbed(url, server, disturb, times: int) -> None:
    """Run a loop of steps while the server is disturbed; nothing is lost, nothing doubled."""
    async with Runtime(url) as runtime:
        run = await runtime.start(loop(300, max_steps=1000), Count(n=0))
        for _ in range(times):
            await asyncio.sleep(0.03)
            await asyncio.to_thread(disturb)
        assert (await asyncio.wait_for(run.result(), 60)).n == 300
        row = runtime.store.run(run.id)
        events = JournalReader(runtime.store, row).every(upto=row.offset)
    done = [event.path for event in events if event.kind == "step.completed"]
    assert len(done) == len(set(done)) == 301


async def test_an_immediate_restart_in_mid_run_loses_nothing(postgres_url, postgres_server):
    await disturbed(postgres_url, postgres_server, postgres_server.restart_immediately, 3)


async def test_terminated_backends_in_mid_run_lose_nothing(postgres_url, postgres_server):
    await disturbed(postgres_url, postgres_server, postgres_server.terminate_backends, 10)


async def test_two_runtimes_share_the_work_of_one_database(postgres_url):
    @workflow
    async def asking(ctx: Context, name: str) -> str:
        return f"{name} {await ctx.ask(str, 'What?', key='what')}"

    async with Runtime(postgres_url, worker=False) as door:
        runs = [await door.start(asking, str(n)) for n in range(20)]
        async with (
            Runtime(postgres_url, workflows=[asking]),
            Runtime(postgres_url, workflows=[asking]),
        ):
            for run in runs:
                while not await run.questions():
                    await asyncio.sleep(0.02)
                await run.answer("what", "yes")
            assert [await run.result() for run in runs] == [f"{n} yes" for n in range(20)]
        taken = [[e for e in await run.recorded() if e.kind == "run.taken"] for run in runs]
        assert all(taken)


@pytest.mark.parametrize(("version", "writer"), [(99, "newer release"), (4, "development version")])
def test_a_database_that_this_release_cannot_read_is_refused_untouched(
    postgres_url, version, writer
):
    store = PostgresStore(postgres_url)
    store._link.get().execute("UPDATE crew_schema SET version = %s", (version,))
    with pytest.raises(StoreError, match=f"{writer} .schema {version}.*Nothing was changed"):
        PostgresStore(postgres_url)
    store.close()


def test_a_server_that_is_not_there_is_said_without_the_password():
    with pytest.raises(StoreError) as raised:
        PostgresStore("postgresql://crew:secret@127.0.0.1:1/none")
    assert "is the server running" in str(raised.value)
    assert "secret" not in str(raised.value)
