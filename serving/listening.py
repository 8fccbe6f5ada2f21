"""The chat endpoint on plain uvicorn: one port, clear failures, an end without loose ends."""

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable, Collection
from types import FrameType
from typing import TYPE_CHECKING, Any

from crew.errors import SettingsInvalid
from serving.access.auth import check_exposure

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["fastest_loop", "listen", "serve_http", "url_of"]

DRAIN_SECONDS = 1.0
"""How long after SIGTERM new requests are still taken, so that a balancer is told by a 503."""
GRACE_SECONDS = 3
"""What an open request gets after that; streams end at once, their runs are the runtime's."""

logger = logging.getLogger(__name__)


async def serve_http(
    app: "Starlette",
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    api_keys: Collection[object] = (),
    listener: socket.socket | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the app until Ctrl-C or SIGTERM ends it, or the task is cancelled.

    Returns after a signal; what was raised for it is not raised again. With the signal `/readyz`
    turns 503, no run is started any more, and open streams are told that the server stops. After
    SIGTERM new requests are answered for `DRAIN_SECONDS` more; a second signal, and Ctrl-C, end
    that.

    Args:
        app: what `create_app` made.
        host: an address; one that other machines reach needs keys.
        port: 0 for a free one.
        api_keys: those the app was made with, secrets or not.
        listener: what `listen` took before, in place of `host` and `port`.
        on_ready: called with the base URL (`http://127.0.0.1:8000/v1`) once the port is taken.

    Raises:
        SettingsInvalid: the port is in use or the address is not this machine's.
    """
    check_exposure(host, api_keys)
    listener = listener or listen(host, port)
    server = _server(app)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    logger.info("serving.started", extra={"url": url_of(listener)})
    try:
        if on_ready is not None:
            on_ready(url_of(listener))
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
        listener.close()


def _server(app: "Starlette") -> Any:
    import uvicorn

    from serving.http.protocol import Protocol

    closing: asyncio.Event = app.state.door.closing
    loop = asyncio.get_running_loop()

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Stop; a second Ctrl-C stops without grace.

            Unlike its parent it does not remember the signal to raise it again: that would cancel
            the closing of the runtime.
            """
            self.force_exit = self.should_exit and sig == signal.SIGINT
            if sig == signal.SIGTERM and not closing.is_set():
                loop.call_soon_threadsafe(loop.call_later, DRAIN_SECONDS, self.stop)
            else:
                self.should_exit = True
            loop.call_soon_threadsafe(closing.set)

        def stop(self) -> None:
            self.should_exit = True

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            closing.set()
            await super().shutdown(sockets)

    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            lifespan="off",
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """Take a port, before anything slow is started.

    Raises:
        SettingsInvalid: the port is in use or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise SettingsInvalid(message=_cannot_listen(host, port, error)) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another with --port (0 takes a free one)"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights this user lacks; choose one above 1023 with --port"
    return f"cannot listen on {host}:{port}: {error.strerror}; see --host and --port"


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop that uvicorn would choose: uvloop, where it is installed."""
    import uvicorn

    return uvicorn.Config(app="").get_loop_factory()


def url_of(listener: socket.socket) -> str:
    """Return the base URL of what is served on a port."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
