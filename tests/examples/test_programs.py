from pathlib import Path

import pytest

from crew.config import load_settings
from tests.examples.folder import EXAMPLES

PROGRAMS = sorted(EXAMPLES.glob("*.py"))
MOST_LINES = 90


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_is_short(program: Path):
    assert len(program.read_text().splitlines()) <= MOST_LINES


def test_the_readme_names_each_example_but_the_server_that_one_starts():
    readme = (EXAMPLES / "README.md").read_text()
    named = {path.name for path in PROGRAMS if f"({path.name})" in readme}
    assert {path.name for path in PROGRAMS} - named == {"parts.py"}


def test_the_models_of_the_examples_are_settings(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    assert load_settings().models.keys() == {"strong", "cheap"}
