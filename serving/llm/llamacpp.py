"""The embedded engine behind OpenAI's routes, one per Serve replica."""

from pathlib import Path
from typing import Any

from serving.llm import replica
from serving.llm.settings import LLMSettings
from serving.pinned import travel_by_value

__all__ = ["build_llamacpp"]


def build_llamacpp(settings: LLMSettings, *, name: str) -> Any:
    """Make the Serve application."""
    from ray import serve

    travel_by_value(replica)
    deployment: Any = serve.deployment(
        serve.ingress()(replica.LlamaCppReplica),
        name=name,
        max_ongoing_requests=settings.max_ongoing_requests,
        max_queued_requests=settings.max_queued_requests,
        ray_actor_options={"num_cpus": settings.num_cpus, "num_gpus": settings.num_gpus or 0},
        health_check_period_s=1,
        health_check_timeout_s=30,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=5,
        request_router_config=_router(settings),
        **_scale(settings),
    )
    return deployment.bind(
        model=_from_anywhere(settings.model),
        model_id=settings.model_id,
        context_tokens=settings.context_tokens,
        parallel=settings.parallel,
    )


def _from_anywhere(model: str) -> str:
    """A file's path made absolute: a replica has another working directory."""
    path = Path(model).expanduser()
    return str(path.resolve()) if model and path.is_file() else model


def _router(settings: LLMSettings) -> Any:
    from ray.serve.config import RequestRouterConfig

    if settings.router == "balanced":
        return RequestRouterConfig()
    sticky = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
    return RequestRouterConfig.model_validate({"request_router_class": sticky})


def _scale(settings: LLMSettings) -> dict[str, Any]:
    if settings.max_replicas in (None, settings.num_replicas):
        return {"num_replicas": settings.num_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": settings.num_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.parallel,
        }
    }
