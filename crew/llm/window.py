"""How many tokens fit into a model: as its terms say, or as its engine does."""

from collections.abc import Awaitable, Callable
from typing import Any

from crew.llm import Model
from crew.llm.cost import DEFAULT_OUTPUT
from crew.llm.terms import terms_of
from crew.message import Json

__all__ = ["DEFAULT_WINDOW", "listed_window", "room_in", "served_window", "window_of"]

DEFAULT_WINDOW = 32_768
"""The tokens of a request and its answer together, where neither terms nor engine say."""


async def window_of(model: Model) -> int:
    """Return the tokens of a request to a model and its answer together.

    A model whose engine knows has an async method `context_window()`, which gives None if it does
    not say.
    """
    if (known := terms_of(model).context_window) is not None:
        return known
    ask = getattr(model, "context_window", None)
    found = None if ask is None else await ask()
    return DEFAULT_WINDOW if found is None else found


async def room_in(model: Model, max_tokens: int | None) -> int:
    """Return the tokens that a request may have, so that there is room for its answer.

    Args:
        model: what is asked.
        max_tokens: the most of the answer; None where nobody says so.
    """
    window, terms = await window_of(model), terms_of(model)
    wanted = max_tokens or min(DEFAULT_OUTPUT, window // 4)
    return max(0, window - min(wanted, terms.max_output or wanted))


def listed_window(listed: object) -> int | None:
    """Return what an entry of `GET /v1/models` says of it.

    Source: vLLM, "OpenAI-compatible server"; our own deployment says it likewise.
    """
    return _positive(getattr(listed, "max_model_len", None))


async def served_window(ask: Callable[[str], Awaitable[dict[str, Json]]]) -> int | None:
    """Return what one slot of llama.cpp's server takes.

    Source: llama.cpp, tools/server/README.md, `GET /props`.
    """
    settings = (await ask("/props")).get("default_generation_settings")
    return _positive(settings.get("n_ctx")) if isinstance(settings, dict) else None


def _positive(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
