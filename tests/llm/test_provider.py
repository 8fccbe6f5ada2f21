"""Who computes, by the names of OpenTelemetry's conventions."""

import pytest

from crew.llm import provider_of
from crew.llm.client import OpenAIModel
from crew.llm.embedded import EmbeddedModel
from crew.llm.provider import provider_at
from crew.testing import ScriptedModel
from tests.llm.test_client import ASK

KNOWN = {
    "https://api.openai.com/v1": "openai",
    "https://mine.openai.azure.com/openai/v1": "azure.ai.openai",
    "https://api.anthropic.com/v1/": "anthropic",
    "https://generativelanguage.googleapis.com/v1beta/openai": "gcp.gemini",
    "https://europe-west4-aiplatform.googleapis.com/v1": "gcp.vertex_ai",
    "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1": "aws.bedrock",
    "https://api.mistral.ai/v1": "mistral_ai",
    "http://localhost:11434/v1": "openai",
}


@pytest.mark.parametrize(("url", "provider"), KNOWN.items())
def test_host_tells_who_provides(url, provider):
    assert provider_at(url, "") == provider


@pytest.mark.parametrize(
    ("owner", "provider"), [("vllm", "vllm"), ("crew", "llama.cpp"), ("somebody", "openai")]
)
async def test_endpoint_is_known_by_its_models_owner_once_it_was_asked(
    endpoint, says, owner, provider
):
    endpoint.owner, endpoint.answers = owner, [says("Hi.")]
    model = OpenAIModel("big-1", base_url=endpoint.base_url)
    before = provider_of(model)
    await model.complete(ASK, on_text=lambda _: None)
    await model.close()
    assert (before, provider_of(model)) == ("openai", provider)


def test_model_in_this_process_is_its_engines():
    assert provider_of(EmbeddedModel()) == "llama.cpp"


def test_model_of_somebodys_own_need_not_say():
    assert provider_of(ScriptedModel()) == ""
