"""Processes of a run on Ray die, one after the other kind, at several moments."""

import pytest

from serving.looking import count
from tests.endpoint import NUMBER
from tests.place import kill

pytestmark = [
    pytest.mark.ray,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(180),
]

FIRST = [pytest.param(4, id="while the team works")]
LATER = [pytest.param(n, id=f"request {n}", marks=pytest.mark.slow) for n in (1, 2, 3, 5)]
MOMENTS = [*FIRST, *LATER]


@pytest.fixture(scope="module")
def cluster():
    """One quiet cluster for the module, which commands join by its address."""
    from crew.hosts.ray import quiet_cluster

    with quiet_cluster() as address:
        yield address


@pytest.fixture(autouse=True)
def _hosts_end(cluster):
    yield
    import ray

    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == "crew":
            ray.kill(ray.get_actor(actor["name"], namespace="crew"))


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
    return ray.get(ray.get_actor(name, namespace="crew").where.remote()).pid
