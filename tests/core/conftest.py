import pytest

from crew import Runtime


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def runtime(request, tmp_path):
    """A runtime on each store."""
    async with Runtime(address(request.param, request, tmp_path)) as runtime:
        yield runtime


def address(store, request, tmp_path):
    if store == "postgres":
        return request.getfixturevalue("postgres_url")
    return ":memory:" if store == "memory" else f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def url(request, tmp_path):
    """A store's address; a test may ask for another one than SQLite by an indirect parameter."""
    return address(getattr(request, "param", "sqlite"), request, tmp_path)


@pytest.fixture
async def memory():
    """A runtime where the store does not matter."""
    async with Runtime(":memory:") as memory:
        yield memory
