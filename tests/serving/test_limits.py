"""What one key may use, over HTTP with the official client, and counted with a clock of ours."""

import asyncio

import httpx2
import openai
import pytest

from crew.errors import RunCancelled, RunFailed
from serving.access.keys import key_of
from serving.access.limits import Bucket, Limits, Tally, Usage
from serving.http.errors import ApiError
from tests.serving.conftest import greeting

KEY = key_of("k1", name="k", tenant="acme")


def limited(**limits: int):
    return [KEY.model_copy(update=limits)]


@pytest.fixture
def opened(opening, tmp_path):
    def open_with(**options):
        return opening(f"sqlite:///{tmp_path}/runs.db", **options)

    return open_with


def test_bucket_gives_a_minute_at_once_and_then_its_rate():
    bucket = Bucket(120, now=0.0)

    assert [bucket.take(0.0) for _ in range(120)] == [0.0] * 120
    assert bucket.take(0.0) == pytest.approx(0.5)
    assert bucket.take(0.5) == 0.0
    assert bucket.take(0.75) == pytest.approx(0.25)
    assert [bucket.take(3600.0) for _ in range(121)][-1] == pytest.approx(0.5)


async def test_keys_are_counted_apart():
    usage = Usage(Limits(), Tally(clock=lambda: 7.0))
    one, other = limited(requests_per_minute=1)[0], key_of("k2", name="o", tenant="acme")
    await usage.count_request(one)

    with pytest.raises(ApiError) as caught:
        await usage.count_request(one)
    assert caught.value.all_headers == {"x-should-retry": "true", "Retry-After": "60"}
    await usage.count_request(other)


async def test_too_many_requests_are_refused_in_openais_shape(opened):
    async with opened(keys=limited(requests_per_minute=2)) as endpoint:
        for _ in range(2):
            await endpoint.client.models.list()
        with pytest.raises(openai.RateLimitError) as caught:
            await endpoint.client.models.list()

    assert (caught.value.type, caught.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 30


async def test_client_comes_back_by_itself_when_it_may(opened):
    async with opened(keys=limited(requests_per_minute=40)) as endpoint:
        listing = (await endpoint.client.models.with_raw_response.list() for _ in range(999))
        with pytest.raises(openai.RateLimitError):
            _ = [listed async for listed in listing]
        assert await endpoint.client.with_options(max_retries=2).models.list()


@pytest.mark.parametrize("options", [{"keys": limited(streams=1)}, {"limits": Limits(streams=1)}])
async def test_one_stream_more_than_allowed_is_refused_until_one_ends(
    opened, gate, request, options
):
    async with opened(**options) as endpoint:
        stream = await endpoint.ask("echo", request.node.name, stream=True)
        with pytest.raises(openai.RateLimitError, match="open at once") as caught:
            await endpoint.ask("echo", "second")
        assert caught.value.response.headers["retry-after"] == "2"
        assert len(await runs_of(endpoint)) == 1
        gate.set()
        _ = [chunk async for chunk in stream]
        assert await endpoint.client.with_options(max_retries=2).chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "third"}]
        )


async def test_client_that_leaves_while_it_waits_makes_room(opened, gate, request):
    async with opened(keys=limited(streams=1)) as endpoint:
        asked = asyncio.create_task(endpoint.ask("echo", request.node.name))
        async with asyncio.timeout(10):
            while not (runs := await runs_of(endpoint)):
                await asyncio.sleep(0.01)
        [run] = runs
        asked.cancel()
        patient = endpoint.client.with_options(max_retries=5, timeout=20)
        second = [{"role": "user", "content": "second"}]
        other = asyncio.create_task(
            patient.chat.completions.create(model="greeting", messages=second)
        )
        assert (await other).choices[0].message.content
        gate.set()
        assert (await run.result()).text.startswith(request.node.name)


async def test_one_open_run_more_than_allowed_is_refused_and_starts_nothing(opened, request):
    async with opened(keys=limited(open_runs=2)) as endpoint:
        asked = [endpoint.ask("asking", f"{request.node.name} {number}") for number in range(5)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        refused = [one for one in found if isinstance(one, openai.RateLimitError)]

        assert (len(refused), len(await runs_of(endpoint))) == (3, 2)
        assert refused[0].response.headers["retry-after"] == "5"
        assert refused[0].code == "rate_limit_exceeded"
        for run in await runs_of(endpoint):
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
        assert await endpoint.ask("echo", "hi")


@pytest.mark.parametrize(
    ("of_key", "of_request", "smaller"), [(500, 90, 90), (500, "900", 500), (500, None, 500)]
)
async def test_smaller_budget_holds(opened, of_key, of_request, smaller):
    metadata = {} if of_request is None else {"budget_tokens": of_request}
    async with opened(keys=limited(tokens_per_run=of_key)) as endpoint:
        await endpoint.ask("echo", "hi", extra_body={"metadata": metadata})
        [run] = await runs_of(endpoint)

        assert (await run.recorded())[0].data["budget"] == smaller


async def test_a_fork_has_the_budget_of_whoever_asks_for_it(opened):
    async with opened(keys=limited(calls_per_run=1)) as endpoint:
        run = await endpoint.runtime.of(KEY.tenant).start(greeting, "hi")
        await run.result()
        response = await endpoint.client.post(
            f"/runs/{run.id}/fork", cast_to=httpx2.Response, body={"at": 1}
        )
        fork = await endpoint.runtime.of(KEY.tenant).get(response.json()["id"])
        with pytest.raises(RunFailed, match="1 calls needed"):
            await fork.result()


async def test_key_limits_calls_and_seconds_of_a_run_too(opened):
    async with opened(keys=limited(calls_per_run=1, seconds_per_run=60)) as endpoint:
        with pytest.raises(openai.RateLimitError, match="1 calls needed"):
            await endpoint.ask("greeting", "hi")
        [run] = await runs_of(endpoint)

        assert (await run.recorded())[0].data["budget_seconds"] == 60


@pytest.mark.parametrize(("asked", "smaller"), [(0.1, 0.1), (9, 0.5), (None, 0.5)])
async def test_key_limits_the_money_of_a_run(opened, asked, smaller):
    budget = None if asked is None else {"money": asked}
    async with opened(keys=limited(money_per_run=0.5)) as endpoint:
        body = {"workflow": "echo", "input": {"text": "hi"}, "budget": budget}
        response = await endpoint.client.post("/runs", cast_to=httpx2.Response, body=body)
        run = await endpoint.runtime.of(KEY.tenant).get(response.json()["id"])

        assert (await run.recorded())[0].data["budget_money"] == smaller


async def test_run_over_its_budget_is_no_error_of_the_server(opened):
    async with opened(keys=limited(tokens_per_run=1)) as endpoint:
        with pytest.raises(openai.RateLimitError, match="BudgetExceeded") as caught:
            await endpoint.client.with_options(max_retries=2).chat.completions.create(
                model="greeting", messages=[{"role": "user", "content": "hi"}]
            )
        assert (caught.value.type, caught.value.code) == ("insufficient_quota", "budget_exceeded")
        assert len(await runs_of(endpoint)) == 1


async def test_answer_that_takes_too_long_is_ended_and_its_run_goes_on(opened, gate, request):
    async with opened(limits=Limits(wait_seconds=0.5)) as endpoint:
        name, responses = request.node.name, endpoint.client.responses
        runs = []
        for asked in (endpoint.ask("echo", name), responses.create(model="echo", input=name)):
            with pytest.raises(openai.InternalServerError, match="goes on") as caught:
                await asked
            assert (caught.value.status_code, caught.value.code) == (504, "still_running")
            runs.append(await endpoint.runtime.get(caught.value.response.headers["x-run-id"]))
        gate.set()
        assert [(await run.result()).text.startswith(name) for run in runs] == [True, True]


async def test_stream_may_last_longer_than_an_answer_is_waited_for(opened, gate, request):
    async with opened(limits=Limits(wait_seconds=0.1)) as endpoint:
        stream = await endpoint.ask("echo", request.node.name, stream=True)
        asyncio.get_running_loop().call_later(0.15, gate.set)
        chunks = [chunk async for chunk in stream]

    assert chunks[-1].choices[0].finish_reason == "stop"


async def runs_of(endpoint):
    return [run for name in ("acme", "default") for run in await endpoint.runtime.of(name).runs()]
