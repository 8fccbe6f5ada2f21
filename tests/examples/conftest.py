from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.examples.folder import Folder
from tests.examples.models import Models, Says


@pytest.fixture
def scene(tmp_path) -> Iterator[Callable[[Mapping[str, Says]], tuple[Folder, Models]]]:
    """Make the models of a test, and a folder with the examples that asks them."""
    made: list[tuple[Folder, Models]] = []

    def make(says: Mapping[str, Says]) -> tuple[Folder, Models]:
        models = Models(says).__enter__()
        made.append((Folder(tmp_path / "examples", models.url), models))
        return made[-1]

    yield make
    for folder, models in made:
        folder.end()
        models.__exit__()
