"""A model in this process: llama.cpp with weights fetched once, no server and no key."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from crew.define import define
from crew.llm import ModelReply, ModelRequest
from crew.llm.assembly import Assembly
from crew.llm.default_weights import DEFAULT
from crew.llm.gguf import knows_tools
from crew.llm.llamacpp import CONTEXT_TOKENS, Engine, require_engine
from crew.llm.provider import LLAMACPP
from crew.llm.reading import read_reply, with_json
from crew.llm.sight import cannot_take, kinds_of
from crew.llm.terms import FREE, Terms
from crew.llm.weights import OnProgress, ensure_weights
from crew.llm.wire import request_body

__all__ = ["EmbeddedModel"]

logger = logging.getLogger(__name__)

# Small models repeat themselves without end.
MAX_TOKENS = 512


class EmbeddedModel:
    """Computes tokens on this machine's processor.

    The first use fetches the weights and loads them; all instances of a process that name the
    same file share one engine, which is freed when the last of them is closed. A request without
    `max_tokens` gets at most 512, and one without `temperature` is answered greedily.

    The default model has 135 million parameters: enough to try a workflow, not to trust an answer.
    It sees no tools. Bound by a grammar to choose one it takes any: asked to say hello it would
    send a mail. So tools reach a model only through a chat template made for them.

    Args:
        path: a GGUF file, `owner/repository/file.gguf`, or empty for the default model; see
            `crew.llm.weights.ensure_weights`.
        on_progress: told how far a download is.
        terms: what it costs, which is nothing by default, and what fits into it.
    """

    def __init__(
        self, path: str = "", *, on_progress: OnProgress | None = None, terms: Terms = FREE
    ) -> None:
        self.path = path
        self.terms = terms
        self._on_progress = on_progress
        self._engine: Engine | None = None
        self._warned = False

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return Path(self.path or DEFAULT.file).stem

    @property
    def provider(self) -> str:
        """The engine."""
        return LLAMACPP

    def __repr__(self) -> str:
        return f"EmbeddedModel({self.path!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "terms": self.terms}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _on_progress=None, _engine=None, _warned=False)

    async def complete(
        self, request: ModelRequest, *, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """Answer one request. Cancelling stops the computation within about a quarter second.

        Raises:
            ModelError: the weights cannot be had, the request does not fit the model's context,
                or its schema cannot be used.
            ExtraMissing: xllamacpp is not installed.
        """
        for kind in kinds_of(request):
            raise cannot_take(kind, self.name, "the embedded engine")
        engine = await self._ready()
        if request.tools:
            await self._warn_of_tools(engine)
        body = request_body(_completed(request), engine.name, stream=True)
        assembly = Assembly(goes_on=bool(request.partial))
        async with aclosing(engine.stream(body)) as chunks:
            async for chunk in chunks:
                piece = assembly.add(chunk)
                if piece and on_text is not None:
                    on_text(piece)
        if (piece := assembly.end()) and on_text is not None:
            on_text(piece)
        reply = read_reply(assembly, request, endpoint="embedded", model=engine.name)
        reply = replace(reply, text=request.partial + reply.text)
        return reply if request.schema is None else with_json(reply, request.schema)

    async def context_window(self) -> int:
        """Return the tokens of a request and its answer."""
        return CONTEXT_TOKENS

    async def continues(self) -> bool:
        """Return True: a chat that ends with a part of an answer is gone on with."""
        return True

    async def close(self) -> None:
        """Let go of the engine; the last one to do so frees it. Safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await _engines.give_back(engine)

    async def _ready(self) -> Engine:
        if self._engine is None:
            await asyncio.to_thread(require_engine)
            path = await ensure_weights(self.path, on_progress=self._on_progress)
            # Another call on this object may have come first while this one waited.
            self._engine = self._engine or _engines.take(path)
        return self._engine

    async def _warn_of_tools(self, engine: Engine) -> None:
        """Say once that tools are not seen: an agent that ignores them looks like a fault."""
        if self._warned:
            return
        self._warned = True
        if not await asyncio.to_thread(knows_tools, engine.path):
            logger.warning(
                "%s was not made for tools and does not see them; "
                "set CREW_BASE_URL to a model that was",
                self.name,
            )


def _completed(request: ModelRequest) -> ModelRequest:
    return replace(
        request,
        max_tokens=request.max_tokens or MAX_TOKENS,
        temperature=request.temperature or 0.0,
    )


@define
class _Use:
    engine: Engine
    users: int = 0


class _Engines:
    """The engines of this process, by file, with how many use each."""

    def __init__(self) -> None:
        self._uses: dict[Path, _Use] = {}
        self._lock = threading.Lock()

    def take(self, path: Path) -> Engine:
        with self._lock:
            path = path.resolve()
            use = self._uses.get(path) or self._uses.setdefault(path, _Use(Engine(path)))
            use.users += 1
            return use.engine

    async def give_back(self, engine: Engine) -> None:
        with self._lock:
            use = self._uses[engine.path]
            use.users -= 1
            if use.users:
                return
            del self._uses[engine.path]
        await engine.close()


_engines = _Engines()
