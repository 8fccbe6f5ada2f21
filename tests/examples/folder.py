"""A folder with the examples in it, as a user has copied them, and the commands run there."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CREW = Path(sys.executable).with_name("crew")
ENDPOINT = "http://127.0.0.1:11434/v1"


class Folder:
    """Where one test runs; its `crew.toml` names the test's models in place of the user's."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self._commands: list[subprocess.Popen[str]] = []
        shutil.copytree(EXAMPLES, path, dirs_exist_ok=True)
        toml = (path / "crew.toml").read_text()
        assert toml.count(ENDPOINT) == 2
        (path / "crew.toml").write_text(toml.replace(ENDPOINT, url))

    def python(self, *words: str, says: str = "") -> "subprocess.Popen[str]":
        """Run an example, which is told something on its standard input."""
        command = self._run(sys.executable, *words)
        assert command.stdin is not None
        command.stdin.write(says)
        command.stdin.close()
        return command

    def crew(self, *words: str) -> "subprocess.Popen[str]":
        return self._run(str(CREW), *words)

    def key(self, name: str, *words: str) -> str:
        """Make a key, and return its secret."""
        made = self.crew("keys", "new", "--tenant", "shop", "--name", name, *words, "--json")
        return json.loads(self.output(made))["secret"]

    def serve(self, *words: str) -> tuple["subprocess.Popen[str]", str]:
        """Start a server, and return it with its URL."""
        server = self.crew("serve", *words, "--port", "0", "--json")
        assert server.stdout is not None
        told = ""
        while not told.endswith("}\n"):
            line = server.stdout.readline()
            assert line, self.errors()
            told += line
        return server, json.loads(told)["url"]

    def output(self, command: "subprocess.Popen[str]") -> str:
        """Return what a command prints, which has to succeed."""
        assert command.stdout is not None
        text = command.stdout.read()
        assert command.wait() == 0, self.errors()
        return text

    def errors(self) -> str:
        return (self.path / "stderr.txt").read_text()

    def end(self) -> None:
        for command in self._commands:
            if command.poll() is None:
                command.kill()
            command.wait()
            for pipe in (command.stdin, command.stdout):
                if pipe is not None:
                    pipe.close()

    def _run(self, *words: str) -> "subprocess.Popen[str]":
        rest = {name: value for name, value in os.environ.items() if not name.startswith("CREW_")}
        with (self.path / "stderr.txt").open("a") as errors:
            command = subprocess.Popen(
                words,
                cwd=self.path,
                env=rest,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._commands.append(command)
        return command


def kill(command: "subprocess.Popen[str]") -> None:
    """End a process as a power cut does."""
    command.send_signal(signal.SIGKILL)
    command.wait()
