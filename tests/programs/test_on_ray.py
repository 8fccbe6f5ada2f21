"""Random programs whose agents' hosts are killed come to what undisturbed ones do."""

import pytest

from crew.hosts.cluster import quiet_cluster
from tests.programs.on_ray import count, witnessed

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(600),
]

KILLS = 4


def test_killed_hosts_change_no_outcome_and_repeat_nothing():
    with witnessed(), quiet_cluster():
        table = count(KILLS, first=100)
    assert table.kills >= KILLS
    assert table.wrong == [], str(table)
