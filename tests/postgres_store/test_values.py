"""What the database does not take harms the operation that brought it, and no other."""

import secrets

import pytest

from crew import StoreError
from crew.journal import Append, Post, Started
from crew.testing.store_suite import event, new_run
from tests.postgres_store.committing import commit, offsets, start

BAD = {"a NUL": "a\0b", "a lone surrogate": "a\ud800b", "too long": secrets.token_hex(9000)}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_thread_name_fails_its_own_start_alone(other, bad):
    good, refused = other.commit([new_run("good"), new_run("bad", thread=bad)])
    assert isinstance(good, Started)
    assert isinstance(refused, StoreError)
    assert [row.id for row in other.runs()] == ["good"]
    assert start(other, "next")


@pytest.mark.parametrize("bad", [BAD["a NUL"], BAD["a lone surrogate"]])
def test_a_bad_event_fails_its_own_run_alone(other, bad):
    good, refused = start(other, "good"), start(other, "bad")
    operations = [Append(good, 1, (event(2),)), Append(refused, 1, (event(2, bad),))]
    fine, error = commit(other, operations)
    assert fine is None
    assert isinstance(error, StoreError)
    assert [offsets(other, number) for number in (good, refused)] == [[1, 2], [1]]


def test_a_bad_answer_fails_alone(other):
    number = start(other, "a")
    letter, refused = commit(
        other,
        [Post(number, "answer", "q", "1", 1.0), Post(number, "answer", BAD["a NUL"], "1", 1.0)],
    )
    assert letter is None
    assert isinstance(refused, StoreError)
    assert len(other.letters([number])) == 1


def test_two_appends_of_one_run_in_one_commit_follow_each_other(other):
    number = start(other, "a")
    assert commit(other, [Append(number, 1, (event(n),)) for n in (2, 3, 4)]) == [None] * 3
    assert offsets(other, number) == [1, 2, 3, 4]
    assert other.numbered(number).offset == 4
