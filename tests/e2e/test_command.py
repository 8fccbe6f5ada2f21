"""The `crew` command, as somebody types it."""

import json
import signal
import socket
import time
from pathlib import Path

import openai
import pytest

from tests.endpoint import NUMBER, QUESTION, SENTENCE

pytestmark = pytest.mark.timeout(120)


def run(place, endpoint, *words, **settings):
    command = place.crew(*words, endpoint=endpoint, **settings)
    output, _ = command.communicate(timeout=90)
    return command.returncode, output


def ask(place, endpoint, question=QUESTION, *words):
    return run(place, endpoint, "ask", question, "--docs", "pages", *words)


def test_ask_prints_the_answer_with_its_quote_and_where_to_look(place, endpoint):
    status, output = ask(place, endpoint)
    assert status == 0, place.errors()
    assert NUMBER in output
    assert SENTENCE in output
    assert "sources: actors.md" in place.errors()
    assert "crew show r" in place.errors()


def test_ask_as_json_prints_json_alone(place, endpoint):
    status, output = ask(place, endpoint, QUESTION, "--json")
    told = json.loads(output)
    assert status == 0
    assert (told["status"], told["workflow"]) == ("completed", "research")
    assert NUMBER in told["output"]["text"]
    assert told["usage"]["calls"] == len(endpoint.requests)
    assert {agent["agent"] for agent in told["agents"]} == {
        "planner",
        "searcher",
        "coder",
        "summariser",
    }


def test_a_second_turn_sees_the_first_after_every_process_ended(place, endpoint):
    ask(place, endpoint, QUESTION, "--thread", "t1")
    ask(place, endpoint, "And in twice that memory?", "--thread", "t1")
    second_plan = next(body for body in endpoint.requests if "And in twice that memory?" in body)
    assert QUESTION in second_plan
    assert NUMBER in second_plan


def test_the_same_key_is_the_same_run(place, endpoint):
    _, one = ask(place, endpoint, QUESTION, "--key", "k", "--json")
    count = len(endpoint.requests)
    _, two = ask(place, endpoint, QUESTION, "--key", "k", "--json")
    assert json.loads(one)["run"] == json.loads(two)["run"]
    assert len(endpoint.requests) == count


def test_runs_and_show_tell_what_was_done(place, endpoint):
    ask(place, endpoint)
    _, listed = run(place, endpoint, "runs", "--json")
    (row,) = json.loads(listed)
    assert (row["status"], row["text"]) == ("completed", QUESTION)
    status, shown = run(place, endpoint, "show", row["run"])
    assert status == 0
    assert NUMBER in shown
    assert "recorded calls · 0 repeated" in place.errors()
    _, events = run(place, endpoint, "show", row["run"], "--json")
    assert json.loads(events)["events"][0]["kind"] == "run.started"


def test_index_counts_what_it_read(place, endpoint):
    _, output = run(place, endpoint, "index", "pages", "--json")
    assert json.loads(output)["files"] == 1


def test_doctor_says_what_is_in_force(place, endpoint):
    status, output = run(place, endpoint, "doctor", "--json")
    found = {item["name"]: item for item in json.loads(output)}
    assert status == 0
    assert found["model"]["value"] == f"counting at {endpoint.url}"
    assert found["store"]["value"].startswith(place.store)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ask", "x", "--docs", "nosuch"], "nosuch does not exist; give the folder"),
        (["ask", "x", "--docs", "pages/actors.md"], "is not a folder"),
        (["ask", "x", "--workflow", "reserch"], "did you mean 'research'?"),
        (["show", "r0"], "no run 'r0' in this store; `crew runs` lists what there is"),
        (["runs", "--status", "lost"], "'lost' is no status"),
        (["ask", "x", "--store", "mysql://x"], "is not a store; use sqlite:///"),
        (["ask", "x", "--agents", "mars"], "it must be 'local' or 'ray'"),
        (["serve", "--host", "0.0.0.0"], "--api-key"),
        (["nosuch"], "No such command 'nosuch'"),
        (["cancel", "r0"], "no run 'r0'"),
    ],
)
def test_an_error_is_one_line_with_the_way_on(place, endpoint, words, message):
    status, output = run(place, endpoint, *words)
    errors = place.errors()
    assert status in (1, 2)
    assert output == ""
    assert message in errors
    assert "Traceback" not in errors


def test_an_endpoint_that_is_not_there_is_named(place, endpoint):
    status, _ = run(
        place, endpoint, "ask", "x", "--docs", "pages", CREW_BASE_URL="http://127.0.0.1:9/v1"
    )
    assert status == 1
    assert "cannot reach http://127.0.0.1:9/v1" in place.errors()
    assert "CREW_BASE_URL" in place.errors()


def test_an_interrupt_leaves_a_run_that_resume_finishes(place, endpoint):
    first = place.ask(endpoint)
    endpoint.wait_for(2)
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=20) == 130
    assert "nothing is lost. Go on with: crew resume r" in place.errors()
    status, output = run(place, endpoint, "resume")
    assert status == 0, place.errors()
    assert NUMBER in output


def test_folders_named_like_our_packages_do_not_matter(place, endpoint):
    for name in ("crew", "serving", "workflows"):
        (place.folder / name).mkdir()
        (place.folder / name / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    status, output = ask(place, endpoint)
    assert status == 0, place.errors()
    assert NUMBER in output


@pytest.fixture
def server(place, endpoint):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = place.crew(
        "serve", "research", "--port", str(port), "--docs", "pages", endpoint=endpoint
    )
    deadline = time.monotonic() + 60
    while "Ctrl-C ends it" not in place.errors():
        assert command.poll() is None, place.errors()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    command.url = f"http://127.0.0.1:{port}/v1"
    return command


def test_the_official_client_lists_chats_and_streams(server):
    with openai.OpenAI(base_url=server.url, api_key="none") as client:
        assert [model.id for model in client.models.list()] == ["research"]
        said = [{"role": "user", "content": QUESTION}]
        chat = client.chat.completions.create(model="research", messages=said)
        assert NUMBER in chat.choices[0].message.content
        pieces = client.chat.completions.create(model="research", messages=said, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices)
        assert NUMBER in text
        with pytest.raises(openai.NotFoundError, match="served here: research"):
            client.chat.completions.create(model="reserch", messages=said)


def test_a_running_server_is_used_by_ask(place, endpoint, server):
    status, output = ask(place, endpoint)
    assert status == 0
    assert NUMBER in output
    assert f"using the running `crew serve` (process {server.pid}" in place.errors()


def test_ask_goes_on_by_itself_when_the_server_it_used_is_killed(place, endpoint, server):
    endpoint.delay = 0.5
    asking = place.ask(endpoint)
    endpoint.wait_for(2)
    server.kill()
    output, _ = asking.communicate(timeout=60)
    assert asking.returncode == 0, place.errors()
    assert NUMBER in output
    assert "the server is gone; this command goes on with its runs" in place.errors()


def test_ctrl_c_ends_the_server_soon_and_its_run_is_resumed(place, endpoint, server):
    endpoint.delay = 1.0
    asking = place.ask(endpoint)
    endpoint.wait_for(1)
    began = time.monotonic()
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=30) == 0
    assert time.monotonic() - began < 10
    asking.kill()
    asking.communicate()
    endpoint.delay = 0.0
    status, output = run(place, endpoint, "resume")
    assert status == 0, place.errors()
    assert NUMBER in output


def test_a_port_in_use_is_said(place, endpoint):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, _ = run(place, endpoint, "serve", "--port", port)
    assert status == 1
    assert f"port {port} on 127.0.0.1 is in use; choose another with --port" in place.errors()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_the_demo_plays_its_three_acts_and_leaves_nothing_behind(place, endpoint):
    status, output = run(
        place, endpoint, "demo", "--json", CREW_BASE_URL="", CREW_MODEL="", CREW_STORE=""
    )
    assert status == 0, place.errors()
    first, second, third = json.loads(output)
    assert "170" in first["answer"]
    assert "340" in third["answer"]
    assert "host killed" in second["act"]
    assert "0 repeated" in second["act"]
    assert len({agent["pid"] for agent in first["agents"]}) >= 4
    assert not [pid for pid in _processes() if str(place.folder) in pid]


def _processes() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append(str((entry / "cwd").readlink()))
            except OSError:
                continue
    return found
