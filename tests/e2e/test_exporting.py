"""Runs started by their code, tried again, found and written out from the command line."""

import json

import pytest

from tests.e2e.test_command import run

pytestmark = pytest.mark.timeout(180)

FLOW = """
from pathlib import Path
from crew import Agent, Context, workflow
from crew.testing import ScriptedModel

helper = Agent("helper", instructions="Be brief.", model=ScriptedModel(lambda request: "Hi"))

def note(word: str) -> str:
    with Path("calls.txt").open("a") as file:
        file.write(word)
    return word

def may_fail(word: str) -> str:
    note("b")
    if not Path("repaired").exists():
        raise ValueError("broken")
    return word

@workflow
async def words(ctx: Context, word: str) -> dict[str, str]:
    await ctx.run(note, "a")
    return {"word": await ctx.run(may_fail, word)}

@workflow
async def chat(ctx: Context, text: str) -> str:
    return (await ctx.run(helper, text)).output
"""


@pytest.fixture
def flow(place):
    (place.folder / "flow.py").write_text(FLOW)
    return "flow.py:words"


def lines(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_run_is_started_by_its_file_and_tried_again_after_it_failed(place, endpoint, flow):
    words = ("start", flow, "--input", '"x"', "--key", "k", "--metadata", "set=1")
    status, _ = run(place, endpoint, *words)
    assert status == 1
    assert "broken" in place.errors()
    (place.folder / "repaired").touch()
    status, _ = run(place, endpoint, *words)  # the same key is the same run: it stays failed
    assert status == 1
    _, output = run(place, endpoint, "runs", "--workflow", "words", "--since", "1h", "--json")
    (failed,) = json.loads(output)
    status, output = run(place, endpoint, "retry", failed["run"], "--workflow", "flow.py")
    assert status == 0, place.errors()
    assert json.loads(output) == {"word": "x"}
    assert (place.folder / "calls.txt").read_text() == "abb"
    _, output = run(place, endpoint, "export", "--jsonl", "--metadata", "set=1")
    again, first = lines(output)
    assert (again["status"], again["output"], again["error"]) == ("completed", {"word": "x"}, None)
    assert (first["status"], first["key"], first["input"]) == ("failed", "k", "x")
    assert first["error"]["message"] == "broken"


def test_messages_are_written_out_as_for_fine_tuning(place, endpoint, flow):
    status, _ = run(place, endpoint, "start", "flow.py:chat", "--input", "Hello")
    assert status == 0, place.errors()
    _, output = run(place, endpoint, "export", "--jsonl", "--messages")
    (line,) = lines(output)
    (said,) = line["agents"]
    assert [message["role"] for message in said["messages"]] == ["system", "user", "assistant"]
    assert said["messages"][1]["content"] == "Hello"
    assert line["usage"]["calls"] == 1
    assert line["seconds"] >= 0


def test_a_run_that_is_left_is_printed_by_its_id(place, endpoint, flow):
    status, output = run(place, endpoint, "start", flow, "--input", "x", "--no-wait")
    assert status == 0, place.errors()
    _, shown = run(place, endpoint, "show", output.strip(), "--json")
    assert json.loads(shown)["status"] == "running"
    assert json.loads(shown)["spans"]["kind"] == "run"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export",), "crew export --jsonl"),
        (("runs", "--since", "soon"), "write an age"),
        (("runs", "--metadata", "soon"), "NAME=VALUE"),
        (("start", "flow.py:none"), "has no workflow 'none'"),
    ],
)
def test_a_command_that_is_not_understood_says_what_to_write(place, endpoint, flow, words, said):
    status, _ = run(place, endpoint, *words)
    assert status == 2
    assert said in place.errors()
