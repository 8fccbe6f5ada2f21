"""A model behind an OpenAI-compatible endpoint, through the official client."""

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import sys
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from crew.errors import ModelError
from crew.llm import ModelReply, ModelRequest
from crew.llm.answer import Answer, OnText
from crew.llm.assembly import Assembly
from crew.llm.bucket import put_off, turn_at
from crew.llm.counting import COUNTERS
from crew.llm.dialect import APART, FORCING, Dialect, rendered
from crew.llm.learning import Learning
from crew.llm.provider import provider_at
from crew.llm.reading import read_reply, with_json
from crew.llm.receiving import BrokenOff, receive, unusable
from crew.llm.refusal import explain, pause
from crew.llm.sight import kinds_of, refused_kind
from crew.llm.terms import Terms
from crew.llm.window import listed_window, served_window
from crew.message import Json

if TYPE_CHECKING:  # importing it takes a second, which hello must not pay
    from openai import AsyncOpenAI
    from tenacity import RetryCallState

__all__ = ["OpenAIModel"]

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
ASK_AGAIN_SECONDS = 1.0
"""How long an endpoint that could not say who owns its models is not asked again."""

_CONTINUATIONS: dict[str, dict[str, Json]] = {
    "vllm": {"continue_final_message": True, "add_generation_prompt": False},
    "llamacpp": {},
    "crew": {},  # our own deployment of llama.cpp
}
"""What a request says besides, to go on with the assistant's message it ends with."""


class OpenAIModel:
    """Speaks the chat completions API; vLLM, Ollama, llama.cpp and most vendors answer it.

    Calls that failed for a passing reason (408, 429, 5xx but 501, time out, no connection) are made
    again after a random, growing pause, or the one the endpoint asks for. Once text was handed to
    `on_text` the next one goes on from there, at an endpoint that can (vLLM, llama.cpp); elsewhere
    the call fails (`broke_off`), since the text would come twice. Its usage is that of all its
    requests; for one whose stream broke see `crew.llm.answer.Answer.broke`.

    A request's `cache_salt` is sent to vLLM alone: others may refuse what they do not know.

    What an endpoint refuses it is not sent again: a schema goes into the prompt then, a limit has
    its other name, other parameters are left out, which the log says (`model.learnt`, see
    `crew.llm.dialect`). Arguments of a tool call that are no JSON object come back under
    `crew.llm.wire.INVALID_ARGUMENTS`.

    Args:
        model: an id the endpoint offers; empty: the first it lists.
        base_url: ends in /v1 for most endpoints.
        api_key: empty for endpoints that want none.
        timeout: seconds without a byte from the endpoint.
        max_attempts: calls in all, so 1 never repeats.
        will_close: whether `close` is sure to be called: aiohttp, which reads streams for less
            where it is installed, complains of what is left open.
        price_in, price_out, context_window, max_output, requests_per_second: its terms; see
            `crew.llm.terms.Terms`.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str = "",
        timeout: float = 600.0,
        max_attempts: int = 4,
        will_close: bool = False,
        price_in: float | None = None,
        price_out: float | None = None,
        context_window: int | None = None,
        max_output: int | None = None,
        requests_per_second: float | None = None,
    ) -> None:
        self.terms = Terms(
            price_in=price_in,
            price_out=price_out,
            context_window=context_window,
            max_output=max_output,
            requests_per_second=requests_per_second,
        )
        self._model = model
        self.base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._timeout = timeout
        self._max_attempts = max_attempts
        self._by_aiohttp = will_close and importlib.util.find_spec("aiohttp") is not None
        self._learning = Learning(self.base_url)
        self._owner: str | None = None
        self._window: int | None = None
        self._ask_again_at = 0.0
        # One client per event loop: its connections belong to the loop they were opened in.
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI]
        self._clients = weakref.WeakKeyDictionary()
        self._asking: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]]
        self._asking = weakref.WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The model's id, or the endpoint as long as the id was not asked for."""
        return self._model or self.base_url

    @property
    def provider(self) -> str:
        """Who computes, by its host, or as the endpoint says once it was asked."""
        return provider_at(self.base_url, self._owner or "")

    def __repr__(self) -> str:
        return f"OpenAIModel({self._model!r}, base_url={self.base_url!r})"

    def __getstate__(self) -> dict[str, Any]:
        of_loops = ("_clients", "_asking")
        return {key: value for key, value in self.__dict__.items() if key not in of_loops}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(
            state, _clients=weakref.WeakKeyDictionary(), _asking=weakref.WeakKeyDictionary()
        )

    async def complete(self, request: ModelRequest, *, on_text: OnText | None = None) -> ModelReply:
        """Answer one request; with `on_text` as a stream. Cancelling closes the connection.

        Raises:
            ModelError: no usable reply; the message names the cause and the way on.
        """
        await _import_openai()
        reply = await self._learning.answered(
            request,
            lambda dialect: self._complete(request, dialect, on_text),
            await self._dialect(request),
            model=self.name,
            stream=on_text is not None,
        )
        return reply if request.schema is None else with_json(reply, request.schema)

    async def _dialect(self, request: ModelRequest) -> Dialect:
        """Return what is known of the endpoint, by what it refused, or by its engine."""
        both = request.tools and request.schema is not None
        if both and await self._owned_by() in FORCING:
            return self._learning.facts | {APART}
        return self._learning.facts

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """Return the tokens of a request as vLLM or llama.cpp counts them; None elsewhere.

        None, too, where that fails.
        """
        counter = COUNTERS.get(await self._owned_by() or "")
        if counter is None:
            return None
        import httpx2
        import openai

        dialect = await self._dialect(request)
        body = rendered(request, await self._id(), dialect, stream=False)
        try:
            return await counter(self._ask_engine, body)
        except (openai.OpenAIError, httpx2.TransportError, KeyError, TypeError):
            return None

    async def context_window(self) -> int | None:
        """Return the tokens of a request and its answer as the engine says; None if it does not."""
        owner = await self._owned_by()
        if self._window is None and owner == "llamacpp":
            import openai

            with contextlib.suppress(openai.OpenAIError, AttributeError, TypeError):
                self._window = await served_window(self._look_at_engine)
        return self._window

    async def _look_at_engine(self, path: str) -> dict[str, Json]:
        root = self.base_url.removesuffix("/v1")
        return cast("dict[str, Json]", await self._client().get(f"{root}{path}", cast_to=object))

    async def _ask_engine(self, path: str, body: dict[str, Json]) -> dict[str, Json]:
        """Post to what an engine has beside the API, which is not under /v1."""
        root = self.base_url.removesuffix("/v1")
        answer = await self._client().post(f"{root}{path}", cast_to=object, body=body)
        return cast("dict[str, Json]", answer)

    async def models(self) -> list[str]:
        """List the ids the endpoint offers, in its order; never calls a model.

        Raises:
            ModelError: it could not be asked.
        """
        await _import_openai()
        import openai

        try:
            return [model.id async for model in self._client().models.list()]
        except openai.OpenAIError as error:
            raise explain(error, self.base_url, self._model) from error

    async def continues(self) -> bool:
        """Return whether the endpoint goes on with an answer that a request holds a part of.

        It is told by who owns its models, as engines name themselves there.
        """
        return await self._owned_by() in _CONTINUATIONS

    async def close(self) -> None:
        """Close the connections of this event loop. Safe to call twice."""
        loop = asyncio.get_running_loop()
        if loop in self._asking:
            self._asking[loop].cancel()
        client = self._clients.pop(loop, None)
        if client is not None:
            await client.close()

    async def _complete(
        self, request: ModelRequest, dialect: Dialect, on_text: OnText | None
    ) -> ModelReply:
        import httpx2
        import openai

        model = await self._id()
        try:
            return await self._persist(request, model, dialect, on_text)
        except openai.NotFoundError as error:
            raise explain(error, self.base_url, self._model, await self._offered()) from error
        except (openai.OpenAIError, httpx2.TransportError) as error:
            raise explain(error, self.base_url, self._model) from error
        except BrokenOff as error:
            raise unusable(self.base_url, "broke the stream off", str(error)) from error

    async def _persist(
        self, request: ModelRequest, model: str, dialect: Dialect, on_text: OnText | None
    ) -> ModelReply:
        """Post until there is an answer or no sense in trying again."""
        import httpx2
        import openai
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

        answer, kinds = Answer(request, on_text), kinds_of(request)
        goes_on = on_text is not None and await self.continues()  # not once it is broken off

        async def attempt() -> ModelReply:
            if retrying.statistics.get("attempt_number", 1) > 1:
                await turn_at(self)  # for the first one whoever asks has waited
            rest = answer.rest()
            received = Assembly(goes_on=bool(rest.partial))
            body = await self._body(rest, dialect, stream=on_text is not None, model=model)
            try:
                await self._post(body, request.session, received, answer.add_text)
            except (openai.APIConnectionError, httpx2.TransportError, BrokenOff):
                answer.broke(rest, received)
                raise
            reply = read_reply(received, rest, endpoint=self.base_url, model=model)
            return answer.whole(rest, reply)

        def may_try_again(error: BaseException) -> bool:
            if request.once and not _is_free(error):
                return False
            if refused_kind(str(error), kinds) is not None:
                return False  # llama.cpp refuses images with a 500
            return _is_passing(error) and (goes_on or not answer.has_text)

        retrying = AsyncRetrying(
            retry=retry_if_exception(may_try_again),
            stop=stop_after_attempt(self._max_attempts),
            wait=pause,
            before_sleep=self._note,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except (openai.APIConnectionError, httpx2.TransportError, BrokenOff) as error:
            is_known = _is_free(error) or not request.once
            if is_known and (goes_on or not answer.has_text):
                raise
            raise self._broken_off(answer, error) from error
        except openai.InternalServerError as error:
            if not request.once or not _is_passing(error) or _is_free(error):
                raise
            raise self._broken_off(answer, error) from error

    def _broken_off(self, answer: Answer, error: Exception) -> ModelError:
        return replace(
            unusable(self.base_url, "broke the answer off", str(error)),
            broke_off=True,
            status=getattr(error, "status_code", None),
            uncounted=not answer.is_counted,
            input_tokens=answer.lost.input_tokens,
            output_tokens=answer.lost.output_tokens,
        )

    async def _body(
        self, request: ModelRequest, dialect: Dialect, *, stream: bool, model: str
    ) -> dict[str, Json]:
        body: dict[str, Json] = rendered(request, model, dialect, stream=stream)
        if request.partial:
            body |= _CONTINUATIONS.get(self._owner or "", {})
        is_salted = request.cache_salt and "-cache_salt" not in dialect
        if is_salted and await self._owned_by() == "vllm":
            body["cache_salt"] = request.cache_salt
        return body

    async def _post(
        self, body: dict[str, Json], session: str, received: Assembly, add_text: OnText
    ) -> None:
        """Post one request; what comes of it is in `received`, also if it breaks."""
        import httpx2
        import openai

        # Quoted: a header is ASCII, and threads are named in any language.
        options: Any = {"headers": {"x-session-id": quote(session)}} if session else {}
        # Raw, since the client's object per token costs ten times the parsing of its JSON, and its
        # walk through a body that is JSON already a third of the whole request.
        stream = await self._client().post(
            "/chat/completions",
            cast_to=object,
            body=body,
            options=options,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        async with stream:
            try:
                await receive(stream.response, received, add_text, endpoint=self.base_url)
            except (httpx2.ProtocolError, httpx2.NetworkError) as error:
                raise BrokenOff(f"before its end: {error}") from error

    async def _note(self, state: "RetryCallState") -> None:
        error = state.outcome.exception() if state.outcome else None
        facts = {"endpoint": self.base_url, "attempt": state.attempt_number, "error": repr(error)}
        logger.info("model.retried", extra=facts)
        if getattr(error, "status_code", None) == 429:
            await put_off(self, state.upcoming_sleep)

    async def _id(self) -> str:
        if not self._model:
            offered = await self.models()
            if not offered:
                raise ModelError(
                    message=f"{self.base_url} offers no model; load one there, or set CREW_MODEL",
                    endpoint=self.base_url,
                )
            self._model = offered[0]
        return self._model

    async def _owned_by(self) -> str | None:
        """Return who owns the endpoint's models; all who want to know share one request."""
        if self._owner is None and time.monotonic() >= self._ask_again_at:
            loop = asyncio.get_running_loop()
            if loop not in self._asking:
                self._asking[loop] = loop.create_task(self._find_owner())
            await asyncio.shield(self._asking[loop])
        return self._owner

    async def _find_owner(self) -> None:
        try:
            await _import_openai()
            self._owner = await self._asked_owner()
            self._ask_again_at = time.monotonic() + ASK_AGAIN_SECONDS
        finally:
            del self._asking[asyncio.get_running_loop()]

    async def _asked_owner(self) -> str | None:
        """Return who owns the endpoint's models; None if it could not be asked."""
        import openai

        try:
            async for model in self._client().models.list():
                if model.id == self._model or not self._model:
                    self._window = listed_window(model)
                    return model.owned_by or ""
        except openai.OpenAIError as error:
            return None if _is_passing(error) else ""
        except (AttributeError, TypeError):
            return ""  # it does not list its models
        return ""

    async def _offered(self) -> list[str]:
        """List the ids for an error message, where an answer is welcome and not needed."""
        try:
            return await self.models()
        except ModelError:
            return []

    def _client(self) -> "AsyncOpenAI":
        import openai

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = openai.AsyncOpenAI(
                http_client=openai.DefaultAioHttpClient() if self._by_aiohttp else None,
                base_url=self.base_url,
                # The client insists on a key, and takes another service's from the environment
                # where it is given none.
                api_key=self._api_key or "none",
                timeout=openai.Timeout(self._timeout, connect=CONNECT_SECONDS),
                max_retries=0,
                default_headers=cast(
                    "dict[str, str]",
                    {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()},
                ),
            )
        return self._clients[loop]


async def _import_openai() -> None:
    """Import the client in a thread the first time: it takes a second, and others go on."""
    if "openai" not in sys.modules:
        await asyncio.to_thread(importlib.import_module, "openai")


def _is_free(error: BaseException) -> bool:
    """Tell whether the endpoint can have computed nothing: it refused, or was not reached."""
    import httpx2
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code < 500 or error.status_code == 503
    causes = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
    return isinstance(error, causes) or isinstance(error.__cause__, causes)


def _is_passing(error: BaseException) -> bool:
    """Tell whether the same call may succeed later: 408, 429, 5xx, time out, no connection.

    Not 501: RFC 9110, 15.6.2, has it for a method that the server knows for no resource.
    """
    import httpx2
    import openai

    if isinstance(error, BrokenOff):
        return True
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 429) or (
            error.status_code >= 500 and error.status_code != 501
        )
    return isinstance(error, openai.APIConnectionError | httpx2.TransportError)
