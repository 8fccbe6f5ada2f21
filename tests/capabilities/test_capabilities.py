"""Each capability, killed once in the midst of a call: on both stores, locally and on Ray."""

from collections import Counter

import pytest

from tests.capabilities.all import ALL
from tests.capabilities.batch import Batch, on_ray, struck

LOCAL = pytest.mark.xdist_group("capabilities")
RAY = (
    pytest.mark.ray,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
)
AGENTS = ("boss", "assistant", "desk", "operator", "wavering")
"""Those of the programs that are struck at each of their calls: their hosts are killed as well."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def batches() -> dict[tuple[str, str], Batch | None]:
    """What came of all capabilities, by where they ran; each configuration is struck once."""
    return {}


@pytest.fixture(
    params=[
        pytest.param(("local", "sqlite"), marks=LOCAL, id="local, sqlite"),
        pytest.param(("local", "postgres"), marks=LOCAL, id="local, postgres"),
        pytest.param(("ray", "sqlite"), marks=RAY, id="ray, sqlite"),
        pytest.param(("ray", "postgres"), marks=RAY, id="ray, postgres"),
    ]
)
def batch(request, batches, tmp_path_factory):
    agents, kind = request.param
    if request.param not in batches:
        batches[request.param] = None
        server = request.getfixturevalue("postgres_server") if kind == "postgres" else None
        folder = tmp_path_factory.mktemp("n")
        store = server.new_database() if server else f"sqlite:///{folder}/runs.db"
        if agents == "local":
            batches[request.param] = struck(folder, store)
        else:
            batches[request.param] = on_ray(folder, store, AGENTS if server else ())
    if (made := batches[request.param]) is None:
        pytest.fail("these were struck before, and did not come to their end: see the first test")
    return made


@pytest.mark.parametrize("name", list(ALL))
def test_it_comes_to_its_end_and_repeats_nothing_that_was_finished(batch, name):
    wanted, held = ALL[name], batch.endpoint.held.get(name)
    assert batch.outcomes[name] == wanted.outcome
    calls, again = batch.endpoint.count(name)
    assert (calls, set(again)) == (wanted.calls, {held} if wanted.again else set())
    # A busy machine may take a host to be lost while its call is held back, which is made again.
    assert batch.is_on_ray or set(again.values()) <= {2}
    assert {line: batch.acts[line] for line in wanted.acts} == Counter(wanted.acts)
    assert set(batch.beginnings(name).values()) == {1}


def test_nothing_else_is_asked_and_nothing_else_done(batch):
    assert batch.endpoint.strange == []
    assert batch.acts == Counter(line for each in ALL.values() for line in each.acts)
