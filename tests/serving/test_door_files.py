"""Files that import relatively, and what they import."""

import sys
from pathlib import Path

import pytest

from crew import Runtime
from crew.errors import InputInvalid
from serving import gallery

FLOW = """
from crew import Context, workflow
{imports}

@workflow
async def flow(ctx: Context, text: str) -> str:
    return {call}
"""


@pytest.fixture(autouse=True)
def paths(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("imports", "call"),
    [
        ("from .words import shout", "shout(text)"),
        ("from . import words", "words.shout(text)"),
        ("from .deeper.words import shout", "shout(text)"),
        ("from ..words import shout", "shout(text)"),
        ("from ..other.words import shout", "shout(text)"),
        ("from .chained import shout", "shout(text)"),
    ],
)
@pytest.mark.parametrize("is_package", [True, False])
async def test_file_imports_what_lies_beside_it(tmp_path, imports, call, is_package):
    shout = "def shout(text):\n    return text.upper()\n"
    for place in ("words.py", "flows/words.py", "flows/deeper/words.py", "other/words.py"):
        write(tmp_path / place, shout)
    write(tmp_path / "flows/chained.py", "from .words import shout\n")
    if is_package:
        write(tmp_path / "flows/__init__.py", "from .words import shout as shouted\n")
    file = write(tmp_path / "flows/flow.py", FLOW.format(imports=imports, call=call))

    flow = gallery.load_workflow(str(file))
    assert gallery.load_workflow(str(file)) is flow
    async with Runtime(":memory:", workflows=[flow]) as runtime:
        assert await (await runtime.start(flow, "hi")).result() == "HI"
    assert "words" not in sys.modules
    assert any(module.__name__.endswith("words") for module in gallery.loaded_modules())


@pytest.mark.parametrize("imports", ["from .missing import x", "from ..missing import x"])
def test_what_is_not_there_is_said(tmp_path, imports):
    file = write(tmp_path / "flows/flow.py", FLOW.format(imports=imports, call="text"))
    with pytest.raises(InputInvalid, match="missing"):
        gallery.load_workflow(str(file))


def test_package_that_fails_is_named(tmp_path):
    write(tmp_path / "flows/__init__.py", "1 / 0\n")
    file = write(tmp_path / "flows/flow.py", FLOW.format(imports="from . import x", call="text"))
    with pytest.raises(InputInvalid, match=r"__init__\.py raised ZeroDivisionError"):
        gallery.load_workflow(str(file))
