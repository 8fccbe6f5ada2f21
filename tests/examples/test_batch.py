import json
import re

import pytest

from tests.examples.folder import kill
from tests.examples.models import last


def labeller(body):
    number = int(re.findall(r"\d+", last(body))[0])
    return {"sentiment": "bad" if number % 4 == 0 else "good", "subject": "tea"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [80, pytest.param(2000, marks=pytest.mark.slow)])
def test_reviews_are_labelled_killed_once_and_exported(scene, count):
    folder, models = scene({"You label": labeller})
    lines = [f"review {number} of tea" for number in range(count)]
    (folder.path / "reviews.txt").write_text("\n".join(lines))

    models.hold(count // 2)
    command = folder.python("batch.py", "reviews.txt")
    models.wait_until_held()
    kill(command)
    models.let_go()
    told = folder.output(folder.python("batch.py", "reviews.txt"))
    assert f"'bad': {count // 4}" in told
    assert len(models.calls) == count
    assert set(models.repeated) == {2}
    assert len(models.repeated) <= 40

    exported = folder.output(folder.crew("export", "--jsonl", "--workflow", "label"))
    runs = [json.loads(line) for line in exported.splitlines()]
    assert {run["input"] for run in runs} == set(lines)
    assert {run["status"] for run in runs} == {"completed"}
    assert sum(run["output"]["sentiment"] == "bad" for run in runs) == count // 4
    assert sum(run["usage"]["calls"] for run in runs) == count
