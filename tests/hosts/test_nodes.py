"""A node dies while hosts of a run are on it; the run ends right, on those that are left."""

import pytest

from tests.hosts.nodes import NoNamespaces, kill_node, nodes

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(500),
]


@pytest.fixture(scope="module")
def cluster():
    try:
        with nodes() as cluster:
            yield cluster
    except NoNamespaces as error:
        pytest.skip(f"this machine makes no nodes: {error}")


def test_a_run_whose_agent_host_dies_with_its_node_ends_right(cluster, tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    assert kill_node(cluster, "agent", url, tmp_path / "gate").wrong == []


def test_a_run_whose_own_host_dies_with_its_node_ends_right(cluster, postgres_url, tmp_path):
    assert kill_node(cluster, "run", postgres_url, tmp_path / "gate").wrong == []
