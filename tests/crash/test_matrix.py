"""Every position of a journal is one at which its process may die."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.owners import disturb

ROOT = Path(__file__).parents[2]


def matrix(*options: str, seconds: int) -> None:
    command = [sys.executable, "-m", "tests.crash.matrix", *options]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(200)
def test_a_sample_of_the_positions_loses_nothing():
    matrix("--every", "13", seconds=180)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_position_loses_anything():
    matrix(seconds=880)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    "moments", [6, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_a_killed_or_stopped_owner_leaves_one_history(store, moments, tmp_path, request):
    url = f"sqlite:///{tmp_path}/runs.db"
    if store == "postgres":
        url = request.getfixturevalue("postgres_url")
    broken, seen = await disturb(url, tmp_path, moments, seed=1)
    assert broken == []
    assert seen["moments"] == moments
    assert seen["taken over"] >= moments // 4
