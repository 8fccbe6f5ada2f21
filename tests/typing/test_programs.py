"""What mypy and pyright, both strict, say of programs that use crew: right ones, wrong ones, docs.

In a wrong program each line to refuse is marked `# refused`, or `# refused by pyright` where mypy
lets it pass. Pyright is run as basedpyright, whose wheel holds all of it, set to pyright's rules.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.xdist_group("type_checkers")  # they are run once, on all files together

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RIGHT = [*sorted((HERE / "right").glob("*.py")), *sorted((ROOT / "examples").glob("*.py"))]
WRONG = sorted((HERE / "wrong").glob("*.py"))
PAGES = [
    ROOT / "README.md",
    *(ROOT / f"docs/{n}.md" for n in ("agents", "tools", "models", "context", "memory")),
    *sorted((ROOT / "docs/recipes").glob("[!R]*.md")),
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"# refused(?: by (\w+))?$")
MYPY_LINE = re.compile(r"(.+?):(\d+): error: (.+)")
# Code on a page is written as in a notebook, where it may await at the top.
OF_NOTEBOOKS = re.compile(r"(await|async)\b.*\b(only within|outside)\b.* function")
MYPY_INI = "[mypy]\nstrict = True\n[mypy-crew.*]\nfollow_imports = silent\n"


class Finding(NamedTuple):
    """An error that a checker reports."""

    file: str
    line: int
    text: str


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write the Python of each page into a file of its own, each line where it stands there."""
    folder = tmp_path_factory.mktemp("pages")
    return [_code_of(page, folder) for page in PAGES]


@pytest.fixture(scope="module", params=["mypy", "pyright"])
def findings(
    request: pytest.FixtureRequest, pages: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[Finding]]:
    """Return a checker's name, and all that it reports."""
    run = {"mypy": _mypy, "pyright": _pyright}[request.param]
    return request.param, list(run([*RIGHT, *WRONG, *pages], tmp_path_factory.mktemp("checker")))


@pytest.mark.parametrize("program", RIGHT, ids=lambda path: path.stem)
def test_a_right_program_is_let_pass(program, findings):
    _, found = findings
    assert [each for each in found if each.file == str(program)] == []


@pytest.mark.parametrize("program", WRONG, ids=lambda path: path.stem)
def test_each_marked_line_of_a_wrong_program_is_refused_and_no_other(program, findings):
    checker, found = findings
    reported = {each.line: each.text for each in found if each.file == str(program)}
    assert reported.keys() == _marked(program, checker), reported


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_code_of_a_page_is_typed(page, pages, findings):
    _, found = findings
    file = str(pages[PAGES.index(page)])
    wrong = [each for each in found if each.file == file and not OF_NOTEBOOKS.search(each.text)]
    assert wrong == []


def _code_of(page: Path, folder: Path) -> Path:
    lines = [""] * page.read_text().count("\n")
    for block in BLOCK.finditer(page.read_text()):
        first = block.string[: block.start(1)].count("\n")
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    path = folder / f"{page.stem.lower()}_page.py"
    path.write_text("\n".join(lines) + "\n")
    return path


def _marked(program: Path, checker: str) -> set[int]:
    """Return the lines of a wrong program that a checker is to refuse."""
    lines = enumerate(program.read_text().splitlines(), start=1)
    marks = {number: mark for number, line in lines if (mark := MARK.search(line))}
    return {number for number, mark in marks.items() if mark[1] in (None, checker)}


def _mypy(paths: list[Path], folder: Path) -> Iterator[Finding]:
    (folder / "mypy.ini").write_text(MYPY_INI)
    options = ["--config-file", "mypy.ini", "--no-error-summary", "--hide-error-context"]
    for line in _output(["mypy", *options, "--show-absolute-path", *map(str, paths)], folder):
        if found := MYPY_LINE.fullmatch(line):
            yield Finding(found[1], int(found[2]), found[3])


def _pyright(paths: list[Path], folder: Path) -> Iterator[Finding]:
    rules = {"typeCheckingMode": "strict", "include": [*map(str, paths)], "extraPaths": [str(ROOT)]}
    (folder / "rules.json").write_text(json.dumps(rules))
    options = ["--project", "rules.json", "--pythonpath", sys.executable, "--outputjson"]
    report = json.loads("\n".join(_output(["basedpyright", *options], folder)))
    for each in report["generalDiagnostics"]:
        if each["severity"] == "error":
            line = each["range"]["start"]["line"] + 1
            yield Finding(each["file"], line, each["message"])


def _output(command: list[str], folder: Path) -> list[str]:
    """Return the lines that a checker prints, run in a folder of its own."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={"MYPYPATH": str(ROOT), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,  # both end with 1 where they report something
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout.splitlines()
