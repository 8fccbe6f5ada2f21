"""Who provides a model, by the names of OpenTelemetry's GenAI conventions.

Where one of their well-known names applies it has to be used; an engine that has none, such as
vLLM, goes by its own. `openai` is OpenAI, and whatever speaks its API and is not known better: the
conventions ask for the best knowledge, and know of proxies.

Source: open-telemetry/semantic-conventions-genai, `gen_ai.provider.name`.
"""

from urllib.parse import urlsplit

__all__ = ["LLAMACPP", "OPENAI", "provider_at"]

LLAMACPP = "llama.cpp"
OPENAI = "openai"

_ENGINES = {"vllm": "vllm", "llamacpp": LLAMACPP, "crew": LLAMACPP}
"""By who owns the models that an endpoint lists, as engines name themselves there."""

_HOSTS = {
    "api.anthropic.com": "anthropic",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.groq.com": "groq",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
}
"""By the host of an endpoint, or what its name ends in."""


def provider_at(base_url: str, owner: str) -> str:
    """Return who provides the models of an endpoint, as far as it is known.

    Args:
        base_url: of the endpoint.
        owner: of its models, as it lists them; empty if it was not asked.
    """
    host = urlsplit(base_url).hostname or ""
    if host.startswith("bedrock-runtime.") and host.endswith(".amazonaws.com"):
        return "aws.bedrock"
    for known, provider in _HOSTS.items():
        # A region stands before the name: with a dot, or at Vertex AI with a dash.
        if host == known or host.endswith((f".{known}", f"-{known}")):
            return provider
    return _ENGINES.get(owner, OPENAI)
