"""The wheel alone, in a fresh environment without extras."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("wheel"),
    pytest.mark.skipif(
        not Path(sys.executable).with_name("uv").exists(), reason="needs uv beside this Python"
    ),
]

FLOW = """
import asyncio, sys
from pydantic import BaseModel
from crew import Context, Runtime, workflow

@workflow
async def double(ctx: Context, n: int) -> int:
    return await ctx.run(twice, n)

async def twice(n: int) -> int:
    return 2 * n

async def main():
    async with Runtime("sqlite:///runs.db") as runtime:
        print(await (await runtime.start(double, 21)).result())

asyncio.run(main())
assert not {"ray", "openai", "httpx2", "numpy"} & set(sys.modules)
"""


def run(*words, cwd, **environment):
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The `bin` folder of an environment that holds the wheel and LlamaIndex's `workflows`."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    built = run(uv, "build", "--wheel", "--out-dir", folder / "dist", cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "dist").glob("raycrew-*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    done = run(uv, "pip", "install", "--python", python, wheel, "llama-index-workflows", cwd=folder)
    assert done.returncode == 0, done.stderr
    return python.parent


def test_the_command_helps(installed, tmp_path):
    done = run(installed / "crew", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Ask a workflow one question" in done.stdout


def test_a_workflow_of_plain_functions_runs(installed, tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    done = run(installed / "python", "flow.py", cwd=tmp_path)
    assert done.stdout == "42\n", done.stderr


def test_folders_named_like_ours_do_not_break_the_command(installed, tmp_path):
    for name in ("crew", "serving", "workflows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    done = run(installed / "crew", "runs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no runs yet" in done.stderr


def test_workflows_stays_somebody_elses(installed, tmp_path):
    code = "import workflows; from workflows import Workflow; print(workflows.__file__)"
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    assert "site-packages/workflows/" in done.stdout, done.stderr


def test_the_gallery_and_the_documents_are_in_it(installed, tmp_path):
    code = (
        "from pathlib import Path\nimport crew\nroot = Path(crew.__file__).parent\n"
        "print(sorted(p.name for p in (root / 'gallery').glob('*.py')))\n"
        "print((root / 'corpus' / 'agents-on-ray.md').is_file())\n"
    )
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    assert done.stdout.splitlines() == ["['chat.py', 'research.py']", "True"], done.stderr


def test_the_page_is_in_it(installed, tmp_path):
    code = (
        "from pathlib import Path\nimport serving\nroot = Path(serving.__file__).parent / 'web'\n"
        "print(sorted(p.name for p in root.iterdir() if p.is_file()))"
    )
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    inside = [p.name for p in (ROOT / "serving" / "web").iterdir() if p.is_file()]
    assert done.stdout.strip() == str(sorted(inside)), done.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["ask", "x"], "embedded"),
        (["ask", "x", "--agents", "ray"], "embedded"),
        (["serve"], "serve"),
    ],
)
def test_a_missing_extra_says_its_install_line(installed, tmp_path, words, extra):
    done = run(installed / "crew", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert f'pip install "raycrew[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr
