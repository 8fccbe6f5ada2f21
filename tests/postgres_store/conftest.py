import pytest

from crew.journal.postgres import PostgresStore
from tests.postgres_store.wire import Wire


@pytest.fixture
def wire(postgres_server):
    wire = Wire(postgres_server.socket)
    yield wire
    wire.close()


@pytest.fixture
def store(postgres_url, wire):
    """A store whose line to its server may break."""
    store = PostgresStore(wire.url(postgres_url))
    yield store
    store.close()


@pytest.fixture
def other(postgres_url):
    """The same store, as another process has it."""
    store = PostgresStore(postgres_url)
    yield store
    store.close()
