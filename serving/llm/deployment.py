"""The Serve application "llm": built from settings, and left alone while they stay the same."""

import asyncio
import logging
import socket
from typing import Any

from crew.errors import ExtraMissing, ModelError
from serving.llm.settings import LLMSettings

__all__ = ["APP_NAME", "ROUTE", "build", "deploy", "served_at", "shutdown", "start_serve"]

APP_NAME = "llm"
ROUTE = "/llm"
"""Before OpenAI's routes: `/llm/v1/chat/completions`, `/llm/v1/models`."""

logger = logging.getLogger(__name__)


def build(settings: LLMSettings) -> Any:
    """Make the Serve application (`ray.serve.Application`) without deploying it.

    Its ingress is named after the settings' fingerprint, so a running cluster tells by itself
    which settings are in force.

    Raises:
        ExtraMissing: the engine, or Ray Serve, is not installed.
    """
    _need_serve()
    name = f"LLM-{settings.fingerprint}"
    if settings.engine == "vllm":
        from serving.llm.vllm import build_vllm

        return build_vllm(settings, name=name)
    from serving.llm.llamacpp import build_llamacpp

    return build_llamacpp(settings, name=name)


async def deploy(settings: LLMSettings, *, host: str = "127.0.0.1", port: int = 0) -> str:
    """Make sure that the LLM deployment runs with these settings, and return its base URL.

    Needs a Ray that is initialised. Serve is started if it does not run. An application that
    runs with the same settings is left as it is, whoever deployed it.

    Args:
        settings: of the engine.
        host: the address that Serve's proxy listens on, if Serve is started here.
        port: its port; 0 takes a free one. Ignored, like `host`, if Serve runs already.

    Returns:
        The base URL for an OpenAI client, ending in `/v1`.

    Raises:
        ExtraMissing: the engine, or Ray Serve, is not installed.
        ModelError: the application did not come up; the message has the cause Serve gave.
    """
    _need_serve()
    return await asyncio.to_thread(_deploy, settings, host, port)


async def shutdown() -> None:
    """Remove the application; others on the same Serve go on. Nothing happens without one."""
    _need_serve()
    await asyncio.to_thread(_shutdown)


def _need_serve() -> None:
    try:
        from ray import serve  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(message="the LLM deployment", extra="serve") from error


def _deploy(settings: LLMSettings, host: str, port: int) -> str:
    from ray import serve

    _forget_other_clusters()
    if _runs(settings):
        return served_at() + f"{ROUTE}/v1"
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    application = build(settings)  # before anything starts: it may be refused
    start_serve(host, port)
    is_first = APP_NAME not in serve.status().applications
    try:
        serve.run(application, name=APP_NAME, route_prefix=ROUTE, logging_config=_quiet())
    except RuntimeError as error:
        message = _why_not(settings, error)
        if is_first:  # Serve would go on trying; one that served before is its operator's to judge
            serve.delete(APP_NAME)
        raise ModelError(message=message, endpoint=APP_NAME) from error
    logger.info("llm.deployed", extra={"engine": settings.engine, "model": settings.model_id})
    return served_at() + f"{ROUTE}/v1"


def _shutdown() -> None:
    from ray import serve

    _forget_other_clusters()
    if APP_NAME in serve.status().applications:
        serve.delete(APP_NAME)


def _forget_other_clusters() -> None:
    """Drop Serve's cached controller if it belongs to a cluster that this process has left.

    Serve tells sessions apart by their job's id, and every local cluster begins with the same one.
    """
    import ray
    from ray.serve import context

    client = context._global_client  # noqa: SLF001  Serve has no public way to forget it
    if client is None:
        return
    try:
        ray.get(client._controller.check_alive.remote(), timeout=5)  # noqa: SLF001
    except Exception:  # noqa: BLE001  Ray raises a bare one for an actor of another cluster
        context._disconnect()  # noqa: SLF001


def _runs(settings: LLMSettings) -> bool:
    from ray import serve

    application = serve.status().applications.get(APP_NAME)
    if application is None or application.status != "RUNNING":
        return False
    return f"LLM-{settings.fingerprint}" in application.deployments


def start_serve(host: str, port: int) -> None:
    """Start Serve, or join the one that runs: it then keeps its own address."""
    from ray import serve

    _forget_other_clusters()
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port or _free_port(host)},
        logging_config=_quiet(),
    )


def _quiet() -> dict[str, Any]:
    return {"log_level": "ERROR", "enable_access_log": False}


def _free_port(host: str) -> int:
    """A port that was free a moment ago; Serve cannot take one by itself."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def served_at() -> str:
    """Return where the running Serve listens, as seen from any node of the cluster."""
    import ray
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client is not None
    options = client.http_config
    host = options.host or "127.0.0.1"
    if host in ("0.0.0.0", "::"):  # noqa: S104 - not listened on, but looked up
        # The proxy on the head node is there in every placement.
        host = ray.get_runtime_context().gcs_address.rpartition(":")[0]
    return f"http://{f'[{host}]' if ':' in host else host}:{options.port}"


def _why_not(settings: LLMSettings, error: RuntimeError) -> str:
    """The last line of what Serve says of the replica: the error that ended its constructor."""
    from ray import serve

    application = serve.status().applications.get(APP_NAME)
    deployments = application.deployments.values() if application else ()
    messages = [deployment.message for deployment in deployments if deployment.message]
    cause = (messages or [str(error)])[0].strip().splitlines()[-1]
    return f"the {settings.engine} deployment of {settings.model_id!r} did not start: {cause}"
