"""Commands about people and versions: `questions`, `answer`, `keys`, `runs`, `doctor`, `serve`."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE

import openai
import pytest

from crew import Context, Runtime, workflow
from crew.config import Settings
from crew.errors import InputInvalid, SettingsInvalid
from serving.access.keys import key_of, load_keys, new_key
from tests.core.lives import left_waiting

TRIAGE = """
from crew import Context, workflow

@workflow(version="{version}")
async def triage(ctx: Context, text: str) -> str:
    agreed = await ctx.ask(bool, f"Refund [bold]{{text}}?", key="refund", to="manager")
    return f"{{agreed}} by {version}"
"""


@workflow
async def triage(ctx: Context, text: str) -> str:
    agreed = await ctx.ask(bool, f"Refund [bold]{text}?", key="refund", to="manager")
    return f"{agreed} by 1"


@workflow
async def chatting(ctx: Context, text: str) -> str:
    return await ctx.ask(str, f"What\n{text}?", key="what")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def crew(url, tmp_path):
    """Runs a command, and returns its output and its errors; it ends well unless said otherwise."""
    env = os.environ | {"CREW_BASE_URL": "http://127.0.0.1:9/v1", "CREW_STORE": url}

    async def command(*words: str, status: int = 0) -> tuple[str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving.cli", *words),
            cwd=tmp_path,
            env=env,
            stdout=PIPE,
            stderr=PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode == status, errors.decode()
        return output.decode(), errors.decode()

    return command


async def test_questions_are_listed_with_whom_they_are_for_and_how_they_are_answered(url, crew):
    first = await left_waiting(url, chatting, value="now")
    second = await left_waiting(url, triage, value="lamp")
    head, *lines = (await crew("questions"))[0].splitlines()
    assert head.split("  ")[0] == "TO"
    assert [line.split()[0] for line in lines] == ["manager", "anybody"]
    assert f"crew answer {second} refund VALUE  Refund [bold]lamp?" in lines[0]
    assert f"crew answer {first} what VALUE" in lines[1]
    assert lines[1].endswith("What now?")
    [mine] = json.loads((await crew("questions", "--to", "clerk", "--json"))[0])
    assert (mine["run"], mine["to"], mine["schema"]) == (first, None, {"type": "string"})
    [newest] = json.loads((await crew("questions", "--limit", "1", "--json"))[0])
    assert newest["run"] == second


async def test_answer_keeps_its_author_and_says_that_nobody_goes_on(url, crew):
    run = await left_waiting(url, triage, value="lamp")
    _, told = await crew("answer", run, "refund", "true", "--by", "eva")
    assert "kept until somebody loads workflow 'triage' version 1" in " ".join(told.split())
    async with Runtime(url, workflows=[triage]) as runtime:
        found = await runtime.get(run)
        assert await found.result() == "True by 1"
        [event] = [each for each in await found.recorded() if each.kind == "ask.answered"]
    assert event.data == {"value": True, "by": "eva"}
    assert "nothing is asked" in (await crew("questions"))[1]


async def test_doctor_names_runs_whose_code_nobody_has_loaded(url, crew):
    run = await left_waiting(url, triage, value="lamp")
    found = json.loads((await crew("doctor", "--json", status=1))[0])
    [waiting] = [item for item in found if item["name"] == "waiting"]
    assert waiting["value"].startswith(f"run {run} waits for workflow 'triage' version 1")
    assert f"crew resume {run} --workflow" in waiting["advice"]
    async with Runtime(url, workflows=[triage], settings=Settings()):
        found = json.loads((await crew("doctor", "--json", status=1))[0])
    assert [item for item in found if item["name"] == "waiting"] == []


async def test_list_of_runs_says_why_one_is_parked(url, crew):
    run = await left_waiting(url, triage, value="lamp")

    async def other(ctx: Context, text: str) -> str:
        return str(await ctx.ask(bool, "Well?", key="refund"))

    other.__name__ = "triage"
    async with Runtime(url, workflows=[workflow(name="triage")(other)]) as runtime:
        found = await runtime.get(run)
        await found.answer("refund", True)
        async with asyncio.timeout(20):
            while (await found.ending()).parked is None:
                await asyncio.sleep(0.01)
    [row] = json.loads((await crew("runs", "--json"))[0])
    assert (row["run"], row["parked"], row["version"]) == (run, "diverged", "1")
    assert "parked: diverged" in (await crew("runs"))[0]


async def test_key_with_roles_is_made_listed_and_loaded(crew, tmp_path):
    words = ("--role", "manager", "--role", 'the "boss"', "--file", "keys.toml")
    told = json.loads((await crew("keys", "new", "--tenant", "shop", *words, "--json"))[0])
    assert told["roles"] == ["manager", 'the "boss"']
    [key] = load_keys(tmp_path / "keys.toml")
    assert key.addresses == {key.name, "manager", 'the "boss"'}
    assert "roles=manager," in (await crew("keys", "list"))[0]


@pytest.mark.parametrize("role", ["", "x" * 65, "a\nb"])
def test_role_that_no_question_is_for_is_refused(role, tmp_path):
    with pytest.raises(InputInvalid, match="a role must be 1 to 64 printable characters"):
        new_key(tmp_path / "keys.toml", tenant="shop", roles=[role])


def test_no_key_is_called_as_those_who_have_none(tmp_path):
    with pytest.raises(InputInvalid, match="cannot be called 'unverified'"):
        key_of("secret", name="unverified", tenant="shop")
    file = tmp_path / "keys.toml"
    file.write_text(f'[[keys]]\nname = "unverified"\nsha256 = "{"0" * 64}"\ntenant = "shop"\n')
    file.chmod(0o600)
    with pytest.raises(SettingsInvalid, match="whoever answers without a key"):
        load_keys(file)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--workers", "2"]], ids=["alone", "workers"])
async def test_two_files_are_two_versions_and_commands_find_both(url, crew, tmp_path, more):
    for version in "12":
        (tmp_path / f"v{version}.py").write_text(TRIAGE.format(version=version))
    command = ["serve", "v1.py", "v2.py", "--port", "0", "--json", *more]
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving.cli", *command),
        cwd=tmp_path,
        env=os.environ | {"CREW_BASE_URL": "http://127.0.0.1:9/v1", "CREW_STORE": url},
        stdout=PIPE,
    )
    try:
        told = json.loads(await _object(server.stdout))
        assert sorted(told["models"]) == ["triage", "triage@1"]
        async with openai.AsyncOpenAI(base_url=told["url"], api_key="none") as client:
            for model in ("triage", "triage@1"):
                said = [{"role": "user", "content": "lamp"}]
                reply = await client.chat.completions.create(model=model, messages=said)
                assert reply.choices[0].message.content == "waiting for manager"
        asked = json.loads((await crew("questions", "--json"))[0])
        assert {item["version"] for item in asked} == {"1", "2"}
        for item in asked:
            assert "kept" not in (await crew("answer", item["run"], "refund", "true"))[1]
        async with Runtime(url, worker=False) as office, asyncio.timeout(30):
            outputs = {await (await office.get(item["run"])).result() for item in asked}
        assert outputs == {"True by 1", "True by 2"}
        found = json.loads((await crew("doctor", "--json", status=1))[0])
        assert [item for item in found if item["name"] == "waiting"] == []
    finally:
        server.send_signal(signal.SIGTERM)
        await server.communicate()


async def _object(stream) -> str:
    lines = []
    async with asyncio.timeout(60):
        while not lines or lines[-1] != "}\n":
            lines.append((await stream.readline()).decode())
    return "".join(lines)
