"""Recorded runs, looked at again and varied from the command line."""

import json

import pytest

from tests.e2e.test_command import ask, run
from tests.endpoint import NUMBER

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def asked(place, endpoint):
    """The id of a run that has ended, and how many calls the endpoint had."""
    status, _ = ask(place, endpoint)
    assert status == 0, place.errors()
    _, output = run(place, endpoint, "runs", "--json")
    (row,) = json.loads(output)
    return row["run"]


def test_a_replay_calls_nothing_and_is_the_same(place, endpoint, asked):
    before = len(endpoint.requests)
    status, output = run(place, endpoint, "replay", asked)
    assert status == 0, place.errors()
    assert "the same again, from its records alone" in output
    assert len(endpoint.requests) == before


def test_a_fork_of_what_did_not_change_pays_nothing(place, endpoint, asked):
    before = len(endpoint.requests)
    status, output = run(place, endpoint, "fork", asked)
    assert status == 0, place.errors()
    assert NUMBER in output
    assert len(endpoint.requests) == before
    assert "0 paid" in place.errors()


def test_a_cohort_with_another_model_is_compared(place, endpoint, asked):
    before = len(endpoint.requests)
    words = ("replay", "--runs", "last:5", "--with", "model=another", "--json")
    status, output = run(place, endpoint, *words)
    assert status == 0, place.errors()
    (row,) = json.loads(output)
    assert (row["run"], row["baseline"], row["end"]) == (asked, "", "completed")
    assert row["calls_paid"] == len(endpoint.requests) - before > 0
    status, output = run(place, endpoint, "diff", asked, row["fork"], "--json")
    assert json.loads(output)["same"] == row["same_answer"]


def test_a_tail_goes_on_where_it_was_left(place, endpoint, asked):
    _, output = run(place, endpoint, "tail", asked, "--json")
    events = [json.loads(line) for line in output.splitlines()]
    assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
    _, output = run(place, endpoint, "tail", asked, "--after", "3", "--json")
    assert [json.loads(line) for line in output.splitlines()] == events[3:]


def test_what_is_pruned_and_erased_is_gone(place, endpoint, asked):
    _, output = run(place, endpoint, "prune", "--older-than", "1h", "--json")
    assert json.loads(output)["runs"] == 0
    _, output = run(place, endpoint, "prune", "--keep", "0", "--json")
    assert json.loads(output)["runs"] >= 1
    ask(place, endpoint, "What?", "--docs", "pages", "--thread", "private")
    _, output = run(place, endpoint, "erase", "--thread", "private", "--json")
    assert json.loads(output)["runs"] >= 1
    status, _ = run(place, endpoint, "show", asked)
    assert status == 1
    assert "no run" in place.errors() or asked in place.errors()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("replay",), "a run's id, or --runs last:50"),
        (("replay", "--runs", "some"), "write last:50"),
        (("prune",), "say what to prune"),
        (("prune", "--older-than", "soon"), "write such as 90s"),
        (("erase",), "--thread NAME or --tenant NAME"),
        (("replay", "--runs", "last:1", "--with", "luck=1"), "write model=NAME"),
    ],
)
def test_a_command_that_is_not_understood_says_what_to_write(place, endpoint, words, said):
    status, _ = run(place, endpoint, *words)
    assert status == 2
    assert said in place.errors()
