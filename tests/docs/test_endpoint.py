"""README's endpoint, as a reader tries it: a server, curl, and the official client."""

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
SECTION = README.partition("## The endpoint\n")[2].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def graph() -> str:
    """The workflow at the top of README, without the lines that run it."""
    tree = ast.parse(blocks(README, "python")[0])
    kept = [node for node in tree.body if not isinstance(node, ast.AsyncWith | ast.Assert)]
    return "\n".join(ast.unparse(node) for node in kept)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_readmes_endpoint_is_true(place, endpoint, capsys):
    (place.folder / "flow.py").write_text(graph())
    serve, curl = re.split(r"^\$ ", blocks(SECTION, "console")[0], flags=re.MULTILINE)[1:]
    words = serve.replace("8000", "0").split()[1:]
    server = place.crew(*words, "--json", endpoint=endpoint)
    told = "".join(iter(server.stdout.readline, "}\n")) + "}"
    base = json.loads(told)["url"].removesuffix("/v1")

    done = subprocess.run(
        ["bash", "-c", curl.replace("http://127.0.0.1:8000", base)], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "NOTHING IS LOST"
    names: dict = {}
    exec(blocks(SECTION, "py")[0].replace("http://127.0.0.1:8000", base), names)
    names["client"].close()
    assert capsys.readouterr().out == "NOTHING IS LOST\n"
