"""Agents ask models by the names that crew.toml has, wherever they work."""

from pathlib import Path

import pytest

from crew import Agent, Context, Fallback, ModelSettings, OpenAIModel, RunFailed, Runtime, workflow
from crew.config import NamedModel, Settings, load_settings
from crew.errors import GraphError, SettingsInvalid
from crew.testing import ScriptedModel
from tests.core.lives import result
from tests.core.test_default_model import Saying

NAMED = {"strong": NamedModel(model="big"), "cheap": NamedModel(model="small")}


@pytest.fixture
def settings_file(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "crew.toml"


def test_a_table_of_the_file_says_what_a_name_means(settings_file, monkeypatch):
    monkeypatch.setenv("STRONG_KEY", "secret")
    settings_file.write_text(
        '[models.strong]\nbase_url = "https://api.example/v1"\nmodel = "big"\n'
        'api_key_env = "STRONG_KEY"\ncontext_window = 128000\nmax_output = 8192\n'
        "price_in = 2.5\nprice_out = 10\nrequests_per_second = 8\n[models.tiny]\n"
    )
    settings = load_settings()
    strong = settings.models["strong"]
    assert (strong.model, strong.api_key, strong.price_out) == ("big", "secret", 10)
    assert (strong.context_window, strong.max_output) == (128000, 8192)
    assert settings.models["tiny"] == NamedModel()
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models.a]\nurl = 'x'", "has no key 'url'; known: base_url, model"),
        ("[models.a]\napi_key = 'x'", "has no key 'api_key'"),
        ("[models.a]\nbase_url = 'api.example'", r"starts with http\(s\)"),
        ("[models.a]\nmax_output = 0", "max_output = 0; it must be a number of tokens"),
        ("[models.a]\nprice_in = -1", "what a million tokens cost"),
        ("[models.a]\nprice_in = true", "what a million tokens cost"),
        ("[models.a]\nrequests_per_second = 0", "above 0"),
        ("models = 'a'", r"\[models.NAME\]"),
        ("model = 3", r"tables \[models.NAME\]"),
    ],
)
def test_what_a_table_may_not_hold_is_said(settings_file, text, said):
    settings_file.write_text(text)
    with pytest.raises(SettingsInvalid, match=said):
        load_settings()


async def said_by(agent: Agent[str], settings: Settings) -> str:
    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(":memory:", settings=settings) as runtime:
        return await result(await runtime.start(flow, "well?"))


async def test_an_agent_asks_the_model_that_its_name_means():
    with Saying(delay=0.0) as endpoint:
        named = {name: NamedModel(endpoint.url, each.model) for name, each in NAMED.items()}
        settings = Settings(models=named)
        assert await said_by(Agent("a", model="strong"), settings) == "big says yes"
        assert await said_by(Agent("a", model="cheap"), settings) == "small says yes"
        by_default = Settings(model="cheap", models=named)
        assert await said_by(Agent("a"), by_default) == "small says yes"


async def test_a_name_that_means_nothing_is_told_with_those_there_are():
    for choice in ("gpt", Fallback("gpt"), Fallback("strong", "gpt")):
        with pytest.raises(RunFailed, match=r"no model 'gpt' in crew.toml.*: cheap, strong"):
            await said_by(Agent("a", model=choice), Settings(models=NAMED))
    with pytest.raises(RunFailed, match="it has none"):
        await said_by(Agent("a", model="gpt"), Settings())


async def test_a_key_that_is_not_set_is_told_by_its_variable():
    named = {"strong": NamedModel("http://127.0.0.1:9/v1", "big", "NO_SUCH_KEY")}
    with pytest.raises(RunFailed, match="'strong' takes its key from NO_SUCH_KEY"):
        await said_by(Agent("a", model="strong"), Settings(models=named))


@pytest.mark.parametrize(
    "given",
    [
        {"settings": ModelSettings(max_tokens=9), "max_tokens": 9},
        {"settings": ModelSettings(temperature=0), "temperature": 1.0},
        {"model": 3},
        {"model": object()},
    ],
)
def test_what_an_agent_cannot_be_made_of_is_refused_when_it_is_made(given):
    with pytest.raises(GraphError, match=r"given twice|model= takes a name"):
        Agent("a", **given)


@pytest.mark.parametrize(
    "given",
    [
        {"max_tokens": 0},
        {"temperature": -1},
        {"top_p": 2},
        {"frequency_penalty": 3},
        {"extra": {"max_tokens": 9}},
        {"extra": {"max_completion_tokens": 9}},
        {"extra": {"messages": []}},
        {"extra": {"n": 2}},
        {"extra": {"body": object()}},
    ],
)
def test_settings_that_no_request_can_hold_are_refused(given):
    with pytest.raises(GraphError, match=next(iter(given))):
        ModelSettings(**given)


@pytest.mark.parametrize("models", [(), (3,), ("strong", None)])
def test_a_fallback_is_made_of_models(models):
    with pytest.raises(GraphError, match="Fallback"):
        Fallback(*models)


async def test_a_request_holds_the_settings_and_the_short_forms():
    model = ScriptedModel(["yes"])
    settings = ModelSettings(top_p=0.5, seed=7, stop="END", extra={"top_k": 3}, max_tokens=9)
    await Agent("a", model=model, settings=settings, temperature=0.2).run("well?")
    (request,) = model.requests
    assert (request.max_tokens, request.temperature) == (9, 0.2)
    assert request.parameters == {"top_p": 0.5, "seed": 7, "stop": ["END"], "top_k": 3}


async def test_an_endpoint_gets_the_settings_in_the_body():
    bodies = []

    class Keeping(Saying):
        def complete(self, body):
            bodies.append(body)
            return super().complete(body)

    with Keeping(delay=0.0) as endpoint:
        model = OpenAIModel("big", base_url=endpoint.url)
        settings = ModelSettings(reasoning_effort="low", presence_penalty=1, extra={"user": "u"})
        await Agent("a", model=model, settings=settings).run("well?")
    (body,) = bodies
    assert (body["reasoning_effort"], body["presence_penalty"], body["user"]) == ("low", 1, "u")


def test_an_agent_is_another_one_with_other_settings_or_models():
    definitions = {
        Agent("a", model=model, settings=settings).definition()
        for model in ("strong", "cheap", Fallback("strong", "cheap"))
        for settings in (None, ModelSettings(seed=1), ModelSettings(seed=2))
    }
    assert len(definitions) == 9


@pytest.mark.parametrize(
    ("given", "default"),
    [
        ({"model": "strong"}, NAMED["strong"]),
        ({"model": "x.gguf"}, NamedModel(model="x.gguf")),
        ({}, NamedModel()),
        (
            {"model": "strong", "base_url": "http://a/v1", "api_key": "k"},
            NamedModel("http://a/v1", "strong", api_key="k"),
        ),
    ],
)
def test_the_default_model_is_a_name_only_where_no_endpoint_is_set(given, default):
    assert Settings(**given, models=NAMED).default == default
