"""The chat endpoint as one ASGI app, and the ways to run it: plain uvicorn, or Ray Serve."""

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from crew.config import Settings
from crew.errors import ExtraMissing
from crew.graph import Workflow
from crew.run import Runtime
from serving.access.keys import Key, default_keys
from serving.access.limits import Counts, Limits, Tally
from serving.listening import serve_http

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from serving.http.operation import Operation
    from serving.metrics import Everyone

__all__ = ["bind_app", "create_app", "need_extra", "serve_http"]


def create_app(
    runtime: Runtime,
    workflows: Iterable[Workflow],
    *,
    settings: Settings,
    input_defaults: Mapping[str, object] | None = None,
    api_keys: Sequence[str] = (),
    keys: Sequence[Key] = (),
    heartbeat: float = 10.0,
    limits: Limits | None = None,
    counts: Counts | None = None,
    everyone: "Everyone | None" = None,
    mcp: bool = False,
    cors: Sequence[str] = (),
    progress: bool = True,
) -> "Starlette":
    """Make the app that serves `workflows` as models over the OpenAI API.

    Args:
        runtime: an opened `crew.Runtime`; it must outlive the app.
        workflows: their names are the models' ids.
        settings: those in force.
        input_defaults: values for fields of the workflows' inputs besides the text, such as
            `docs`; a workflow without such a field does not get it.
        api_keys: secrets with which the tenant `default` may be called for, without limits.
        keys: who else may call; see `serving.access.keys`. Without any key: this machine alone, see
            `serving.access.auth.check_exposure`.
        heartbeat: seconds of silence after which a stream says that it lives.
        limits: of the server, whoever calls.
        counts: where it is counted what keys use, if not in this process alone.
        everyone: where several processes serve, asks all of them what they have counted.
        mcp: whether workflows are tools of an MCP server, too, at `/mcp`.
        cors: origins of pages elsewhere that may call; `*` for all, which needs keys.
        progress: whether streams show what runs do before they answer.

    Raises:
        InputInvalid: two workflows have the same name.
        SettingsInvalid: one of `cors` is no origin.
        ExtraMissing: the extra `serve` is not installed, or `mcp` where that is asked for.
    """
    need_extra(mcp=mcp)
    from serving.access.auth import Access
    from serving.access.cors import read_origins
    from serving.access.door import Door
    from serving.gallery import by_name
    from serving.routes import make_app

    door = Door(
        runtime=runtime,
        workflows=by_name(workflows),
        settings=settings,
        input_defaults=input_defaults or {},
        heartbeat=heartbeat,
        limits=limits or Limits(),
        counts=counts or Tally(),
        progress=progress,
    )
    known = [*default_keys(api_keys), *keys]
    origins = read_origins(cors, known)
    more: list[Operation] = []
    if mcp:
        from serving.mcp import OPERATIONS

        more = OPERATIONS
    access = Access(known, origins=origins)
    return make_app(door, access, everyone, more, cors=origins)


def bind_app(
    workflows: Iterable[Workflow],
    *,
    settings: Settings,
    input_defaults: Mapping[str, object] | None = None,
    api_keys: Sequence[str] = (),
    keys: Sequence[Key] = (),
    cors: Sequence[str] = (),
    progress: bool = True,
    num_replicas: int = 1,
    max_ongoing_requests: int = 200,
    max_queued_requests: int = 400,
    mcp: bool = False,
) -> Any:
    """Make a Ray Serve application of the endpoint, for `serve.run(…, name="crew")`.

    Each replica opens a runtime on the store that `settings` name. On plain uvicorn a request
    costs a fraction; this is for clusters that route everything through Serve.

    Args:
        workflows: they travel by value; the replica need not find their files.
        settings: those in force.
        input_defaults: see `create_app`.
        api_keys: see `create_app`; they travel as hashes. Serve's proxy is not this app: on an
            address that other machines reach, give keys.
        keys: see `create_app`.
        cors: see `create_app`.
        progress: see `create_app`.
        num_replicas: more than one needs a store that several may write to.
        max_ongoing_requests: streams one replica holds.
        max_queued_requests: requests that wait in one proxy; more are answered 503.
        mcp: see `create_app`.

    Raises:
        ExtraMissing: the extra `serve` is not installed.
    """
    try:
        from ray import cloudpickle, serve
    except ImportError as error:
        raise ExtraMissing(message="the chat endpoint on Ray Serve", extra="serve") from error
    from serving import gallery, ingress
    from serving.pinned import travel_by_value

    travel_by_value(ingress, *gallery.loaded_modules())
    deployment: Any = serve.deployment(
        serve.ingress()(ingress.ChatIngress),
        num_replicas=num_replicas,
        max_ongoing_requests=max_ongoing_requests,
        max_queued_requests=max_queued_requests,
        ray_actor_options={"num_cpus": 0.5},
        graceful_shutdown_timeout_s=5,
    )
    return deployment.bind(
        workflows=cloudpickle.dumps(list(workflows)),
        settings=asdict(settings),
        input_defaults=dict(input_defaults or {}),
        keys=[key.model_dump() for key in (*default_keys(api_keys), *keys)],
        mcp=mcp,
        cors=list(cors),
        progress=progress,
    )


def need_extra(*, mcp: bool = False) -> None:
    """Raise ExtraMissing where the chat endpoint's packages are not installed."""
    if mcp and importlib.util.find_spec("mcp") is None:
        raise ExtraMissing(message="serving tools at /mcp", extra="mcp")
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExtraMissing(message="the chat endpoint", extra="serve") from error
