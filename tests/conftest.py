import pytest

from tests.endpoint import PAGE, Endpoint
from tests.place import Place


@pytest.fixture
def endpoint():
    with Endpoint() as serving:
        yield serving


@pytest.fixture
def place(tmp_path):
    """A working directory with a folder of documents."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "actors.md").write_text(PAGE)
    place = Place(tmp_path)
    yield place
    place.end()
