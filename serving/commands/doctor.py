"""`crew doctor`: what is in force on this machine, and whether it works."""

import asyncio
import os
import platform
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from crew.config import NamedModel, Settings
from crew.errors import CrewError, SandboxUnavailable
from crew.journal import RunRow
from crew.llm import Model
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
        *_store(settings),
        await _model(settings),
        *(await _named_models(settings)),
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


def _store(settings: Settings) -> list[Finding]:
    """Look at the store, and at its runs whose code nobody has loaded who takes runs of it."""
    from crew.journal.opening import open_store
    from crew.run.loaded import LoadedCode

    try:
        store = open_store(settings.store)
    except CrewError as error:
        return [Finding("store", settings.store, ok=False, advice=str(error))]
    with closing(store):
        open_runs = len(store.runs(status=("running", "waiting")))
        waiting = LoadedCode(store, "doctor", list).waiting()
    return [Finding("store", f"{settings.store}, {open_runs} runs open"), *map(_unloaded, waiting)]


def _unloaded(row: RunRow) -> Finding:
    what = f"run {row.id} waits for workflow {row.workflow!r} version {row.version}"
    command = f"crew serve FILE.py, or: crew resume {row.id} --workflow FILE.py"
    return Finding("waiting", f"{what}, which nobody has loaded", advice=f"go on with: {command}")


async def _model(settings: Settings) -> Finding:
    if settings.default is settings.models.get(settings.model):
        return Finding("model", f"{settings.model!r} of crew.toml")
    if not settings.base_url:
        from crew.llm.weights import default_weights_path

        if settings.model:
            return Finding("model", f"embedded engine with {settings.model}")
        path = default_weights_path()
        where = str(path) if path else "not fetched yet: crew models pull"
        return Finding("model", f"embedded SmolLM2-135M, a toy ({where})")
    from crew.llm.choice import default_model

    return await _asked("model", default_model(settings, will_close=True), settings.model)


async def _named_models(settings: Settings) -> list[Finding]:
    """Ask each endpoint of crew.toml whether it has the model that is named there."""
    found = (_named_model(*each) for each in sorted(settings.models.items()))
    return list(await asyncio.gather(*found))


async def _named_model(name: str, named: NamedModel) -> Finding:
    from crew.llm.choice import named_model

    if not named.base_url:
        return Finding(name, f"embedded engine with {named.model or 'SmolLM2-135M, a toy'}")
    try:
        model = named_model(name, named, will_close=True)
    except CrewError as error:
        return Finding(name, named.base_url, ok=False, advice=str(error))
    return await _asked(name, model, named.model)


async def _asked(name: str, model: Model, wanted: str) -> Finding:
    """Ask an endpoint for the models it offers; never calls one."""
    from crew.llm.client import OpenAIModel

    assert isinstance(model, OpenAIModel)
    try:
        names = await model.models()
    except CrewError as error:
        return Finding(name, model.base_url, ok=False, advice=str(error))
    finally:
        await model.close()
    if wanted and wanted not in names:
        advice = f"{wanted} is not there; there are: {names}"
        return Finding(name, f"{wanted} at {model.base_url}", ok=False, advice=advice)
    return Finding(name, f"{wanted or next(iter(names), 'no model')} at {model.base_url}")


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
