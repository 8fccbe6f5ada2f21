"""A connection that is lost is waited for with some patience; what is refused is said at once."""

import threading
import time

import psycopg
import pytest

from crew import StoreError
from crew.journal import Busy, postgres_link
from crew.journal.postgres_link import Link, connect
from tests.postgres_store.committing import start


def test_a_reader_waits_for_its_server_only_so_long(other, postgres_server, monkeypatch):
    monkeypatch.setattr(postgres_link, "PATIENCE_SECONDS", 0.05)
    number = start(other, "a")
    postgres_server.kill()
    with pytest.raises(StoreError, match="cannot be reached"):
        other.numbered(number)
    postgres_server.start()
    monkeypatch.setattr(postgres_link, "PATIENCE_SECONDS", 5.0)
    assert other.numbered(number).id == "a"


@pytest.mark.parametrize("name", ["a NUL: \0", "half a pair: \ud800"])
def test_a_name_that_no_run_can_have_is_refused(other, name):
    with pytest.raises(StoreError, match="cannot read"):
        other.run(name)


def test_a_connection_that_comes_when_nobody_waits_any_more_is_closed(postgres_url):
    opened, may_open = [], threading.Event()

    def slowly(url):
        may_open.wait(10)
        opened.append(connect(url))
        return opened[0]

    link = Link(postgres_url, slowly)
    with pytest.raises(Busy, match="does not answer yet"):
        link.get(patience=0.01)
    link.drop()
    may_open.set()
    deadline = time.monotonic() + 5
    while not (opened and opened[0].closed):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_connection_that_fails_when_nobody_waits_any_more_is_no_news(caplog):
    opening, may_fail = [], threading.Event()

    def fails_slowly(url):
        opening.append(threading.current_thread())
        may_fail.wait(10)
        raise psycopg.OperationalError("refused")

    link = Link("postgresql://crew@nowhere/none", fails_slowly)
    with pytest.raises(Busy, match="does not answer yet"):
        link.get(patience=0.01)
    link.drop()
    may_fail.set()
    opening[0].join(5)
    assert not opening[0].is_alive()
    assert caplog.records == []
