"""Settings of the LLM deployment: which engine, which model, how much of the machine."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crew.errors import SettingsInvalid

__all__ = ["LLMSettings", "read_settings"]

_VLLM_ALONE = ("accelerator_type", "tool_parser", "tensor_parallel_size", "environment")


class LLMSettings(BaseModel):
    """One model behind one engine. The defaults fit a laptop of two cores without a GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["llamacpp", "vllm"] = "llamacpp"
    model: str = ""
    """llamacpp: a GGUF file or a name, empty for the embedded weights. vllm: a repository's name
    or a folder."""
    served_name: str = ""
    """The model's id on the OpenAI routes; empty for the last part of `model`."""
    num_replicas: int = Field(1, ge=1)
    max_replicas: int | None = Field(None, ge=1)
    """Above `num_replicas`: replicas are added while more than `max_ongoing_requests` wait."""
    max_ongoing_requests: int = Field(32, ge=1)
    """Requests one replica works on; the engine batches them."""
    max_queued_requests: int = Field(256, ge=0)
    """Requests that wait in one proxy; more are answered 503. In a burst this is the capacity."""
    num_cpus: float = Field(0.5, ge=0)
    """What a replica reserves, not what it may use: on two cores hosts of agents need CPUs too."""
    num_gpus: float | None = Field(None, ge=0)
    """None: what the engine needs, which is none for llamacpp. 0 for vllm: computed on CPUs."""
    context_tokens: int = Field(4096, ge=256)
    """Tokens one request may hold, prompt and answer."""
    parallel: int = Field(4, ge=1)
    """llamacpp: requests computed at once, each with `context_tokens` of its own."""
    router: Literal["session", "prefix", "balanced"] = "session"
    """Which replica gets a request: the one of its `x-session-id`, the one that holds its prefix
    (vllm), or the one with less to do."""
    accelerator_type: str = ""
    """vllm: Ray's name of the GPU, such as L4; empty for any."""
    tool_parser: str = "hermes"
    """vllm: how the model writes its tool calls."""
    tensor_parallel_size: int = Field(1, ge=1)
    """vllm: GPUs of one replica."""
    engine_options: dict[str, Any] = Field(default_factory=dict)
    """vllm: passed on as engine arguments; they win over ours."""
    environment: dict[str, str] = Field(default_factory=dict)
    """vllm: variables of the engine's processes, such as HF_HOME; they win over ours."""

    @model_validator(mode="after")
    def _fits_engine(self) -> Self:
        if self.engine == "vllm" and not self.model:
            raise ValueError("engine 'vllm' needs a model, such as model = 'Qwen/Qwen3.5-4B'")
        if self.engine == "llamacpp":
            given = [name for name in (*_VLLM_ALONE, "engine_options") if self._was_given(name)]
            if given:
                raise ValueError(f"{given[0]} is a setting of engine 'vllm', not of 'llamacpp'")
            if self.router == "prefix":
                raise ValueError("router 'prefix' needs engine 'vllm'; use 'session'")
        if self.max_replicas is not None and self.max_replicas < self.num_replicas:
            raise ValueError("max_replicas must not be below num_replicas")
        return self

    def _was_given(self, name: str) -> bool:
        return name in self.model_fields_set

    @property
    def model_id(self) -> str:
        """The id under which the model is listed and called."""
        return self.served_name or PurePath(self.model).name.removesuffix(".gguf") or "embedded"

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that change with any setting."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_settings(values: Mapping[str, object]) -> LLMSettings:
    """Check settings that came from a file or a command line.

    Raises:
        SettingsInvalid: a key is unknown or a value does not fit; the message names it.
    """
    try:
        return LLMSettings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SettingsInvalid(message=_sentence(key, first["type"], first["msg"])) from error


def _sentence(key: str, kind: str, message: str) -> str:
    if kind != "extra_forbidden":
        message = message.removeprefix("Value error, ")
        return f"LLM deployment: {f'{key}: ' if key else ''}{message}"
    near = difflib.get_close_matches(key, LLMSettings.model_fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(LLMSettings.model_fields)}"
    return f"LLM deployment: unknown setting {key!r}; {hint}"
