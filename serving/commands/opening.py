"""A runtime for a command: the model it needs, the cluster it runs on, the server it may use."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn
from rich.progress import Progress as Bar

from crew.config import Settings
from crew.errors import CrewError, ExtraMissing
from crew.graph import Workflow
from crew.run import Runtime
from serving.commands import beacon
from serving.commands.screen import working

SERVER_LOOK_SECONDS = 0.5


def reading(settings: Settings, *workflows: Workflow, tenant: str = "default") -> Runtime:
    """Return a runtime that drives nothing."""
    here = replace(absolute(settings), agents="local")
    return Runtime(workflows=workflows, settings=here, worker=False, tenant=tenant)


@asynccontextmanager
async def opened(
    settings: Settings,
    workflows: Sequence[Workflow],
    console: Console,
    *,
    alone: bool = False,
    takes_over: bool = True,
    fetches: bool = True,
    port: int = 0,
) -> AsyncIterator[Runtime]:
    """Open a runtime for a command.

    A `crew serve` that drives the same code on the same store is used: it has its model loaded and
    its hosts up. Else the model's weights, the cluster and the LLM deployment are made ready here.

    Args:
        settings: those in force.
        workflows: what the command starts.
        console: where it is said what is being made ready.
        alone: whether not to look for a server.
        takes_over: whether runs that others left are gone on with here; Ray's hosts always do.
        fetches: whether the embedded model's weights are fetched now, and not when first asked.
        port: of the LLM deployment on Serve; 0 for a free one.
    """
    settings = absolute(settings)
    server = None if alone else beacon.find(settings.store)
    if server is not None and all(map(server.drives, workflows)):
        console.print(f"using the running `crew serve` (process {server.pid}, {server.url})")
        here = replace(settings, agents="local")
        async with Runtime(workflows=workflows, settings=here, worker=False) as runtime:
            standing_in = asyncio.create_task(_stand_in(here, workflows, console))
            try:
                yield runtime
            finally:
                standing_in.cancel()
                await asyncio.wait({standing_in})
        return
    if fetches and not settings.default.base_url:
        await prepare_weights(settings, console)
    if settings.agents == "ray":
        async with _on_ray(settings, workflows, console, port) as runtime:
            yield runtime
        return
    async with Runtime(workflows=workflows, settings=settings, takes_over=takes_over) as runtime:
        yield runtime


async def _stand_in(settings: Settings, workflows: Sequence[Workflow], console: Console) -> None:
    """Wait until the server is gone, then drive its runs in this process, until cancelled."""
    while beacon.find(settings.store) is not None:  # noqa: ASYNC110  it is a file
        await asyncio.sleep(SERVER_LOOK_SECONDS)
    console.print("the server is gone; this command goes on with its runs")
    try:
        if not settings.default.base_url:
            await prepare_weights(settings, console)
        async with Runtime(workflows=workflows, settings=settings):
            await asyncio.Event().wait()
    except CrewError as error:
        console.print(
            f"it cannot: {error}\nnothing is lost; end this with Ctrl-C, then crew resume"
        )


@asynccontextmanager
async def _on_ray(
    settings: Settings, workflows: Sequence[Workflow], console: Console, port: int
) -> AsyncIterator[Runtime]:
    async with on_cluster(settings, console):
        if not settings.default.base_url:
            async with working(console, "Ray Serve: deploying the language model"):
                settings = await with_deployment(settings, port)
        async with working(console, "Ray: starting the host that drives the runs"):
            runtime = await Runtime(workflows=workflows, settings=settings).__aenter__()
        try:
            yield runtime
        finally:
            await runtime.__aexit__(*sys.exc_info())


@asynccontextmanager
async def on_cluster(settings: Settings, console: Console) -> AsyncIterator[None]:
    """Be in the cluster that the settings name, or in a quiet one of this machine."""
    from crew.hosts.cluster import connect, disconnect

    joining = f"joining {settings.ray_address}" if settings.ray_address else "starting a cluster"
    async with working(console, f"Ray: {joining}"):
        started = await asyncio.to_thread(connect, settings.ray_address)
    try:
        yield
    finally:
        if started:
            await asyncio.to_thread(disconnect)


async def with_deployment(settings: Settings, port: int, host: str = "127.0.0.1") -> Settings:
    """Deploy the embedded model on Ray Serve, and return the settings that name it."""
    from serving.llm.deployment import deploy
    from serving.llm.settings import LLMSettings

    engine = LLMSettings(model=settings.default.model)
    url = await deploy(engine, host=host, port=port)
    return replace(settings, base_url=url, model=engine.model_id)


async def prepare_weights(settings: Settings, console: Console) -> Path:
    """Make sure that the embedded model's weights are on this machine, with a bar while they come.

    Raises:
        ExtraMissing: the embedded engine is not installed.
        ModelError: the weights cannot be had; the message says what was tried.
    """
    from importlib.util import find_spec

    from crew.llm.weights import ensure_weights

    if find_spec("xllamacpp") is None:
        raise ExtraMissing(message="the embedded model", extra="embedded")
    bar = Bar(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=console)
    task = bar.add_task("model weights", total=None, visible=False)

    def show(done: int, total: int | None, text: str) -> None:
        bar.update(task, completed=done, total=total, description=text, visible=True)

    with bar:
        return await ensure_weights(settings.default.model, on_progress=show)


def absolute(settings: Settings) -> Settings:
    """Return the settings with paths that mean the same in every process of a cluster."""
    store, docs = settings.store, settings.docs
    if store.startswith("sqlite:///"):
        store = f"sqlite:///{Path(store.removeprefix('sqlite:///')).absolute()}"
    return replace(settings, store=store, docs=str(Path(docs).absolute()) if docs else "")
