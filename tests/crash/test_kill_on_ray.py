"""Processes of a run on Ray die, one after the other kind, at several moments."""

import asyncio

import pytest

from crew.llm.weights import default_weights_path
from serving.commands.looking import count
from serving.llm import LLMSettings, deploy, shutdown
from tests.endpoint import NUMBER, CountingProxy
from tests.place import kill

pytestmark = [
    pytest.mark.ray,
    pytest.mark.xdist_group("ray"),
    pytest.mark.usefixtures("hosts_end"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(180),
]

FIRST = [pytest.param(4, id="while the team works")]
LATER = [pytest.param(n, id=f"request {n}", marks=pytest.mark.slow) for n in (1, 2, 3, 5)]
MOMENTS = [*FIRST, *LATER]


@pytest.fixture
def asked(place, endpoint, cluster):
    return place.ask(endpoint, CREW_AGENTS="ray", CREW_RAY_ADDRESS=cluster)


async def finished_well(place, endpoint, in_flight):
    output = place.wait_for_end()["output"]
    tally = count(await place.recorded())
    assert NUMBER in str(output)
    assert tally.repeated == 0
    assert endpoint.repeated <= in_flight
    return tally


@pytest.mark.parametrize("moment", MOMENTS)
async def test_the_run_goes_on_without_the_command_that_started_it(place, endpoint, asked, moment):
    in_flight = endpoint.wait_for(moment)
    asked.kill()
    await finished_well(place, endpoint, in_flight)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_work_of_a_killed_agent_host_is_done_by_the_next(place, endpoint, asked, moment):
    in_flight = endpoint.wait_for(moment)
    working = [e for e in place.events() if e["kind"] == "agent.started"][-1]
    kill(working["data"]["pid"])
    tally = await finished_well(place, endpoint, in_flight)
    assert tally.taken == 0
    assert asked.wait(timeout=30) == 0


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_run_host_comes_back_and_goes_on(place, endpoint, asked, moment):
    endpoint.wait_for(moment)
    kill(run_host())
    tally = await finished_well(place, endpoint, await in_flight_when_taken(place))
    assert tally.taken >= 1
    assert asked.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def llm(cluster):
    """The LLM deployment on the cluster's Serve, with the embedded engine."""
    if default_weights_path() is None:
        pytest.skip("no weights: run `make install`")
    yield asyncio.run(deploy(LLMSettings()))
    asyncio.run(shutdown())


@pytest.mark.parametrize("moment", [*FIRST, *LATER[:3]])
async def test_a_killed_replica_of_the_model_costs_only_what_was_in_flight(
    place, cluster, llm, moment
):
    with CountingProxy(llm) as proxy:
        place.ask(proxy, CREW_AGENTS="ray", CREW_RAY_ADDRESS=cluster, CREW_MODEL="embedded")
        proxy.wait_for(moment)
        kill(replica())
        place.wait_for_end(seconds=90)
        tally = count(await place.recorded())
    assert (tally.repeated, tally.taken) == (0, 0)
    recorded = [e for e in place.events() if e["kind"] == "model.completed"]
    # Each recorded answer was asked for once; what was asked again had got no answer.
    assert len(set(proxy.requests)) == len(recorded) + len(
        [e for e in place.events() if e["kind"] == "model.failed"]
    )


def replica() -> int:
    from ray._private.state import actors

    (one,) = [
        actor
        for actor in actors().values()
        if "#LLM-" in actor["Name"] and actor["State"] == "ALIVE"
    ]
    return one["Pid"]


async def in_flight_when_taken(place) -> int:
    """How many model calls had an intent and no result when the new owner took the run."""
    place.wait_for_end()
    open_calls, most = set(), 0
    for event in await place.recorded():
        if event.kind == "run.taken" and event.offset > 2:
            most = max(most, len(open_calls))
        if event.kind == "model.started":
            open_calls.add(event.path)
        elif event.kind == "model.completed":
            open_calls.discard(event.path)
    return most


def run_host() -> int:
    import ray

    (name,) = [
        actor["name"]
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["name"].startswith("crew:run:")
    ]
    return ray.get(ray.get_actor(name, namespace="crew").where.remote()).standing.place.pid
