"""Pages of other origins that may call, and what their browsers are told (CORS)."""

from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from crew.errors import SettingsInvalid

__all__ = ["ANY", "cors_for", "read_origins"]

ANY = "*"
_PORTS = {"http": 80, "https": 443}
_EXPOSED = ("X-Run-Id", "X-Thread-Id", "X-Crew-Note", "Retry-After", "X-Should-Retry")
"""Headers of answers that a page may read."""


def read_origins(given: Sequence[str], keys: Collection[object]) -> tuple[str, ...]:
    """Return origins as browsers write them.

    Raises:
        SettingsInvalid: one of them is none; or it is `*`, and no key is needed.
    """
    return tuple(_read(origin, keys) for origin in given)


def _read(origin: str, keys: Collection[object]) -> str:
    if origin == ANY:
        if keys:
            return ANY
        raise SettingsInvalid(
            message="--cors '*' lets any page that is open in a browser here run workflows, so it "
            "needs a key (--api-key, --keys); or name the origins"
        )
    try:
        url = urlsplit(origin.strip().lower())
        host, port = url.hostname or "", url.port
    except ValueError:
        url, host, port = urlsplit(""), "", None
    if not (url.scheme and host) or url.path not in ("", "/") or url.query or url.username:
        raise SettingsInvalid(
            message=f"--cors {origin!r:.99} is no origin; write it as https://chat.example.com, "
            "with its port if it has one"
        )
    host = f"[{host}]" if ":" in host else host
    has_port = port is not None and port != _PORTS.get(url.scheme)
    return f"{url.scheme}://{host}{f':{port}' if has_port else ''}"


def cors_for(origins: Collection[str]) -> list[Middleware]:
    """Return what answers a browser that asks for a page of these origins; nothing for none."""
    if not origins:
        return []
    options: dict[str, Any] = {
        "allow_origins": tuple(origins),
        "allow_methods": ("GET", "POST", "DELETE"),
        "allow_headers": (ANY,),
        "allow_credentials": ANY not in origins,
        "allow_private_network": True,
        "expose_headers": _EXPOSED,
    }
    return [Middleware(CORSMiddleware, **options)]
