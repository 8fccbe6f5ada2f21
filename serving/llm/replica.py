"""One llama.cpp engine in one Serve replica, on OpenAI's routes.

It travels by value, see `serving.pinned`: `crew` is imported inside, once it is found.
"""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from serving.pinned import find_package

__all__ = ["LlamaCppReplica"]

_MAX_BODY_BYTES = 4 << 20


class LlamaCppReplica:
    """An engine that batches the requests it has at the same time.

    Args:
        model: a GGUF file or a name; empty for the embedded weights.
        model_id: the id under which it answers.
        context_tokens: tokens one request may hold.
        parallel: requests computed at once.
    """

    async def __init__(
        self, *, model: str, model_id: str, context_tokens: int, parallel: int
    ) -> None:
        find_package("crew", "llm/llamacpp.py")

        from crew.llm.llamacpp import Engine
        from crew.llm.weights import ensure_weights

        path = await ensure_weights(model)
        self._engine = Engine(path, name=model_id, slots=parallel, context_tokens=context_tokens)
        await self._engine.load()
        self._model_id = model_id
        self._opened_at = int(time.time())

    def __serve_build_asgi_app__(self) -> Any:
        """The routes; Serve asks for them once the engine is loaded."""
        return _routes(self)

    async def check_health(self) -> None:
        """Asked by Serve; raising makes it start another replica."""
        await self._engine.load()  # raises when it is closed

    async def close(self) -> None:
        """Stop what is computed and free the model."""
        await self._engine.close()

    async def __del__(self) -> None:
        """Called by Serve after the last request was answered."""
        if hasattr(self, "_engine"):
            await self.close()

    def models(self) -> dict[str, Any]:
        """The body of `GET /v1/models`."""
        facts = {"object": "model", "created": self._opened_at, "owned_by": "crew"}
        window = {"max_model_len": self._engine.context_tokens}  # as vLLM says it
        return {"object": "list", "data": [{"id": self._model_id, **facts, **window}]}

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one request whole; cancelling it stops the engine.

        Raises:
            ModelError: the request cannot be used (status 400), or the engine failed.
        """
        return await self._engine.chat(body)

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Answer one request chunk by chunk; closing the iterator stops the engine.

        Raises:
            ModelError: as `complete`.
        """
        async with aclosing(self._engine.stream(body)) as chunks:
            async for chunk in chunks:
                yield chunk

    def refusal(self, body: object) -> dict[str, Any] | None:
        """The error body for a request that the engine should not see; None if it may."""
        if not isinstance(body, dict):
            return error_body("the body must be a JSON object", code="invalid_json")
        if body.get("model") != self._model_id:
            message = f"the model {body.get('model')!r} does not exist; served here: "
            return error_body(message + self._model_id, code="model_not_found", param="model")
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            message = "messages must be a list of at least one message"
            return error_body(message, code="invalid_type", param="messages")
        return None


def error_body(
    message: str, *, code: str, param: str | None = None, kind: str = "invalid_request_error"
) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _routes(replica: LlamaCppReplica) -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    from crew.errors import ModelError

    async def models(_: Request) -> Response:
        return JSONResponse(replica.models())

    async def model(request: Request) -> Response:
        listed = replica.models()["data"][0]
        if request.path_params["model"] == listed["id"]:
            return JSONResponse(listed)
        refusal = replica.refusal({"model": request.path_params["model"]})
        return JSONResponse(refusal, status_code=404)

    async def chat(request: Request) -> Response:
        raw = await _read(request)
        if raw is None:
            message = f"the request body is larger than {_MAX_BODY_BYTES} bytes"
            return JSONResponse(error_body(message, code="request_too_large"), status_code=413)
        body = _json(raw)
        if (refusal := replica.refusal(body)) is not None:
            missing = refusal["error"]["code"] == "model_not_found"
            return JSONResponse(refusal, status_code=404 if missing else 400)
        if not body.get("stream"):
            return JSONResponse(await replica.complete(body))
        chunks = replica.stream(body)
        # The first chunk before the status: a request that the engine refuses is a 400.
        first = await anext(chunks, None)
        return StreamingResponse(_frames(first, chunks), media_type="text/event-stream")

    async def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, ModelError)
        status = error.status or 500
        return JSONResponse(_model_error(error), status_code=status)

    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/models/{model:path}", model),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ],
        exception_handlers={ModelError: failed},
    )


async def _frames(first: Any, chunks: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[bytes]:
    """Server-sent events of the chunks; an error in mid-stream is a frame of its own."""
    from crew.errors import ModelError

    async with aclosing(chunks):  # a client that went away: the engine stops
        try:
            if first is not None:
                yield _frame(first)
            async for chunk in chunks:
                yield _frame(chunk)
        except ModelError as error:
            yield _frame(_model_error(error))
            return
    yield b"data: [DONE]\n\n"


def _frame(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _model_error(error: Any) -> dict[str, Any]:
    mistake = (error.status or 500) < 500
    kind = "invalid_request_error" if mistake else "server_error"
    return error_body(str(error), code="invalid_request" if mistake else "engine", kind=kind)


async def _read(request: Any) -> bytes | None:
    """The body; None if it is too large."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > _MAX_BODY_BYTES:
            return None
    return bytes(received)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
