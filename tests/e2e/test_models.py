"""`crew models`: what agents can ask for by name."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crew.config import NamedModel, Settings
from serving.cli import app
from serving.commands import output
from serving.commands.doctor import examine
from tests.endpoint import Endpoint

TABLE = (
    '[models.strong]\nbase_url = "https://api.example/v1"\nmodel = "big"\n'
    'api_key_env = "STRONG_KEY"\nprice_in = 2.5\nprice_out = 10\ncontext_window = 128000\n'
    "[models.tiny]\nrequests_per_second = 3\n"
)


@pytest.fixture
def shown(tmp_path, monkeypatch) -> list[str]:
    """What the command prints as its result."""
    lines: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(output, "show", lines.append)
    for module in ("models", "output"):
        monkeypatch.setattr(f"serving.commands.{module}.show", lines.append)
    Path("crew.toml").write_text(TABLE)
    return lines


@pytest.mark.parametrize("words", [["models"], ["models", "list"]])
def test_the_models_of_crew_toml_are_listed(shown, words):
    assert CliRunner().invoke(app, words).exit_code == 0
    head, strong, tiny = shown
    assert head.split()[:3] == ["name", "model", "endpoint"]
    assert "big" in strong
    assert "2.5 / 10" in strong
    assert "STRONG_KEY is not set" in strong
    assert "embedded" in tiny


@pytest.mark.parametrize("words", [["models", "--json"], ["models", "list", "--json"]])
def test_their_keys_are_not_shown(shown, words, monkeypatch):
    monkeypatch.setenv("STRONG_KEY", "secret")
    assert CliRunner().invoke(app, words).exit_code == 0
    (text,) = shown
    strong, tiny = json.loads(text)["models"]
    assert (strong["name"], strong["price_out"], strong["has_key"]) == ("strong", 10, True)
    assert tiny["requests_per_second"] == 3
    assert "secret" not in text


async def test_doctor_asks_each_endpoint_for_the_model_that_is_named_there(tmp_path, monkeypatch):
    lines: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("serving.commands.doctor.show", lines.append)
    with Endpoint() as endpoint:
        named = {
            "there": NamedModel(endpoint.url, "counting"),
            "other": NamedModel(endpoint.url, "another"),
            "keyless": NamedModel(endpoint.url, "counting", "NO_SUCH_KEY"),
            "tiny": NamedModel(model="tiny.gguf"),
        }
        settings = Settings(store=":memory:", model="there", models=named)
        assert await examine(settings, as_json=False) == 1
        found = {line.split()[1]: line[0] for line in lines}
    assert [found[name] for name in ("there", "other", "keyless", "tiny")] == ["✓", "✗", "✗", "✓"]
    assert found["model"] == "✓"
    assert endpoint.requests == []
