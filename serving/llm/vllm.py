"""vLLM through `ray.serve.llm`, from our settings."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crew.errors import ExtraMissing
from serving.llm.settings import LLMSettings

__all__ = ["build_vllm", "builder_config"]

_ROUTERS = {
    "session": "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter",
    "prefix": "ray.serve.llm.request_router:PrefixCacheAffinityRouter",
}
_ON_CPUS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""GiB for the cache, where vLLM would take half of the memory; threads on any core."""


def build_vllm(settings: LLMSettings, *, name: str) -> Any:
    """Make the Serve application.

    Raises:
        ExtraMissing: vLLM is not installed.
    """
    logging.getLogger("vllm").setLevel(logging.ERROR)
    with _logging_kept():
        try:
            # Fails without vLLM; takes seconds with it.
            from ray.serve.llm import build_openai_app
        except ImportError as error:
            raise ExtraMissing(message="engine 'vllm'", extra="gpu") from error
        config = builder_config(settings, name=name)
        return build_openai_app(config | {"ingress_cls_config": {"ingress_cls": _ingress()}})


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Give the root logger back as it was: on import, Ray's package takes it for its own."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _ingress() -> Any:
    """Ray's ingress, but it lists its models as vLLM does: owned by "vllm".

    Ray names no engine there, and a client has to know whether it may send what vLLM alone
    understands. The class is local, so that it travels by value: nodes need nothing of ours.
    """
    from ray.serve.llm.ingress import OpenAiIngress

    class Ingress(OpenAiIngress):
        def __init__(
            self, llm_deployments: dict[str, Any], model_cards: dict[str, Any], **others: Any
        ) -> None:
            owned = {
                name: card.model_copy(update={"owned_by": "vllm"})
                for name, card in model_cards.items()
            }
            super().__init__(llm_deployments, owned, **others)

    return Ingress


def builder_config(settings: LLMSettings, *, name: str) -> dict[str, Any]:
    """What `build_openai_app` is given.

    Its defaults are for benchmarks on an empty cluster: a billion requests at once, and tokens
    held back for 50 ms to be sent together. Both are set here.

    Args:
        settings: with engine `vllm`.
        name: of the ingress deployment.
    """
    limits = {
        "max_ongoing_requests": settings.max_ongoing_requests,
        "max_queued_requests": settings.max_queued_requests,
    }
    return {
        "llm_configs": [_llm_config(settings, limits)],
        # The ingress only passes on: it holds the requests of all replicas.
        "ingress_deployment_config": {
            "name": name,
            **limits,
            "max_ongoing_requests": settings.max_ongoing_requests * _most_replicas(settings),
            "autoscaling_config": {
                "min_replicas": 1,
                "max_replicas": _most_replicas(settings),
                "target_ongoing_requests": settings.max_ongoing_requests,
            },
        },
    }


def _llm_config(settings: LLMSettings, limits: dict[str, int]) -> dict[str, Any]:
    deployment: dict[str, Any] = {
        **limits,
        **_scale(settings),
        "ray_actor_options": {"num_cpus": settings.num_cpus},
    }
    if router := _ROUTERS.get(settings.router):
        deployment["request_router_config"] = {"request_router_class": router}
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": settings.model_id, "model_source": settings.model},
        "deployment_config": deployment,
        "engine_kwargs": _engine_arguments(settings),
        "experimental_configs": {"stream_batching_interval_ms": 0},
    }
    if settings.accelerator_type:
        config["accelerator_type"] = settings.accelerator_type
    environment = dict(settings.environment)
    if settings.num_gpus == 0:
        config["placement_group_config"] = {"bundles": [{"CPU": 1}]}
        environment = _ON_CPUS | environment
    if environment:
        config["runtime_env"] = {"env_vars": environment}
    return config


def _engine_arguments(settings: LLMSettings) -> dict[str, Any]:
    return {
        "max_model_len": settings.context_tokens,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "enable_prefix_caching": True,
        "enable_auto_tool_choice": True,
        "tool_call_parser": settings.tool_parser,
        "enable_prompt_tokens_details": True,  # else nobody learns what the cache saved
        **settings.engine_options,
    }


def _scale(settings: LLMSettings) -> dict[str, Any]:
    if _most_replicas(settings) == settings.num_replicas:
        return {"num_replicas": settings.num_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": settings.num_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.max_ongoing_requests,
        }
    }


def _most_replicas(settings: LLMSettings) -> int:
    return settings.max_replicas or settings.num_replicas
