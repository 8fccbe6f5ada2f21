"""Which model the settings mean, and what listens on this machine."""

import subprocess
import sys

import pytest

from crew.config import Settings
from crew.llm import Model
from crew.llm.choice import default_model
from crew.llm.client import OpenAIModel
from crew.llm.discovery import find_local_endpoints
from crew.llm.embedded import EmbeddedModel


def test_an_endpoint_is_used_where_one_is_set():
    model = default_model(
        Settings(base_url="http://127.0.0.1:9/v1", model="m", api_key="k"), will_close=False
    )
    assert isinstance(model, OpenAIModel)
    assert (model.name, model.base_url) == ("m", "http://127.0.0.1:9/v1")


def test_else_the_embedded_model():
    assert isinstance(default_model(Settings(), will_close=False), EmbeddedModel)
    assert default_model(Settings(model="/m/x.gguf"), will_close=False).name == "x"


@pytest.mark.parametrize("base_url", ["", "http://127.0.0.1:9/v1"])
def test_both_are_models(base_url):
    assert isinstance(default_model(Settings(base_url=base_url), will_close=False), Model)


def test_choosing_imports_nothing_heavy():
    code = (
        "import sys; from crew.config import Settings; from crew.llm.choice import default_model;"
        "default_model(Settings(), will_close=False);"
        "default_model(Settings(base_url='http://x/v1'), will_close=False);"
        "print({'openai', 'httpx2', 'xllamacpp', 'tenacity', 'ray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


async def test_a_server_that_lists_models_is_found_and_not_called(endpoint, closed_port):
    found = await find_local_endpoints(ports=[closed_port, endpoint.port])
    assert found == [(endpoint.base_url, "big-1")]
    assert str(found[0]) == f"{endpoint.base_url} (big-1)"
    assert endpoint.requests == []


async def test_a_server_of_another_kind_is_passed_over(endpoint):
    endpoint.models = []
    assert await find_local_endpoints(ports=[endpoint.port]) == []


async def test_a_silent_server_costs_no_more_than_the_timeout(silent_port):
    assert await find_local_endpoints(0.1, ports=[silent_port]) == []
