import os
import subprocess
import sys
from pathlib import Path

import pytest

from crew.errors import GraphError, InputInvalid
from serving import gallery

ECHO = """
from crew.graph import Workflow
from pydantic import BaseModel

class Question(BaseModel):
    text: str

echo = Workflow("echo", input=Question, output=str)

@echo.node
async def say(question: Question) -> str:
    return question.text
"""
SECOND = ECHO + ECHO.replace("echo", "other")[ECHO.index("echo = ") :]


@pytest.fixture
def echo_file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "echo.py"
    file.write_text(ECHO)
    return file


def test_workflow_is_loaded_from_a_file_under_a_private_name(echo_file):
    workflow = gallery.load_workflow(str(echo_file))

    assert workflow.name == "echo"
    assert "echo" not in sys.modules
    assert any(m.__name__.startswith("_crew_workflow_") for m in gallery.loaded_modules())


def test_same_file_is_loaded_once_and_again_when_it_changed(echo_file):
    first = gallery.load_workflow(str(echo_file))
    assert gallery.load_workflow(str(echo_file)) is first

    echo_file.write_text(ECHO + "# changed\n")
    assert gallery.load_workflow(str(echo_file)) is not first


def test_one_of_several_workflows_is_chosen_by_name(echo_file):
    echo_file.write_text(SECOND)

    assert gallery.load_workflow(f"{echo_file}:other").name == "other"
    assert gallery.load_workflow(str(echo_file)).name == "echo"  # named like its file
    assert [w.name for w in gallery.load_workflows(str(echo_file))] == ["echo", "other"]


def test_several_workflows_without_a_choice_are_refused(echo_file):
    both = echo_file.rename(echo_file.with_name("both.py"))
    both.write_text(SECOND)

    with pytest.raises(InputInvalid, match=r"several workflows \(echo, other\)"):
        gallery.load_workflow(str(both))


def test_importable_module_is_loaded_by_module_and_name(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_flows_of_test.py").write_text(ECHO)
    monkeypatch.chdir(tmp_path)

    assert gallery.load_workflow("my_flows_of_test:echo").name == "echo"


def test_file_may_import_its_neighbour(echo_file):
    (echo_file.parent / "neighbour_of_test.py").write_text("WORD = 'hi'\n")
    echo_file.write_text("from neighbour_of_test import WORD\n" + ECHO)

    assert gallery.load_workflow(str(echo_file)).name == "echo"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "no workflow is called 'nothing'"),
        ("{folder}/ecko.py", "did you mean .*echo.py"),
        ("{folder}/echo.py:ecco", "did you mean .*echo.py:echo"),
        ("no_such_module_here:x", "cannot import 'no_such_module_here'"),
        ("{folder}/broken.py", "broken.py, line 1 raised SyntaxError"),
        ("{folder}/raising.py", "raised ZeroDivisionError"),
        ("{folder}/empty.py", "defines no workflow"),
    ],
)
def test_error_says_what_is_wrong_with_the_spec(echo_file, spec, message):
    folder = echo_file.parent
    (folder / "broken.py").write_text("def (:\n")
    (folder / "raising.py").write_text("1 / 0\n")
    (folder / "empty.py").write_text("x = 1\n")

    with pytest.raises(InputInvalid, match=message):
        gallery.load_workflow(spec.format(folder=folder))


def test_graph_that_cannot_work_is_refused_when_it_is_loaded(echo_file):
    echo_file.write_text(ECHO.replace("question: Question", "question: int"))

    with pytest.raises(GraphError):
        gallery.load_workflow(str(echo_file))


def test_broken_file_leaves_no_module_behind(echo_file):
    before = set(sys.modules)
    echo_file.write_text("1 / 0\n")

    with pytest.raises(InputInvalid):
        gallery.load_workflow(str(echo_file))
    assert not {m for m in set(sys.modules) - before if m.startswith("_crew_workflow_")}


def test_folders_named_like_ours_change_nothing(tmp_path):
    for name in ("serving", "crew", "workflows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    (tmp_path / "echo.py").write_text(ECHO)
    code = (
        "import serving.gallery as gallery\n"
        "assert gallery.load_workflow('echo.py').name == 'echo'\n"
        "print(gallery.bundled_names())\n"
    )
    here = str(Path(gallery.__file__).parents[1])
    # `-P` is how a console script starts: without the working directory on the path.
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": here},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_gallery_of_a_wheel_comes_before_a_stranger_called_workflows(tmp_path, monkeypatch):
    (tmp_path / "crew" / "gallery").mkdir(parents=True)
    (tmp_path / "crew" / "gallery" / "ours.py").write_text(ECHO)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "theirs.py").write_text("")
    monkeypatch.setattr(gallery.crew.errors, "__file__", str(tmp_path / "crew" / "errors.py"))

    assert gallery.bundled_names() == ["ours"]
    assert gallery.load_workflow("ours").name == "echo"
