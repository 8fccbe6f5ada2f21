"""`crew models`: the models that agents can ask for by name, and the one they ask without."""

from dataclasses import asdict
from typing import Any

from crew.config import NamedModel, Settings
from serving.commands.output import notes, show, show_json

_COLUMNS = ("name", "model", "endpoint", "context", "output", "price in/out", "per second", "key")


def show_models(settings: Settings, *, as_json: bool) -> None:
    """List what `crew.toml` names, and the default; asks no endpoint."""
    if as_json:
        show_json({"default": _default(settings), "models": _listed(settings)})
        return
    rows = [_COLUMNS, *(_row(name, named) for name, named in sorted(settings.models.items()))]
    if settings.models:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            show("  ".join(map(str.ljust, row, widths)).rstrip())
    else:
        notes().print(
            "crew.toml names no models; write [models.strong] there, with base_url and model",
            markup=False,
        )
    notes().print(f"agents without a model ask {_said(**_default(settings))}", markup=False)


def _default(settings: Settings) -> dict[str, str]:
    default = settings.default
    is_named = default is settings.models.get(settings.model)
    name = settings.model if is_named else ""
    return {"name": name, "model": default.model, "base_url": default.base_url}


def _said(name: str, model: str, base_url: str) -> str:
    if name:
        return f"{name!r}"
    where = base_url or "the embedded engine"
    return f"{model} at {where}" if model else where


def _listed(settings: Settings) -> list[dict[str, Any]]:
    return [
        {"name": name, **_facts(named), "has_key": _has_key(named)}
        for name, named in sorted(settings.models.items())
    ]


def _facts(named: NamedModel) -> dict[str, Any]:
    return {key: value for key, value in asdict(named).items() if key != "api_key"}


def _has_key(named: NamedModel) -> bool:
    return not named.api_key_env or bool(named.api_key)


def _row(name: str, named: NamedModel) -> tuple[str, ...]:
    key = named.api_key_env or "none needed"
    return (
        name,
        named.model or "its first",
        named.base_url or "embedded",
        _text(named.context_window),
        _text(named.max_output),
        f"{_text(named.price_in)} / {_text(named.price_out)}",
        _text(named.requests_per_second),
        key if _has_key(named) else f"{key} is not set",
    )


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
