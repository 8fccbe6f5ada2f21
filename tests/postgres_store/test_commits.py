"""A commit whose connection breaks is told truthfully, and never written twice."""

import time

import psycopg
import pytest

from crew import Fenced, StoreError
from crew.journal import Append, Busy, Post, Started, Take
from crew.testing.store_suite import event, new_run
from tests.postgres_store.committing import commit, offsets, start


@pytest.mark.parametrize("moment", ["before", "after"])
def test_events_whose_answer_is_lost_are_there_once(store, wire, moment):
    number = start(store, "a")
    wire.cut("unnest", moment)
    assert commit(store, [Append(number, 1, (event(2), event(3)))]) == [None]
    assert offsets(store, number) == [1, 2, 3]


def test_a_fenced_run_is_told_though_the_answer_is_lost(store, other, wire):
    fenced, mine = start(store, "a"), start(store, "b")
    commit(other, [Take(fenced, "you", "me")])
    wire.cut("unnest", "after")
    results = commit(store, [Append(n, 1, (event(2),)) for n in (fenced, mine)])
    assert isinstance(results[0], Fenced)
    assert results[1] is None
    assert [offsets(store, n) for n in (fenced, mine)] == [[1], [1, 2]]


def test_a_statement_that_arrives_late_is_void(store, other, wire):
    number = start(store, "a")
    wire.cut("unnest", "late")
    with pytest.raises(Busy):
        store.commit([Append(number, 1, (event(2),))])
    commit(store, [Append(number, 1, (event(2), event(3)))])
    wire.arrive.set()
    assert wire.arrived.wait(10)
    assert offsets(other, number) == [1, 2, 3]


def test_a_statement_that_is_carried_out_late_is_not_written_twice(store, other, wire):
    number = start(store, "a")
    wire.cut("unnest", "late")
    with pytest.raises(Busy):
        store.commit([Append(number, 1, (event(2),))])
    wire.arrive.set()
    assert wire.arrived.wait(10)
    assert commit(store, [Append(number, 1, (event(2), event(3)), "waiting")]) == [None]
    assert offsets(other, number) == [1, 2, 3]
    assert other.numbered(number).status == "waiting"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_start_whose_answer_is_lost_starts_one_run(store, other, wire, moment):
    wire.cut("COMMIT", moment)
    (started,) = commit(store, [new_run("a", thread="t")])
    assert isinstance(started, Started)
    assert started.is_new
    assert [row.id for row in other.runs()] == ["a"]
    assert other.numbered(started.row.number) == started.row


def test_a_take_whose_answer_is_lost_is_not_refused(store, other, wire):
    number = start(other, "a", owner=None)
    wire.cut("COMMIT", "after")
    (row,) = commit(store, [Take(number, "me", None)])
    assert (row.owner, row.epoch) == ("me", 2)


def test_an_answer_whose_answer_is_lost_counts(store, other, wire):
    number = start(other, "a")
    wire.cut("COMMIT", "after")
    assert commit(store, [Post(number, "answer", "q", "1", 1.0)]) == [None]
    assert [letter.body for letter in other.letters([number])] == ["1"]


def test_what_a_crash_of_the_server_lost_is_not_taken_for_written(
    store, wire, postgres_url, postgres_server
):
    """Transaction ids are given again after a crash: they prove nothing."""

    def crash():
        postgres_server.restart_immediately()
        with psycopg.connect(postgres_url, autocommit=True) as db:
            for _ in range(20):
                db.execute("SELECT pg_current_xact_id()")

    wire.cut("COMMIT", "before", crash)
    (started,) = commit(store, [new_run("a")])
    assert store.run("a") == started.row


def test_the_store_is_free_while_a_lost_commit_is_unknown(
    store, wire, postgres_server, postgres_url
):
    number = start(store, "a")
    wire.cut("unnest", "after", postgres_server.kill)
    began = time.monotonic()
    with pytest.raises(Busy):
        store.commit([Append(number, 1, (event(2),))])
    assert time.monotonic() - began < 1
    postgres_server.start()
    assert commit(store, [Append(number, 1, (event(2), event(3)))]) == [None]
    assert offsets(store, number) == [1, 2, 3]


def test_a_server_that_only_reads_is_left_for_the_one_that_writes(
    store, postgres_url, postgres_server
):
    number = start(store, "a")
    only_reads = "ALTER DATABASE {} SET default_transaction_read_only = {}"
    with psycopg.connect(postgres_url, autocommit=True) as db:
        name = db.info.dbname
        db.execute(only_reads.format(name, "on"))
        postgres_server.terminate_backends()
    append = [Append(number, 1, (event(2),))]
    with pytest.raises(Busy):
        store.commit(append)  # finds its connection cut
    with pytest.raises(Busy, match="read-only"):
        store.commit(append)
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute("SET default_transaction_read_only = off")
        db.execute(only_reads.format(name, "off"))
    assert commit(store, [Append(number, 1, (event(2),))]) == [None]
    assert offsets(store, number) == [1, 2]


def forget_writers(url):
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DELETE FROM writers")


def test_a_writer_that_was_forgotten_goes_on(store, postgres_url):
    number = start(store, "a")
    forget_writers(postgres_url)
    assert commit(store, [Append(number, 1, (event(2),))]) == [None]
    forget_writers(postgres_url)
    assert commit(store, [Take(number, "you", "me")])[0].epoch == 2
    assert offsets(store, number) == [1, 2]


def test_what_went_through_is_told_though_the_rest_cannot_be_written(store, wire, postgres_url):
    number = start(store, "a")
    post = Post(number, "answer", "q", "1", 1.0)
    with psycopg.connect(postgres_url, autocommit=True) as db:
        wire.cut("unnest", "after", lambda: db.execute("ALTER TABLE letters RENAME TO away"))
        with pytest.raises(Busy):
            store.commit([Append(number, 1, (event(2),))])
        refused, written = commit(store, [post, Append(number, 1, (event(2),))])
        assert isinstance(refused, StoreError)
        assert written is None
        db.execute("ALTER TABLE away RENAME TO letters")
    assert commit(store, [post]) == [None]
    assert offsets(store, number) == [1, 2]


def test_a_commit_that_the_server_gives_up_at_its_end_is_tried_again(store, postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE disk_full; END $$"
        )
        db.execute(
            "CREATE CONSTRAINT TRIGGER full_disk AFTER INSERT ON runs "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
        with pytest.raises(Busy, match="disk_full"):
            store.commit([new_run("a")])
        assert store.run("a") is None
        db.execute("DROP TRIGGER full_disk ON runs")
    assert offsets(store, start(store, "a")) == [1]


def test_what_nobody_can_know_is_said(store, wire, postgres_url):
    number = start(store, "a")
    wire.cut("unnest", "after", lambda: forget_writers(postgres_url))
    with pytest.raises(StoreError, match="emptied or restored.*may be there"):
        commit(store, [Append(number, 1, (event(2),))])
    assert commit(store, [Append(number, 1, (event(3),))]) == [None]


def test_a_rest_that_cannot_be_written_at_all_is_refused_beside_what_went_through(
    store, wire, postgres_url
):
    number = start(store, "a")
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(
            "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'not now'; END $$"
        )
        trigger = "CREATE TRIGGER refuses BEFORE UPDATE ON writers FOR EACH ROW "
        trigger += "WHEN (new.commits = old.commits + 1) EXECUTE FUNCTION refuses()"
        wire.cut("unnest", "after", lambda: db.execute(trigger))
        with pytest.raises(Busy):
            store.commit([Append(number, 1, (event(2),))])
        post = Post(number, "answer", "q", "1", 1.0)
        refused, written = commit(store, [post, Append(number, 1, (event(2),))])
        assert isinstance(refused, StoreError)
        assert written is None
        db.execute("DROP TRIGGER refuses ON writers")
    assert commit(store, [post]) == [None]
    assert offsets(store, number) == [1, 2]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_line_that_breaks_while_each_operation_is_tried_alone_harms_none(store, wire, moment):
    number, other_number = start(store, "a"), start(store, "b")
    operations = [
        Append(number, 1, (event(2),)),
        Post(other_number, "answer", "a\0b", "1", 1.0),
    ]
    wire.cut("SAVEPOINT", moment)
    written, refused = commit(store, operations)
    assert written is None
    assert isinstance(refused, StoreError)
    assert offsets(store, number) == [1, 2]
