"""What a failed call to an endpoint means: when to repeat it, and what to tell the user."""

import email.utils
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crew.errors import ModelError
from crew.llm.proxy import proxy_to

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["explain", "pause", "refuses_grammar", "refuses_limit"]

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
_OF_CONTENT = (
    "content_filter",
    "content_policy_violation",
    "responsibleaipolicy",
    "data_inspection_failed",
    "content exists risk",
    "prohibited_content",
)
"""What is in the code, or else the words, of such a refusal: OpenAI's and Azure's, DashScope's,
DeepSeek's, Gemini's."""


def pause(state: "RetryCallState") -> float:
    """Return the seconds until the next attempt: as the endpoint asks, else random and growing.

    Source: "full jitter"; Brooker, "Exponential backoff and jitter", 2015.
    """
    error = state.outcome.exception() if state.outcome else None
    asked = _retry_after(error)
    if asked is not None:
        return min(asked, LONGEST_PAUSE)
    highest = min(FIRST_PAUSE * 2**state.attempt_number, LONGEST_PAUSE)
    return random.uniform(highest / 4, highest)  # noqa: S311  (no secret hangs on it)


def refuses_grammar(error: ModelError) -> bool:
    """Tell whether the endpoint did not understand `response_format`."""
    words = ("response_format", "json_schema", "response format", "structured output")
    return error.status in (400, 422, 501) and any(word in error.message for word in words)


def refuses_limit(error: ModelError) -> bool:
    """Tell whether the endpoint takes a limit of the answer under its newer name alone."""
    return error.status in (400, 422) and "max_completion_tokens" in error.message


def explain(error: Exception, endpoint: str, model: str, offered: Sequence[str] = ()) -> ModelError:
    """Turn a failed call into one line: what happened at which endpoint, and the way on."""
    status: int | None = getattr(error, "status_code", None)
    if status is None:
        return ModelError(message=_unreachable(error, endpoint), endpoint=endpoint)
    reason = _reason(error)
    message = f"{endpoint} {_refusal(status, model, offered)}: {reason}"
    if status in (400, 413, 422) and "context" in reason.lower():
        message += "; shorten the thread, the documents or the instructions"
    is_refusal = status < 500 and _is_of_content(error)
    return ModelError(message=message, endpoint=endpoint, status=status, is_refusal=is_refusal)


def _is_of_content(error: Exception) -> bool:
    """Tell whether what is asked was refused for what it says, by the code of the error."""
    body: Any = getattr(error, "body", None)
    facts = body if isinstance(body, dict) else {}
    said = f"{facts.get('code')} {facts.get('type')} {_reason(error)}".lower()
    return any(word in said for word in _OF_CONTENT)


def _unreachable(error: Exception, endpoint: str) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, TimeoutError) or type(cause).__name__.endswith("Timeout"):
        return (
            f"{endpoint} did not answer in time; the engine may be loading or overloaded: "
            f"look at its log, or check it with: curl {endpoint}/models"
        )
    check = f"check it with: curl {endpoint}/models"
    if proxy := proxy_to(endpoint):
        return (
            f"cannot reach {endpoint} through the proxy {proxy} ({cause}), which HTTP_PROXY or "
            f"another such variable names; put the endpoint's host into NO_PROXY if it needs none; "
            f"{check}"
        )
    return f"cannot reach {endpoint} ({cause}); start the server or correct CREW_BASE_URL; {check}"


def _refusal(status: int, model: str, offered: Sequence[str]) -> str:
    if status in (401, 403):
        return f"refused the key (status {status}); set CREW_API_KEY to a valid one"
    if status == 404:
        ids = f"it offers {', '.join(offered[:10])}" if offered else "it lists no models"
        return (
            f"does not know the model {model!r} (status 404); {ids}; set CREW_MODEL to an id it "
            "offers, and check that CREW_BASE_URL ends where the API begins (usually /v1)"
        )
    if status == 429:
        return "still refuses for too many requests or a used-up quota (status 429); try later"
    if status == 501:
        return "does not know this request (status 501); check CREW_BASE_URL, and its own log"
    if status >= 500:
        return f"failed again and again (status {status}); look at the endpoint's log, try later"
    return f"refused the request (status {status})"


def _reason(error: Exception) -> str:
    """Return what the endpoint itself said, on one short line."""
    body: Any = getattr(error, "body", None)
    if isinstance(body, list) and body:  # Gemini's
        body = body[0].get("error", body[0]) if isinstance(body[0], dict) else body[0]
    text = body.get("message") if isinstance(body, dict) else body
    return " ".join(str(text or error).split())[:300]


def _retry_after(error: BaseException | None) -> float | None:
    response = getattr(error, "response", None)
    header = response.headers.get("retry-after") if response is not None else None
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        return _seconds_until(header)


def _seconds_until(date: str) -> float | None:
    try:
        return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return None
