"""The command dies, with everything in its process; the next one goes on."""

import pytest

from serving.commands.looking import count
from tests.endpoint import NUMBER

MOMENTS = [1, 2, 4, 5]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_command_is_resumed_and_repeats_nothing_recorded(place, endpoint, moment):
    first = place.ask(endpoint)
    endpoint.wait_for(moment)
    first.kill()
    first.wait()
    in_flight = len([e for e in place.events() if e["kind"] == "model.started"]) - len(
        [e for e in place.events() if e["kind"] == "model.completed"]
    )

    second = place.crew("resume", endpoint=endpoint)
    answer, _ = second.communicate(timeout=60)

    assert second.returncode == 0, place.errors()
    assert NUMBER in answer
    assert count(await place.recorded()).repeated == 0
    assert endpoint.repeated <= in_flight
