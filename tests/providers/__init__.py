"""Strict fakes of six providers of models: each refuses what the real one refuses.

They import nothing of the project. `README.md` says where each dialect is known from.
"""

from tests.providers.gemini import Gemini
from tests.providers.llamacpp import LlamaCpp
from tests.providers.ollama import Ollama
from tests.providers.openai_chat import OpenAIChat
from tests.providers.openai_reasoning import OpenAIReasoning
from tests.providers.server import Provider
from tests.providers.vllm import VLLM

__all__ = [
    "ALL",
    "VLLM",
    "Gemini",
    "LlamaCpp",
    "Ollama",
    "OpenAIChat",
    "OpenAIReasoning",
    "Provider",
]

ALL = (OpenAIChat, OpenAIReasoning, VLLM, LlamaCpp, Ollama, Gemini)
