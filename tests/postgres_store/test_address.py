"""An address is used as it is written, and shown without its passwords."""

import socket
import time

import psycopg
import pytest

from crew import StoreError
from crew.journal import Busy, shown
from crew.journal.opening import open_store
from crew.journal.postgres import PostgresStore
from crew.journal.postgres_link import Link, connect
from tests.postgres_store.committing import start

SECRET = "hush"
ADDRESSES = [
    f"postgresql://crew:{SECRET}@127.0.0.1:1/none",
    f"postgresql://crew:a@{SECRET}@127.0.0.1:1/none",
    f"postgresql://crew:a/{SECRET}@127.0.0.1:1/none",
    f"postgresql://crew:{SECRET}%zz@127.0.0.1:1/none",
    f"postgresql://127.0.0.1:1/none?user=crew&password={SECRET}",
    f"postgresql://crew@127.0.0.1:1/none?sslpassword={SECRET}&sslmode=prefer",
    f"postgressql://crew:{SECRET}@127.0.0.1:1/none",
    f"postgresql+asyncpg://crew:{SECRET}@127.0.0.1:1/none",
    f"crew:{SECRET}@127.0.0.1:1/none",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_no_password_is_told(url):
    with pytest.raises(StoreError) as raised:
        open_store(url)
    error = raised.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_what_is_no_secret_is_shown():
    assert shown("postgresql://crew:x@db:5432/runs") == "postgresql://crew:***@db:5432/runs"
    assert shown("postgresql://db/runs?a=b") == "postgresql://db/runs?a=b"
    assert shown("sqlite:////a:b/c@d.db") == "sqlite:////a:b/c@d.db"


def test_a_schema_of_ones_own_is_asked_for_in_the_address(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute("CREATE SCHEMA mine")
        db.execute("CREATE TABLE public.runs (what text)")
    with pytest.raises(StoreError, match="tables of its own named runs.*search_path"):
        PostgresStore(postgres_url)
    store = PostgresStore(f"{postgres_url}&options=-csearch_path%3Dmine")
    start(store, "a")
    store.close()
    with psycopg.connect(postgres_url) as db:
        assert db.execute("SELECT id FROM mine.runs").fetchall() == [("a",)]


def test_a_commit_is_durable_though_the_database_says_otherwise(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as db:
        name = db.info.dbname
        db.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        db.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    db = connect(postgres_url)
    assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)
    assert db.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
    db.close()


def test_a_user_who_may_not_make_tables_may_use_them(postgres_url):
    PostgresStore(postgres_url).close()
    with psycopg.connect(postgres_url, autocommit=True) as db:
        role = f"r{db.info.dbname}"
        db.execute(f"CREATE ROLE {role} LOGIN")
        db.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        db.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    store = PostgresStore(postgres_url.replace("crew@", f"{role}@"))
    assert start(store, "a")
    store.close()
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(f"DROP OWNED BY {role}")
        db.execute(f"DROP ROLE {role}")


def test_an_address_that_does_not_answer_holds_nobody():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = Link(f"postgresql://crew@127.0.0.1:{silent.getsockname()[1]}/none", connect)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(Busy, match="does not answer"):
                link.get()
        assert time.monotonic() - began < 2
        link.drop()
