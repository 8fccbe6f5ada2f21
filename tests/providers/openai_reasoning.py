"""OpenAI's chat completions, as of a model that reasons (o-series, GPT-5)."""

from tests.providers import mind
from tests.providers.mind import Said
from tests.providers.openai_chat import OpenAIChat
from tests.providers.server import Body, Refused

_NONE_BUT_DEFAULT = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


class OpenAIReasoning(OpenAIChat):
    name = "openai-reasoning"

    def check(self, body: Body) -> None:
        if "max_tokens" in body:
            raise Refused(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
                param="max_tokens",
                code="unsupported_parameter",
            )
        for name in _NONE_BUT_DEFAULT:
            if body.get(name, 1) != 1:
                raise Refused(
                    f"Unsupported value: '{name}' does not support {body[name]} with this model. "
                    "Only the default (1) value is supported.",
                    param=name,
                    code="unsupported_value",
                )
        super().check(body)

    def reasoning_tokens(self, said: Said) -> int:
        return mind.THOUGHT
