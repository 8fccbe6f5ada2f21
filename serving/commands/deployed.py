"""`crew serve --ray`: the endpoint as an application of Ray Serve, while the command runs."""

import asyncio
import signal
from typing import Any

from crew.errors import CrewError, InputInvalid, SettingsInvalid
from serving.app import bind_app
from serving.commands.opening import on_cluster, prepare_weights, with_deployment
from serving.commands.screen import working
from serving.commands.server import Served
from serving.gallery import by_name, load_workflows

__all__ = ["APP_NAME", "serve_on_ray"]

APP_NAME = "crew"


async def serve_on_ray(what: Served, *, replicas: int, reload: bool) -> int:
    """Deploy the endpoint, wait for Ctrl-C or SIGTERM, and remove it again.

    Args:
        what: is served, at its host and port; a Serve that runs already must listen there.
        replicas: how many serve; all on the store that the settings name.
        reload: no way to serve here.

    Raises:
        InputInvalid: it was to be served anew when files change, or from a store in memory.
        SettingsInvalid: Serve runs already, at another address.
        CrewError: the application did not come up.
    """
    _check(what, reload)
    workflows = [workflow for spec in what.specs for workflow in load_workflows(spec)]
    console, settings = what.console, what.settings
    if not settings.default.base_url:
        await prepare_weights(settings, console)
    async with on_cluster(settings, console):
        stopped = _stopped_by_signal()  # only now: Ray sets its own handlers as it is joined
        await asyncio.to_thread(_start, what)
        if settings.agents == "ray" and not settings.default.base_url:
            async with working(console, "Ray Serve: deploying the language model"):
                settings = await with_deployment(settings, what.port, what.host)
        application = bind_app(
            workflows,
            settings=settings,
            input_defaults=what.input_defaults,
            keys=what.keys,
            cors=what.cors,
            progress=what.progress,
            num_replicas=replicas,
            mcp=what.mcp,
        )
        async with working(console, "Ray Serve: deploying the endpoint"):
            url = await asyncio.to_thread(_deploy, application)
        try:
            what.announce(url, list(by_name(workflows)))
            await stopped.wait()
            console.print("stopping; runs under way can be resumed")
        finally:
            await asyncio.to_thread(_remove)
    return 0


def _check(what: Served, reload: bool) -> None:
    if reload:
        raise InputInvalid(message="--reload serves from this process; leave --ray out")
    if what.settings.store == ":memory:":
        raise InputInvalid(
            message="a store in memory cannot be shared by replicas; give --store sqlite:///path"
        )


def _stopped_by_signal() -> asyncio.Event:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped


def _start(what: Served) -> None:
    from serving.listening import listen
    from serving.llm.deployment import served_at, start_serve

    if not _runs():
        listen(what.host, what.port).close()  # Serve's own error would not say what to do
    start_serve(what.host, what.port)
    if what.port and served_at().rpartition(":")[2] != str(what.port):
        raise SettingsInvalid(
            message=f"Ray Serve runs in this cluster already, at {served_at()}; give its --port"
        )


def _runs() -> bool:
    from ray import serve

    return bool(serve.status().proxies)


def _deploy(application: Any) -> str:
    from ray import serve

    from serving.llm.deployment import served_at

    quiet = {"log_level": "ERROR", "enable_access_log": False}
    try:
        serve.run(application, name=APP_NAME, route_prefix="/", logging_config=quiet)
    except RuntimeError as error:
        serve.delete(APP_NAME)
        raise CrewError(message=f"the endpoint did not start on Ray Serve: {error}") from error
    return f"{served_at()}/v1"


def _remove() -> None:
    from ray import serve

    serve.delete(APP_NAME)
