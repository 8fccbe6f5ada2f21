import pytest

from crew import Runtime


@pytest.fixture(params=["memory", "sqlite"])
async def runtime(request, tmp_path):
    """A runtime on each store."""
    url = ":memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/runs.db"
    async with Runtime(url) as runtime:
        yield runtime


@pytest.fixture
def url(request, tmp_path):
    """A store's address; a test may ask for `:memory:` by an indirect parameter."""
    memory = getattr(request, "param", "") == ":memory:"
    return ":memory:" if memory else f"sqlite:///{tmp_path}/runs.db"
