"""Programs join a cluster from its node and from elsewhere, or are told at once why they cannot."""

import subprocess
import tempfile

import pytest

from tests.hosts.clusters import join, started

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(600),
]

ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc")
"""How a process is started that sees none of the node's."""
WITHOUT_SOCKETS = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /tmp; exec "$@"', "sh")
"""How one is that sees them, and not their sockets."""


def token(text: str) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": text * 8}


@pytest.fixture(scope="module")
def cluster():
    with started() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def guarded():
    """A cluster with a token, beside the other one."""
    with started(token("right")) as cluster:
        yield cluster


@pytest.fixture(params=["node", "client"])
def way(request):
    """From where a cluster is joined."""
    return request.param


def address(cluster, way):
    return cluster.address if way == "node" else cluster.client_address


def did_all(found):
    assert found["program"] != found["step"]
    assert len({found["program"], found["step"], *found["agents"]}) == 3
    assert (found["child"], found["function"], found["answer"]) == ("yes, yes", "YES", "this")
    assert (found["cancel"], found["failure"]) == ("RunCancelled", "the endpoint is down")
    assert found["hosts counted"] == 3
    return True


@pytest.mark.parametrize(("way", "ports"), [("node", ""), ("client", ""), ("client", "none")])
def test_a_program_does_all_on_a_cluster_from_its_node_and_from_elsewhere(
    cluster, way, ports, tmp_path
):
    variables = {"RAY_AUTH_MODE": "disabled", "CREW_LINK_PORTS": ports}
    assert did_all(join(tmp_path, address(cluster, way), variables))


def test_the_right_token_opens_a_cluster(guarded, way, tmp_path):
    assert did_all(join(tmp_path, address(guarded, way), token("right")))


@pytest.mark.parametrize(
    ("way", "variables"),
    [
        pytest.param("node", token("wrong"), id="node, another token"),
        pytest.param("node", {"RAY_AUTH_MODE": "token", "HOME": "/nowhere"}, id="node, none"),
        pytest.param("node", {}, id="node, no mode"),
        pytest.param("client", token("wrong"), id="client, another token"),
        pytest.param("client", {}, id="client, no mode"),
    ],
)
def test_another_token_or_none_is_refused_with_what_to_do(guarded, way, variables, tmp_path):
    refused = join(tmp_path, address(guarded, way), variables)["refused"]
    assert f"the Ray cluster at {address(guarded, way)!r} wants a token" in refused
    assert "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH" in refused


@pytest.mark.parametrize("before", [ELSEWHERE, WITHOUT_SOCKETS], ids=["processes", "sockets"])
def test_a_program_on_no_node_is_refused_and_told_of_the_client_server(cluster, before, tmp_path):
    _require(before)
    # Its /tmp is another one where it does not see the sockets there.
    parent = tmp_path if before is ELSEWHERE else "/dev/shm"
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        refused = join(folder, cluster.address, before=before)["refused"]
    assert f"this process is on no node of the Ray cluster at {cluster.address!r}" in refused
    assert "CREW_RAY_ADDRESS=ray://127.0.0.1:" in refused


def test_a_program_on_no_node_works_through_the_client_server(cluster, tmp_path):
    _require(ELSEWHERE)
    assert did_all(join(tmp_path, cluster.client_address, before=ELSEWHERE))


def test_the_one_port_in_place_of_the_other_is_refused(cluster, way, tmp_path):
    wrong = (
        f"127.0.0.1:{cluster.client_port}" if way == "node" else f"ray://127.0.0.1:{cluster.port}"
    )
    refused = join(tmp_path, wrong)["refused"]
    assert f"no Ray cluster answers at {wrong!r}" in refused
    assert "host:6379 on a node of the cluster, ray://host:10001 from elsewhere" in refused


def _require(before):
    done = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine allows no namespaces: {done.stderr.strip()}")
