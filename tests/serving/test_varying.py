"""The commands that look at recorded runs and vary them, as somebody types them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import serving
from crew.config import Settings, load_settings
from crew.errors import Diverged, Unrecorded
from crew.event import Event, to_data
from crew.run import Run, Runtime
from crew.run.ending import parked_by as by_error
from serving.commands.parked import parked
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

    def __init__(self, status: int, out: str, errors: str) -> None:
        self.status, self.out, self.errors = status, out, errors

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
        # Python takes a file of the same size and second for the one that it compiled.
        for compiled in self.folder.glob("__pycache__/*"):
            compiled.unlink()

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
        words = (*words, "--workflow", "flow.py") if code else words
        with self.started(*words) as command:
            out, errors = command.communicate(timeout=50)
        if words[0] != "show":  # which shows that of a run that failed
            assert "Traceback" not in errors, errors
        return Done(command.returncode, out, errors)

    @contextmanager
    def started(self, *words: str) -> Iterator["subprocess.Popen[str]"]:
        settings = {"CREW_STORE": self.store, "CREW_BASE_URL": self.url, "CREW_API_KEY": "k"}
        # Whoever runs the tests in the background may ignore it, and children inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        command = subprocess.Popen(
            [sys.executable, "-P", "-m", "serving.cli", *words],
            cwd=self.folder,
            env={**os.environ, **settings, "PYTHONPATH": str(Path(serving.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        signal.signal(signal.SIGINT, before)
        with command:
            try:
                yield command
            finally:
                command.kill()


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
    assert done.told["difference"]["path"] == "flow[0]/=post"
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
    assert told["effects"] == ["flow[0]/=send"]
    assert desk.crew("replay", told["run"]).status == 0


async def test_a_fork_with_another_model_pays_for_it_and_repeats_no_effect_unasked(desk, talker):
    (run,) = await desk.record("x")
    done = desk.crew("fork", run.id, "--with", "model=other", "--no-effects")
    assert (done.status, desk.sent) == (1, "plain X")
    assert "new effects are not allowed" in done.out
    assert "1 model calls and 15 tokens paid" in done.errors
    assert len(talker.requests) == 1


async def test_a_fork_with_a_model_of_crew_toml_pays_by_its_price(desk, talker):
    (run,) = await desk.record("x")
    named = f'[models.dear]\nbase_url = "{desk.url}"\nmodel = "m"\nprice_in = 10.0\n'
    (desk.folder / "crew.toml").write_text(named)
    done = desk.crew("fork", run.id, "--with", "model=dear", "--json")
    assert done.status == 0
    assert done.told["cost"]["money"] == 100e-6
    assert len(talker.requests) == 1


async def test_a_fork_may_act_anew(desk, talker):
    (run,) = await desk.record("x")
    done = desk.crew("fork", run.id, "--with", "model=other", "--json")
    assert (done.status, desk.sent) == (0, "plain Xsomething else")
    assert done.told["end"]["value"] == "something else"
    compared = desk.crew("diff", run.id, done.told["run"], code=False).out
    assert "answer: different" in compared
    assert f"only in {run.id}:" in compared
    assert "flow[0]/writer/model.1" in compared
    assert "1 model calls and 15 tokens paid" in compared
    assert desk.crew("replay", done.told["run"]).status == 0
    again = desk.crew("fork", done.told["run"])
    assert (again.status, again.out) == (2, "")
    assert f"crew fork {run.id}" in again.errors


async def test_a_fork_at_an_event_names_the_effects_it_stands_on(desk):
    (run,) = await desk.record("x")
    events = desk.crew("show", run.id, "--json", code=False).told["events"]
    (done,) = [event["offset"] for event in events if event["kind"] == "effect.completed"]
    fork = desk.crew("fork", run.id, "--at", str(done), "--no-live", "--json").told
    assert fork["effects"] == ["flow[0]/=send"]
    assert fork["at"] == done
    assert fork["end"]["value"] == "plain X"


async def test_a_cohort_is_replayed_unchanged(desk):
    runs = await desk.record("x", "y", "z")
    done = desk.crew("replay", "--runs", "last:2")
    assert done.status == 0
    lines = done.out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["run", "unchanged"],
        [runs[2].id, "equal"],
        [runs[1].id, "equal"],
        ["2", "runs"],
    ]


async def test_a_cohort_tells_what_another_model_does(desk, talker):
    await desk.record("x", "y")
    talker.text = "plain Y"
    done = desk.crew("replay", "--runs", "last:9", "--with", "model=other", "--json").told
    first, second = done["runs"]
    assert [row["equal"] for row in done["runs"]] == [True, True]
    assert (first["answer"], second["answer"]) == ("same", "stopped")
    assert (first["calls_paid"], first["tokens_after"]) == (1, 15)
    assert first["tokens_before"] > 15
    assert second["detail"].startswith("at flow[0]/=send it asks for effect send:")
    assert second["detail"].endswith("new effects are not allowed; see --allow-effects")
    assert done["sums"]["answers"] == {"same": 1, "stopped": 1}
    assert done["sums"]["calls_paid"] == 2
    assert desk.sent in ("plain Xplain Y", "plain Yplain X")
    assert desk.crew("runs", "--status", "waiting", "--json", code=False).told == []


async def test_a_cohort_may_act_and_leaves_its_own_forks_out(desk, talker):
    await desk.record("x")
    words = ("replay", "--runs", "last:9", "--with", "model=other", "--allow-effects")
    done = desk.crew(*words)
    assert done.status == 0
    row, sums = done.out.splitlines()[1:3]
    assert row.split()[4] == "different"
    assert sums.split()[:2] == ["1", "runs"]
    assert desk.sent == "plain Xsomething else"
    assert desk.crew("replay", "--runs", "last:9", "--json").told["sums"]["runs"] == 1


async def test_a_cohort_of_changed_code_says_where_it_differs(desk, talker):
    (run,) = await desk.record("x")
    desk.write('key="send")', 'key="post")')
    done = desk.crew("replay", "--runs", "last:1", "--with", "model=other")
    assert done.status == 1
    assert f"{run.id} is different without any change, at flow[0]/=post:" in done.out
    assert talker.requests == []


async def test_tail_prints_events_to_the_end(desk):
    (run,) = await desk.record("x")
    lines = desk.crew("tail", run.id, "--json", code=False).out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["kind"] == "run.completed"
    rest = desk.crew("tail", run.id, "--after", str(len(events) - 1), code=False)
    assert rest.out.split()[:2] == [str(len(events)), "run.completed"]


async def diverged(desk: Desk) -> str:
    """Record a run that waits for an answer, change its code, and let it be resumed."""
    ask = 'await ctx.ask(bool, "Send?", key="may")\n    return await ctx'
    desk.write("return await ctx", ask)
    flow = load_workflow(str(desk.file))
    async with Runtime(workflows=[flow], settings=Settings(store=desk.store)) as runtime:
        run = await runtime.start(flow, "x")
        async for event in run.events():
            if event.kind == "ask.opened":
                break
    desk.file.write_text(desk.file.read_text().replace("written(ctx, text)", "written(ctx, 'y')"))
    done = desk.crew("resume", run.id)
    assert done.status == 1
    assert f"crew show {run.id}" in done.errors
    return run.id


async def test_a_run_that_diverged_shows_both_sides_and_the_ways_on(desk):
    run = await diverged(desk)
    shown = desk.crew("show", run, code=False).errors
    assert "parked (diverged) at flow[0]/writer" in shown
    assert re.search("recorded: agent writer:.* with 'x'", shown)
    assert "asked:    agent writer:" in shown
    for line in (
        f"    crew resume {run} --workflow FILE.py",
        f"    crew fork {run} --workflow FILE.py",
        f"    crew cancel {run}",
    ):
        assert line in shown.splitlines()
    told = desk.crew("show", run, "--json", code=False).told["parked"]
    assert told["reason"] == "diverged"
    assert told["recorded"] != told["asked"]


async def test_each_way_on_of_a_run_that_diverged_works(desk):
    run = await diverged(desk)
    fork = desk.crew("fork", run, "--no-live", "--json").told
    assert fork["end"]["kind"] == "parked"
    assert fork["end"]["value"]["reason"] == "unrecorded"
    shown = desk.crew("show", fork["run"], code=False).errors
    assert "make the call, in a new run from this point" in shown
    desk.file.write_text(desk.file.read_text().replace("written(ctx, 'y')", "written(ctx, text)"))
    assert desk.crew("answer", run, "may", "true", code=False).status == 0
    done = desk.crew("resume", run)
    assert (done.status, done.out.strip(), desk.sent) == (0, "plain X", "plain X")
    assert desk.crew("cancel", fork["run"], code=False).status == 0
    assert desk.crew("runs", "--status", "waiting", "--json", code=False).told == []


async def test_an_effect_that_may_have_happened_is_shown_with_its_policy(desk):
    hang = "    import asyncio\n    await asyncio.sleep(60)\n    return text"
    desk.write("    return text\n\n\nasync def written", f"{hang}\n\n\nasync def written")
    flow = load_workflow(str(desk.file))
    async with Runtime(workflows=[flow], settings=Settings(store=desk.store)) as runtime:
        run = await runtime.start(flow, "x")
        async for event in run.events():
            if event.kind == "effect.started":
                break
    desk.write()
    assert desk.crew("resume", run.id).status == 1
    shown = desk.crew("show", run.id, code=False).errors
    assert "unknown whether it happened: flow[0]/=send (send), policy 'fail'" in shown
    (told,) = desk.crew("show", run.id, "--json", code=False).told["unknown_effects"]
    assert (told["path"], told["policy"]) == ("flow[0]/=send", "fail")


async def test_an_effect_that_was_cancelled_midway_is_shown_too(desk):
    hang = "    import asyncio\n    await asyncio.sleep(60)\n    return text"
    desk.write("    return text\n\n\nasync def written", f"{hang}\n\n\nasync def written")
    flow = load_workflow(str(desk.file))
    async with Runtime(workflows=[flow], settings=Settings(store=desk.store)) as runtime:
        run = await runtime.start(flow, "x")
        async for event in run.events():
            if event.kind == "effect.started":
                await run.cancel()
    shown = desk.crew("show", run.id, code=False).errors
    assert "unknown whether it happened: flow[0]/=send (send), policy 'fail'" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fork", "RUN"], "does not come with crew; give the file that defines it: --workflow"),
        (["fork", "RUN", "--workflow", "research"], "defines research; give the file"),
        (["fork", "RUN", "--workflow", "flow.py", "--at", "99"], "none at 99"),
        (["fork", "RUN", "--workflow", "flow.py", "--with", "x"], "write --with model=NAME"),
        (["replay"], "give a run's id, or --runs last:50"),
        (["replay", "RUN", "--with", "model=x"], "crew fork RUN --with"),
        (["replay", "--runs", "first:3"], "write --runs last:50"),
        (["replay", "--runs", "last:3", "--workflow", "research"], "no run of workflow 'research'"),
        (["diff", "RUN", "r0"], "no run 'r0'"),
        (["tail", "r0"], "no run 'r0'"),
    ],
)
async def test_a_mistake_is_answered_with_what_to_write(desk, talker, words, message):
    (run,) = await desk.record("x")
    done = desk.crew(*(run.id if word == "RUN" else word for word in words), code=False)
    assert done.status in (1, 2)
    assert done.out == ""
    assert message.replace("RUN", run.id) in done.errors


async def test_a_version_that_is_not_there_is_named(desk):
    (run,) = await desk.record("x")
    desk.write("@workflow", '@workflow(version="2")')
    done = desk.crew("replay", run.id)
    assert done.status == 2
    assert "is of version 1 of workflow 'flow', and this code is version 2" in done.errors


async def test_a_question_of_a_trial_is_not_waited_for(desk, talker):
    ask = 'if said == "something else":\n        await ctx.ask(bool, "Sure?")\n    return await ctx'
    desk.write("return await ctx.effect", f"{ask}.effect")
    await desk.record("x")
    done = desk.crew("replay", "--runs", "last:1", "--with", "model=other", "--json").told
    (row,) = done["runs"]
    assert (row["answer"], row["detail"]) == ("asks", "Sure?")
    assert desk.crew("runs", "--status", "waiting", "--json", code=False).told == []


async def test_an_agent_that_is_made_in_a_step_gets_the_other_model_too(desk, talker):
    desk.write("ctx.run(members.writer", "ctx.run(Team().writer")
    (run,) = await desk.record("x")
    done = desk.crew("fork", run.id, "--with", "model=other")
    assert (done.status, done.out) == (0, "something else\n")


async def test_runs_that_a_dead_process_left_are_not_gone_on_with(desk, talker):
    await desk.record("x")
    flow = load_workflow(str(desk.file))
    async with Runtime(settings=Settings(store=desk.store), worker=False) as runtime:
        left = await runtime.start(flow, "left")
    assert desk.crew("replay", "--runs", "last:1", "--with", "model=other").status == 0
    events = desk.crew("show", left.id, "--json", code=False).told["events"]
    assert "run.taken" not in [event["kind"] for event in events]
    assert desk.sent == "plain X"


async def test_a_stopped_fork_with_another_model_is_given_up(desk, talker):
    (run,) = await desk.record("x")
    talker.delay = 5.0
    words = ("fork", run.id, "--with", "model=other", "--workflow", "flow.py")
    with desk.started(*words) as command:
        talker.wait_for(1)
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=20)
    assert command.returncode == 130
    assert "is cancelled" in errors
    rows = desk.crew("runs", "--json", code=False).told
    assert [row["status"] for row in rows] == ["cancelled", "completed"]


def parked_for(error: Diverged, **fork) -> list[Event]:
    parked = to_data(by_error(error))
    *before, _ = parked_by(error.parked_as, str(error), **fork)
    return [*before, Event(3, "run.parked", error.path, parked)]


def parked_by(reason: str, detail: str, path: str = "", **fork) -> list[Event]:
    first = {"workflow": "research", "version": "1", "input": "x", "code": "c0de"}
    forked = {"run": "r0", "at": 1, **fork}
    last = {"reason": reason, "detail": detail}
    return [
        Event(1, "run.started", "", first),
        *([Event(2, "run.forked", "", forked)] if fork else []),
        Event(3, "run.parked", path, last),
    ]


@pytest.mark.parametrize(
    ("events", "commands"),
    [
        (
            parked_by("poisoned", "its last workers died"),
            ["crew resume r1", "crew fork r1", "crew cancel r1"],
        ),
        (
            parked_for(Unrecorded(recorded="no result", asked="model m"), live=False),
            ["crew fork r1", "crew resume r1", "crew cancel r1"],
        ),
        (
            parked_for(
                Unrecorded(recorded="no result", asked="effect e"),
                effects=False,
                overrides=["writer"],
            ),
            ["crew fork r0 --with model=NAME", "crew resume r1", "crew cancel r1"],
        ),
    ],
)
def test_the_ways_on_fit_why_a_run_is_parked(events, commands):
    held = parked("r1", events, load_settings())
    assert held is not None
    assert [way.command for way in held.ways] == commands
    assert parked("r1", events[:1], load_settings()) is None


def test_another_store_is_part_of_a_command_to_copy():
    held = parked("r1", parked_by("poisoned", "d"), Settings(store="sqlite:///elsewhere.db"))
    assert held is not None
    assert held.ways[0].command == "crew resume r1 --store sqlite:///elsewhere.db"
