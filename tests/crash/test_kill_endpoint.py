"""The endpoint and its engine die in mid-sentence; whoever reads gets each word once."""

import asyncio
import contextlib
import os
import random
import signal

import openai
import pytest

from crew.event import Event
from crew.run import Runtime
from tests.crash.follower import Followed, follow
from tests.crash.programs import Program, endpoint, serving
from tests.crash.reader import Reading
from tests.engine import text_of

WORDS, PACE = 60, 40.0
TEXT = text_of(WORDS)
ENGINE = ("--words", str(WORDS), "--pace", str(PACE))
QUICK = ("--words", "1", "--pace", "1000")
CLIENTS = 4
AN_ANSWER = 2.5
"""Long enough for an answer: an engine that cannot go on needs that, and as a model is asked four
times in all, an engine is not hit more often."""
SLOW = [pytest.mark.slow, pytest.mark.timeout(900)]


async def killed(
    program: Program, times: int, seed: int, rest: float = 0.0, store: str = ""
) -> None:
    """Kill a program at random moments; started again, it lives for `rest` seconds at least.

    Where a `store` is given, every other life is long enough for each of its runs to get further: a
    run of which three owners die one after the other without that is parked.
    """
    moments = random.Random(seed)
    for number in range(times):
        await asyncio.sleep(moments.uniform(0.05, 1.5))
        await program.kill()
        await program.start()
        await asyncio.sleep(rest)
        if store and number % 2:
            await got_further(store, program.pid)


async def got_further(store: str, pid: int) -> None:
    """Return once every run has ended, or said something in this process."""
    async with Runtime(store, worker=False) as runtime, asyncio.timeout(60):
        while not all([gets_further(await run.recorded(), pid) for run in await runtime.runs()]):
            await asyncio.sleep(0.05)


def gets_further(events: list[Event], pid: int) -> bool:
    has_text = False
    for event in reversed(events):
        if event.kind == "run.completed":
            return True
        if event.kind == "agent.started":
            return has_text and event.data["pid"] == pid
        has_text |= event.kind == "text.emitted"
    return False


async def follow_on(client, name: str, kills: asyncio.Task) -> list[Followed]:
    """Ask one thing after another, as long as something is killed."""
    found = list[Followed]()
    while not kills.done():
        found.append(await follow(client, "count", key=f"{name}-{len(found)}"))
    return found


async def storm(
    server: Program, victim: Program, times: int, rest: float = 0.0, store: str = ""
) -> list[Followed]:
    """Several clients read while a program is killed again and again; return what they got."""
    kills = asyncio.create_task(killed(victim, times, times, rest, store))
    async with (
        openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client,
        asyncio.timeout(60 + times * 20),
    ):
        readers = (follow_on(client, str(name), kills) for name in range(CLIENTS))
        found, _ = await asyncio.gather(asyncio.gather(*readers), kills)
        return [told for each in found for told in each]


def whole(told: Followed) -> bool:
    """Whether each word came once, in order, and the response has them all."""
    return told.is_in_order and told.text == told.final.output_text == TEXT


@pytest.mark.parametrize(
    ("store", "kills"),
    [
        ("sqlite", 5),
        pytest.param("sqlite", 50, marks=SLOW),
        pytest.param("postgres", 8, marks=SLOW),
    ],
)
async def test_killed_server_costs_its_readers_no_word(store, kills, tmp_path, request):
    url = f"sqlite:///{tmp_path}/runs.db"
    if store == "postgres":
        url = request.getfixturevalue("postgres_url")
    async with serving(tmp_path, url, *ENGINE) as (_, server):
        told = await storm(server, server, kills, store=url)

    assert [each for each in told if not whole(each)] == []
    assert sum(each.connections - 1 for each in told) >= kills
    async with Runtime(url, worker=False) as runtime:
        # A start that was cut off and sent again is one run.
        assert {f"resp_{run.id}" for run in await runtime.runs()} == {each.id for each in told}


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=SLOW)])
async def test_start_that_was_cut_off_and_is_sent_again_is_one_run(kills, tmp_path):
    url, moments = f"sqlite:///{tmp_path}/runs.db", random.Random(kills)
    async with serving(tmp_path, url, *QUICK) as (_, server):
        for number in range(kills):
            reading = Reading("responses", key=f"k{number}")
            cut_off = asyncio.create_task(reading.read(server.port))
            await asyncio.wait({cut_off}, timeout=moments.uniform(0.0, 0.04))
            await server.kill()
            await asyncio.gather(cut_off, return_exceptions=True)
            await server.start()
            again = Reading("responses", key=f"k{number}")
            await again.read(server.port)
            assert (again.text, reading.run or again.run) == (text_of(1), again.run)

    async with Runtime(url, worker=False) as runtime:
        assert len(await runtime.runs()) == kills


async def chat_on(port: int, name: str, kills: asyncio.Task) -> list[Reading]:
    """Ask one thing after another, each again with its key until it was answered whole."""
    found = list[Reading]()
    while not kills.done():
        found.append(Reading("chat", key=f"{name}-{len(found)}"))
        while not found[-1].is_done:
            with contextlib.suppress(OSError):
                await found[-1].read_on(port)
            await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("owner", ["llamacpp", "somebody"])
@pytest.mark.parametrize("times", [2, pytest.param(15, marks=SLOW)])
async def test_chat_that_is_asked_again_with_its_key_is_answered_whole(owner, times, tmp_path):
    url, words = f"sqlite:///{tmp_path}/runs.db", (*ENGINE, "--owner", owner)
    async with serving(tmp_path, url, *words) as (_, server):
        resting = {"rest": AN_ANSWER} if owner == "somebody" else {"store": url}
        kills = asyncio.create_task(killed(server, times, times, **resting))
        readers = (chat_on(server.port, str(name), kills) for name in range(CLIENTS))
        async with asyncio.timeout(60 + times * 20):
            answers, _ = await asyncio.gather(asyncio.gather(*readers), kills)
    found = [reading for each in answers for reading in each]

    assert [reading for reading in found if reading.text != TEXT] == []
    async with Runtime(url, worker=False) as runtime:
        assert len(await runtime.runs()) == len(found)


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_reader_at_a_server_that_was_stopped_gets_the_rest_from_who_took_over(api, tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    reading = Reading(api, key="k")
    async with (
        serving(tmp_path, url, *ENGINE) as (engine, server),
        endpoint(tmp_path, url, engine),
    ):
        reader = asyncio.create_task(reading.read(server.port))
        while not reading.text:
            await asyncio.sleep(0.01)
        os.kill(server.pid, signal.SIGSTOP)
        await taken_over(url)
        os.kill(server.pid, signal.SIGCONT)
        await reader

    assert (reading.text, reading.error) == (TEXT, "")


async def taken_over(url: str) -> None:
    """Return once the one run has another owner."""
    async with Runtime(url, worker=False) as runtime, asyncio.timeout(30):
        [run] = await runtime.runs()
        async for event in run.events(after=2):
            if event.kind == "run.taken":
                return


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=SLOW)])
async def test_killed_engine_leaves_no_seam(kills, tmp_path):
    async with serving(tmp_path, f"sqlite:///{tmp_path}/runs.db", *ENGINE) as (engine, server):
        told = await storm(server, engine, kills, AN_ANSWER)

    assert [each for each in told if not whole(each)] == []
    assert [each for each in told if "incomplete" in each.closed.values()] == []


@pytest.mark.parametrize("victim", ["server", "engine"])
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=SLOW)])
async def test_answer_starts_again_where_the_engine_cannot_go_on(victim, kills, tmp_path):
    words = (*ENGINE, "--owner", "somebody")
    async with serving(tmp_path, f"sqlite:///{tmp_path}/runs.db", *words) as (engine, server):
        told = await storm(server, server if victim == "server" else engine, kills, AN_ANSWER)

    assert [each for each in told if not whole(each)] == []
    assert any("incomplete" in each.closed.values() for each in told)


async def test_chat_that_cannot_go_on_ends_with_an_error_that_names_the_run(tmp_path):
    words = (*ENGINE, "--owner", "somebody")
    asked = {"model": "chat", "messages": [{"role": "user", "content": "count"}], "stream": True}
    again = {"extra_headers": {"Idempotency-Key": "k"}}
    async with (
        serving(tmp_path, f"sqlite:///{tmp_path}/runs.db", *words) as (engine, server),
        openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client,
    ):
        chunks = aiter(await client.chat.completions.create(**asked, **again))
        while not (chunk := await anext(chunks)).choices[0].delta.content:
            pass
        await engine.kill()
        await engine.start()
        with pytest.raises(openai.APIError, match=chunk.id.removeprefix("chatcmpl-")) as caught:
            _ = [chunk async for chunk in chunks]
        assert caught.value.code == "text_taken_back"

        rest = await client.chat.completions.create(**asked, **again)
        said = [chunk.choices[0].delta.content or "" async for chunk in rest]
    assert "".join(said) == TEXT
