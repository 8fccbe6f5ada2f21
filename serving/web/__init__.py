"""The page at `/`: a chat with the workflows that are served, and a look into each run.

Its files are public, the API that it calls is not. It is plain HTML, CSS and ES modules, without a
build, and asks no other host for anything.
"""

import hashlib
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["PATHS", "ROUTES"]

_FOLDER = Path(__file__).parent
_FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "app.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "chat.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "graph.js": "text/javascript; charset=utf-8",
    "inbox.js": "text/javascript; charset=utf-8",
    "inspector.js": "text/javascript; charset=utf-8",
    "layout.js": "text/javascript; charset=utf-8",
    "markdown.js": "text/javascript; charset=utf-8",
    "run.js": "text/javascript; charset=utf-8",
    "threads.js": "text/javascript; charset=utf-8",
}
_POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect", "font")),
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept by the browser, and asked for by its tag
}


async def page(request: Request) -> Response:
    """The page, or one of its files."""
    name = request.url.path.rpartition("/web/")[2] if "/web/" in request.url.path else "index.html"
    content, tag = _content(name)
    headers = _HEADERS | {"ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_FILES[name], headers=headers)


@cache
def _content(name: str) -> tuple[bytes, str]:
    content = (_FOLDER / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


PATHS = frozenset({"/", *(f"/web/{name}" for name in _FILES if name != "index.html")})
"""Where the page and its files lie; no key is needed for them."""

ROUTES = [Route(path, page, methods=["GET"]) for path in sorted(PATHS)]
