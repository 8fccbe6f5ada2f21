"""`crew serve`: the endpoint, its runtime, and the beacon by which other commands find it."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from crew.config import Settings
from crew.telemetry.setup import configure
from serving import beacon
from serving.app import create_app, need_extra, serve_http
from serving.auth import check_exposure
from serving.gallery import load_workflows
from serving.http import listen
from serving.keys import Key, default_keys, load_keys
from serving.opening import absolute, opened
from serving.output import notes, results, show_json


async def serve_workflows(
    specs: list[str],
    settings: Settings,
    host: str,
    port: int,
    api_keys: list[str],
    keys_file: Path | None,
    *,
    as_json: bool,
) -> int:
    """Serve until Ctrl-C or SIGTERM; runs that are under way stay resumable."""
    results()
    keys = [*default_keys(api_keys), *(load_keys(keys_file) if keys_file else ())]
    check_exposure(host, keys)
    need_extra()
    configure(settings)
    listener = listen(host, port)
    console = notes(quiet=as_json)
    settings = absolute(settings)
    workflows = [workflow for spec in specs for workflow in load_workflows(spec)]
    defaults = {"docs": str(Path(settings.docs))} if settings.docs else {}
    async with opened(settings, workflows, console, alone=True) as runtime:
        application = create_app(
            runtime, workflows, settings=settings, input_defaults=defaults, keys=keys
        )
        with ExitStack() as stack:

            def ready(url: str) -> None:
                codes = {workflow.name: workflow.code_hash() for workflow in workflows}
                stack.enter_context(
                    beacon.lit(settings.store, beacon.Beacon(os.getpid(), url, codes))
                )
                if as_json:
                    show_json({"url": url, "models": list(codes), "pid": os.getpid()})
                console.print(_welcome(url, list(codes), keys))

            await serve_http(application, host, api_keys=keys, listener=listener, on_ready=ready)
        console.print("stopping; runs under way can be resumed")
    return 0


def _welcome(url: str, names: list[str], keys: Sequence[Key]) -> str:
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
