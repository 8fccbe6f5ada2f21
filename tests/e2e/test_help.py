"""What `--help` says: each ends with an example, and the endpoint's are run as they stand."""

import json
import shlex
import socket

import pytest
import typer

from serving.cli import app


def commands(group, *path: str):
    """Every command and group, by the words that call it."""
    yield path, group
    for name, one in getattr(group, "commands", {}).items():
        yield from commands(one, *path, name)


COMMANDS = {" ".join(path): one for path, one in commands(typer.main.get_command(app), "crew")}


def example(command: str) -> list[str]:
    """The words of a command's example, without `crew`."""
    last = COMMANDS[command].help.strip().splitlines()[-1].strip()
    assert last.startswith("Example: crew "), last
    return shlex.split(last.removeprefix("Example: crew "))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example_that_the_command_line_takes(command):
    words, group = example(command), COMMANDS["crew"]
    while (found := getattr(group, "commands", {}).get(words[0])) is not None:
        words, group = words[1:], found
        if not hasattr(group, "commands"):
            break

    group.make_context(command, list(words), resilient_parsing=False)
    assert not hasattr(group, "commands")


def test_examples_of_keys_make_a_key_and_list_it(place, endpoint):
    for command in ("crew keys new", "crew keys list"):
        made = place.crew(*example(command), endpoint=endpoint)
        output, _ = made.communicate(timeout=60)
        assert made.returncode == 0, place.errors()

    assert "acme" in output
    assert "crew serve --keys keys.toml" in place.errors()


def test_example_of_serve_serves(place, endpoint):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    words = [port if word == "8000" else word for word in example("crew serve")]
    server = place.crew(*words, "--json", endpoint=endpoint)
    told = json.loads("".join(iter(server.stdout.readline, "}\n")) + "}")

    assert told["url"] == f"http://127.0.0.1:{port}/v1"
    assert told["models"] == ["research"]
