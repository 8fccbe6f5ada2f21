"""Hosts die with hundreds of tasks in flight: each is answered right, and recorded once."""

import pytest

from crew.hosts.cluster import quiet_cluster
from tests.hosts.kills import kill_many
from tests.hosts.victims import end_all

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(600),
]

TASKS, TIMES = 500, 2


@pytest.fixture(scope="module")
def cluster():
    with quiet_cluster() as address:
        yield address


@pytest.mark.parametrize("ports", ["", "none"], ids=["over links", "by calls of actors"])
async def test_killed_hosts_with_hundreds_of_tasks_cost_no_answer(cluster, ports, monkeypatch):
    monkeypatch.setenv("CREW_LINK_PORTS", ports)
    try:
        killed = await kill_many(TIMES, TASKS, seed=len(ports))
    finally:
        end_all()
    assert [one.wrong for one in killed] == [[]] * TIMES
