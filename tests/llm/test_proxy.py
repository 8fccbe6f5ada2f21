"""An endpoint on this machine where the environment names a proxy, and one beyond it."""

import pytest

from crew.errors import ModelError
from crew.llm import ModelRequest
from crew.llm.client import OpenAIModel
from crew.llm.proxy import is_on_this_machine, proxy_to
from crew.message import Message
from tests.llm.conftest import said

ASK = ModelRequest((Message("user", "Hello?"),))
NOWHERE = "http://user:secret@127.0.0.1:9"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("by_aiohttp", [False, True], ids=["httpx2", "aiohttp"])
async def test_endpoint_on_this_machine_is_asked_without_a_proxy(
    endpoint, monkeypatch, variable, by_aiohttp
):
    monkeypatch.setenv(variable, NOWHERE)
    endpoint.answers = [said("hello")]
    model = OpenAIModel("big-1", base_url=endpoint.base_url, max_attempts=1, will_close=by_aiohttp)
    assert (await model.complete(ASK)).text == "hello"
    await model.close()


async def test_proxy_that_is_not_there_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    model = OpenAIModel("m", base_url="http://models.example/v1", max_attempts=1)
    with pytest.raises(ModelError, match=r"through the proxy http://…@127\.0\.0\.1:9") as caught:
        await model.complete(ASK)
    assert "secret" not in str(caught.value)
    await model.close()


def test_proxy_is_that_of_the_variables(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_to("http://models.example/v1") == ""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_to("http://models.example/v1") == "http://proxy:3128"
    assert proxy_to("http://inside.example:8000/v1") == ""
    assert proxy_to("http://localhost:8000/v1") == ""


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.2/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://llm.localhost/v1", True),
        ("http://0.0.0.0:8000/v1", True),
        ("http://10.0.0.5/v1", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_what_is_on_this_machine(url, is_here):
    assert is_on_this_machine(url) is is_here
