"""Which model the settings mean."""

from crew.config import Settings
from crew.llm import Model

__all__ = ["default_model"]


def default_model(settings: Settings, *, will_close: bool) -> Model:
    """Return the endpoint that `base_url` names, else the embedded model. Does no I/O.

    Args:
        settings: those in force.
        will_close: whether `close` is sure to be called; see `crew.llm.client.OpenAIModel`.
    """
    if settings.base_url:
        from crew.llm.client import OpenAIModel

        return OpenAIModel(
            settings.model,
            base_url=settings.base_url,
            api_key=settings.api_key,
            will_close=will_close,
        )
    from crew.llm.embedded import EmbeddedModel

    return EmbeddedModel(settings.model)
