"""`crew serve`: the endpoint, its runtime, and the beacon by which other commands find it."""

import os
import signal
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from crew.config import Settings
from crew.errors import InputInvalid
from crew.telemetry.setup import configure
from serving.access.auth import check_exposure
from serving.access.keys import Key, default_keys, load_keys
from serving.app import create_app, need_extra, serve_http
from serving.commands import beacon
from serving.commands.files import Files
from serving.commands.opening import absolute, opened
from serving.commands.output import notes, results, show_json
from serving.commands.shared import Parent, end_of_worker
from serving.commands.workers import Ready, Workers, announce_to_parent
from serving.gallery import by_name, load_workflows
from serving.listening import listen, url_of

__all__ = ["Served", "serve_alone", "serve_by_workers", "served"]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is served, where, and to whom.

    Args:
        specs: see `serving.gallery.load_workflow`.
        settings: those in force.
        host: an address; one that other machines reach needs keys.
        port: 0 for a free one.
        keys: of those who may call.
        cors: origins of pages elsewhere that may call.
        progress: whether streams show what runs do before they answer.
        as_json: print JSON alone.
        mcp: serve workflows as tools, too.
    """

    specs: Sequence[str]
    settings: Settings
    host: str
    port: int
    keys: Sequence[Key] = ()
    cors: Sequence[str] = ()
    progress: bool = True
    as_json: bool = False
    mcp: bool = False

    @property
    def console(self) -> Console:
        return notes(quiet=self.as_json)

    @property
    def input_defaults(self) -> dict[str, object]:
        return {"docs": str(Path(self.settings.docs).absolute())} if self.settings.docs else {}

    def announce(self, url: str, names: Sequence[str], **facts: object) -> None:
        """Say where it serves."""
        if self.mcp:
            facts["mcp"] = f"{url.removesuffix('v1')}mcp"
        if self.as_json:
            show_json({"url": url, "models": list(names), "pid": os.getpid(), **facts})
        self.console.print(_welcome(url, names, self.keys))
        if self.mcp:
            self.console.print(f"  tools for MCP clients: {facts['mcp']}")


def served(
    specs: Sequence[str],
    settings: Settings,
    host: str,
    port: int,
    api_keys: Sequence[str],
    keys_file: Path | None,
    *,
    cors: Sequence[str] = (),
    progress: bool = True,
    as_json: bool,
    mcp: bool = False,
) -> Served:
    """Check what a command line asks for.

    Raises:
        SettingsInvalid: other machines are served without a key, the file of keys is none, or
            something of `cors` is no origin.
        ExtraMissing: the extra `serve` is not installed, or `mcp` where that is asked for.
    """
    results()
    keys = [*default_keys(api_keys), *(load_keys(keys_file) if keys_file else ())]
    check_exposure(host, keys)
    need_extra(mcp=mcp)
    from serving.access.cors import read_origins

    return Served(
        specs=specs,
        settings=absolute(settings),
        host=host,
        port=port,
        keys=keys,
        cors=read_origins(cors, keys),
        progress=progress,
        as_json=as_json,
        mcp=mcp,
    )


async def serve_alone(what: Served, *, inherited: int | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; runs that are under way stay resumable.

    Args:
        what: is served.
        inherited: the listening socket, in a worker of `serve_by_workers`.
    """
    settings = what.settings
    configure(settings)
    parent: Parent | None = None
    if inherited is not None:
        parent = await Parent.joined(end_of_worker(), gone=_end)
        listener = socket.socket(fileno=inherited)
    else:
        listener = listen(what.host, what.port)
    workflows = [workflow for spec in what.specs for workflow in load_workflows(spec)]
    codes = {id: workflow.code_hash() for id, workflow in by_name(workflows).items()}  # noqa: A001
    console = notes(quiet=what.as_json or inherited is not None)
    async with opened(settings, workflows, console, alone=True) as runtime:
        application = create_app(
            runtime,
            workflows,
            settings=settings,
            input_defaults=what.input_defaults,
            keys=what.keys,
            counts=parent,
            everyone=None if parent is None else parent.everyone,
            mcp=what.mcp,
            cors=what.cors,
            progress=what.progress,
        )
        if parent is not None:
            parent.count = application.state.meter.counted
        with ExitStack() as stack:

            def ready(url: str) -> None:
                if parent is not None:
                    announce_to_parent(codes)
                    return
                shown = beacon.Beacon(os.getpid(), url, codes)
                stack.enter_context(beacon.lit(settings.store, shown))
                what.announce(url, list(codes))

            await serve_http(
                application, what.host, api_keys=what.keys, listener=listener, on_ready=ready
            )
        console.print("stopping; runs under way can be resumed")
    return 0


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def serve_by_workers(what: Served, words: Sequence[str], *, count: int, reload: bool) -> int:
    """Serve in processes of their own until Ctrl-C or SIGTERM; see `serving.commands.workers`.

    Args:
        what: is served.
        words: the command line, which each worker reads too.
        count: of processes.
        reload: whether they start anew when a file changes.

    Raises:
        InputInvalid: that many cannot serve this.
    """
    _check_shared(what.settings, count, reload)
    files = Files(what.specs) if reload else None
    listener = listen(what.host, what.port)
    url = url_of(listener)
    with ExitStack() as stack:

        def ready(found: Ready) -> None:
            stack.close()
            shown = beacon.Beacon(os.getpid(), url, found.codes)
            stack.enter_context(beacon.lit(what.settings.store, shown))
            what.announce(url, list(found.codes), workers=found.processes)

        workers = Workers(words, count, listener, files=files, on_ready=ready, console=what.console)
        status = await workers.run()
    what.console.print("stopped; runs under way can be resumed")
    return status


def _check_shared(settings: Settings, count: int, reload: bool) -> None:
    if reload and count > 1:
        raise InputInvalid(
            message="--reload is for writing a workflow, with one worker; leave --workers out"
        )
    if settings.store == ":memory:":
        raise InputInvalid(
            message="a store in memory cannot be shared by processes; give --store sqlite:///path"
        )
    if count > 1 and settings.agents == "ray" and not settings.ray_address:
        raise InputInvalid(
            message="each worker would start a cluster of its own; set CREW_RAY_ADDRESS"
        )


def _welcome(url: str, names: Sequence[str], keys: Sequence[Key]) -> str:
    body = f'{{"model": "{names[0]}", "messages": [{{"role": "user", "content": "…"}}]}}'
    secret = " -H 'Authorization: Bearer KEY'" if keys else ""
    return (
        f"serving {', '.join(names)} at {url}\n"
        f"  a page for people: {url.removesuffix('v1')}\n"
        f"  curl {url}/chat/completions{secret} -H 'Content-Type: application/json' -d '{body}'\n"
        f'  OpenAI(base_url="{url}", api_key="{"KEY" if keys else "none"}")\n'
        f"{_policy(keys)}; Ctrl-C ends it"
    )


def _policy(keys: Sequence[Key]) -> str:
    if not keys:
        return "no key is needed, from this machine only"
    tenants = sorted({key.tenant for key in keys})
    return f"a key is needed: {len(keys)} of {len(tenants)} tenants ({', '.join(tenants)})"
