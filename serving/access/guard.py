"""What stands before each operation: who calls, how much of it, and whether it can be read."""

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access.auth import Access
from serving.access.door import Door
from serving.access.keys import Key
from serving.http.errors import ApiError
from serving.http.operation import Operation

__all__ = ["Guard"]

MOST_KEY_CHARACTERS = 256
"""Of an idempotency key."""


class Guard:
    """Turns away requests that may not pass, before their bodies are read.

    Puts into the scope `tenant`, whose runs are seen, and `key`, who calls. An operation may put
    `leave` there, which is called when the client goes away before the answer begins.

    Args:
        app: the operation's route.
        operation: what it is of.
        door: whose limits hold.
        access: who may call.
    """

    def __init__(self, app: ASGIApp, operation: Operation, door: Door, access: Access) -> None:
        self._app, self._operation, self._door, self._access = app, operation, door, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        key = None if self._operation.public else await self._identified(request)
        self._refuse_unreadable(request)
        if not self._operation.streams:
            await self._app(scope, receive, send)
            return
        async with self._door.usage.open_answer(key):
            await self._answered_while_asked(scope, receive, send)

    async def _identified(self, request: Request) -> Key | None:
        headers = request.headers
        key = self._access.caller(
            authorization=headers.get("authorization", ""),
            host=headers.get("host", ""),
            origin=headers.get("origin", ""),
        )
        if key is not None:
            request.scope.update(tenant=key.tenant, key=key)
            await self._door.usage.count_request(key)
        return key

    def _refuse_unreadable(self, request: Request) -> None:
        if not request.scope["path"].isprintable():
            raise ApiError(status=404, message="no such path", code="not_found")
        if self._operation.body is not None:
            _check_type(request.headers.get("content-type", "application/json"))
        again = request.headers.get("idempotency-key")
        if again is not None and not (
            again.isprintable() and 0 < len(again) <= MOST_KEY_CHARACTERS
        ):
            raise ApiError(
                status=400,
                message=f"Idempotency-Key must be 1 to {MOST_KEY_CHARACTERS} printable characters",
                param="Idempotency-Key",
                code="invalid_value",
            )

    async def _answered_while_asked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the operation answer, until the client is gone: nobody waits for it any more then.

        A stream sees by itself that its client left, and what it does then is its own.
        """
        is_read = asyncio.Event()
        if self._operation.body is None:
            is_read.set()
        answering = asyncio.current_task()
        assert answering is not None

        async def receiving() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                is_read.set()
            return message

        async def until_gone() -> None:
            await is_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            answering.cancel()

        async def sending(message: Message) -> None:
            watch.cancel()
            await send(message)

        watch = asyncio.create_task(until_gone())
        try:
            await self._answered_in_time(scope, receiving, sending)
        except asyncio.CancelledError:
            is_gone = watch.done() and not watch.cancelled()
            if not is_gone or answering.uncancel() > 0:
                raise
            if (leave := scope.get("leave")) is not None:
                await leave()
        finally:
            watch.cancel()

    async def _answered_in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the operation answer, and end it where it takes too long to begin with that."""
        patience = self._door.limits.wait_seconds
        timer = asyncio.timeout(patience)

        async def sending(message: Message) -> None:
            if timer.when() is not None:
                timer.reschedule(None)
            await send(message)

        try:
            async with timer:
                await self._app(scope, receive, sending)
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise _unfinished(patience, scope.get("run")) from error


def _check_type(given: str) -> None:
    kind, *parameters = (part.strip().lower() for part in given.split(";"))
    charsets = {part.removeprefix("charset=").strip('"') for part in parameters}
    if kind != "application/json" or not charsets <= {"utf-8", "utf8", "us-ascii", ""}:
        raise ApiError(
            status=415,
            message=f"the content type {given!r:.99} is not read here; send JSON, with the header "
            "Content-Type: application/json",
            code="unsupported_media_type",
        )


def _unfinished(seconds: float, run: str | None) -> ApiError:
    what = f"run {run}" if run else "what was started"
    return ApiError(
        status=504,
        message=f"no answer after {seconds:g} seconds; {what} goes on. Ask for a stream, which may "
        "last longer",
        type="server_error",
        code="still_running",
        headers={"X-Run-Id": run} if run else {},
    )
