"""The commands that look at recorded runs and vary them, as somebody types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import serving
from crew.config import Settings
from crew.run import Run, Runtime
from serving.gallery import load_workflow
from tests.endpoint import Endpoint

pytestmark = pytest.mark.timeout(60)

FLOW = '''
from pathlib import Path

from crew import Agent, Context, tool, workflow
from crew.testing import ScriptedModel, ToolCall

STYLE = "plain"


@tool(effect="read")
async def look(word: str) -> str:
    """Look a word up."""
    return word.upper()


def write(request):
    told = [message.text for message in request.messages if message.role == "tool"]
    return f"{STYLE} {told[0]}" if told else ToolCall("look", {"word": request.messages[-1].text})


class Team:
    def __init__(self):
        self.writer = Agent("writer", instructions=STYLE, model=ScriptedModel(write), tools=[look])


members = Team()


async def send(text: str) -> str:
    with Path("sent.txt").open("a") as sent:
        sent.write(text)
    return text


async def written(ctx: Context, text: str) -> str:
    return (await ctx.run(members.writer, text)).output


@workflow
async def flow(ctx: Context, text: str) -> str:
    said = await written(ctx, text)
    return await ctx.effect(send, said, key="send")
'''


class Talker(Endpoint):
    """A model that always says the same."""

    def __init__(self, text: str) -> None:
        super().__init__(delay=0.0)
        self.text = text

    def complete(self, body: dict) -> tuple[int, dict]:
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        head = {"id": "c1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return 200, {**head, "choices": [choice], "usage": usage}


class Done:
    """A command that has ended."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.status, self.out, self.errors = done.returncode, done.stdout, done.stderr

    @property
    def told(self):
        assert self.out, self.errors
        return json.loads(self.out)


class Desk:
    """A folder with a workflow file and a store, in which commands are typed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.file = folder / "flow.py"
        self.store = f"sqlite:///{folder}/runs.db"
        self.url = ""
        self.write()
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.chdir(folder)

    def write(self, old: str = "", new: str = "") -> None:
        self.file.write_text(FLOW.replace(old, new) if old else FLOW)

    async def record(self, *texts: str) -> list[Run]:
        flow = load_workflow(str(self.file))
        async with Runtime(workflows=[flow], settings=Settings(store=self.store)) as runtime:
            runs = [await runtime.start(flow, text) for text in texts]
            for run in runs:
                await run.result()
        return runs

    @property
    def sent(self) -> str:
        file = self.folder / "sent.txt"
        return file.read_text() if file.exists() else ""

    def crew(self, *words: str, code: bool = True) -> Done:
        """Type a command; `code` gives it the workflow's file."""
        settings = {"CREW_STORE": self.store, "CREW_BASE_URL": self.url, "CREW_API_KEY": "k"}
        place = str(Path(serving.__file__).parents[1])
        words = (*words, "--workflow", "flow.py") if code else words
        done = subprocess.run(
            [sys.executable, "-P", "-m", "serving.cli", *words],
            check=False,
            cwd=self.folder,
            env={**os.environ, **settings, "PYTHONPATH": place},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    return Desk(tmp_path, monkeypatch)


@pytest.fixture
def talker(desk):
    with Talker("something else") as talker:
        desk.url = talker.url
        yield talker


async def test_an_unchanged_replay_is_equal_and_does_nothing(desk):
    (run,) = await desk.record("x")
    done = desk.crew("replay", run.id)
    assert (done.status, desk.sent) == (0, "plain X")
    assert done.out.startswith("equal: ")


async def test_a_replay_of_other_code_names_both_sides(desk):
    (run,) = await desk.record("x")
    desk.write('key="send")', 'key="post")')
    done = desk.crew("replay", run.id, "--json")
    assert done.status == 1
    assert done.told["equal"] is False
    assert done.told["difference"]["path"] == "flow[0]/post"
    assert done.told["difference"]["recorded"] == "no result of a call"
    assert done.told["difference"]["asked"].startswith("effect send:")


async def test_a_fork_of_what_did_not_change_costs_nothing(desk):
    (run,) = await desk.record("x")
    done = desk.crew("fork", run.id, "--no-live", "--json")
    told = done.told
    assert (done.status, desk.sent) == (0, "plain X")
    assert told["end"] == {"kind": "completed", "value": "plain X"}
    assert told["cost"]["calls"] == 0
    assert told["cost"]["reused_calls"] == 2
    assert told["base"] == run.id
    assert desk.crew("replay", told["run"]).status == 0
