"""`crew doctor`: what is in force on this machine, and whether it works."""

import os
import platform
import sqlite3
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from crew.config import Settings
from crew.errors import CrewError, SandboxUnavailable
from serving.commands import beacon
from serving.commands.opening import absolute
from serving.commands.output import notes, show, show_json


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` says what to do where it is not well."""

    name: str
    value: str
    ok: bool = True
    advice: str = ""


async def examine(settings: Settings, *, as_json: bool) -> int:
    """Print each finding; the exit status is 1 if something that is set does not work."""
    settings = absolute(settings)
    found = [
        _python(),
        *_packages(),
        _store(settings),
        await _model(settings),
        *(await _local_servers(settings)),
        _sandbox(),
        _server(settings),
    ]
    if as_json:
        show_json(
            [{"name": f.name, "value": f.value, "ok": f.ok, "advice": f.advice} for f in found]
        )
    else:
        for item in found:
            show(f"{'✓' if item.ok else '✗'} {item.name:<10} {item.value}")
            if item.advice:
                notes().print(f"             {item.advice}")
    return 0 if all(item.ok for item in found) else 1


def use_line(base_url: str, model: str) -> str:
    """Return the line that uses a server instead of the embedded model."""
    return f"use it with: CREW_BASE_URL={base_url} CREW_MODEL={model} crew ask …"


def _python() -> Finding:
    text = f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores"
    return Finding("python", text)


def _packages() -> list[Finding]:
    extras = {"ray": "ray", "serve": "uvicorn", "embedded": "xllamacpp"}
    found = []
    for extra, package in extras.items():
        try:
            found.append(Finding(extra, f"{package} {version(package)}"))
        except PackageNotFoundError:
            advice = f'pip install "raycrew[{extra}]" if you want it'
            found.append(Finding(extra, "not installed", advice=advice))
    return found


def _store(settings: Settings) -> Finding:
    from crew.journal.opening import open_store

    try:
        store = open_store(settings.store)
    except CrewError as error:
        return Finding("store", settings.store, ok=False, advice=str(error))
    open_runs = len(store.runs(status=("running", "waiting")))
    store.close()
    return Finding("store", f"{settings.store}, {open_runs} runs open")


async def _model(settings: Settings) -> Finding:
    if not settings.base_url:
        from crew.llm.weights import default_weights_path

        if settings.model:
            return Finding("model", f"embedded engine with {settings.model}")
        path = default_weights_path()
        where = str(path) if path else "not fetched yet: crew models pull"
        return Finding("model", f"embedded SmolLM2-135M, a toy ({where})")
    from crew.llm.choice import default_model
    from crew.llm.client import OpenAIModel

    model = default_model(settings, will_close=True)
    try:
        assert isinstance(model, OpenAIModel)
        names = await model.models()
    except CrewError as error:
        return Finding("model", settings.base_url, ok=False, advice=str(error))
    finally:
        await model.close()
    ok = not settings.model or settings.model in names
    advice = "" if ok else f"CREW_MODEL={settings.model} is not there; there are: {names}"
    return Finding("model", f"{settings.model or names[0]} at {settings.base_url}", ok, advice)


async def _local_servers(settings: Settings) -> list[Finding]:
    from crew.llm.discovery import find_local_endpoints

    return [
        Finding("found", f"a model server at {item}", advice=use_line(item.base_url, item.model))
        for item in await find_local_endpoints()
        if item.base_url != settings.base_url
    ]


def _sandbox() -> Finding:
    from crew.sandbox import open_sandbox

    try:
        return Finding("sandbox", open_sandbox().name)
    except SandboxUnavailable as error:
        return Finding("sandbox", "none: the python tool is not offered", advice=str(error))


def _server(settings: Settings) -> Finding:
    server = beacon.find(settings.store)
    if server is None:
        return Finding("server", "none runs on this store")
    return Finding("server", f"{server.url} (process {server.pid})")
