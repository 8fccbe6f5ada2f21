"""Which models an agent asks: that of the settings, one by its name, or one that was made."""

from typing import TypeAlias

from crew.call.record import Equipment
from crew.config import NamedModel, Settings
from crew.errors import GraphError, SettingsInvalid
from crew.llm import Model
from crew.llm.fallback import Fallback

__all__ = ["ModelChoice", "check", "default_model", "models_of", "name_of", "named_model"]

ModelChoice: TypeAlias = Model | str | Fallback | None
"""What an agent is given: None is the model that the settings say."""


def check(choice: object, agent: str) -> None:
    """Refuse what is no choice of a model.

    Raises:
        GraphError: it is none; the message says what to write.
    """
    if choice is None or isinstance(choice, str | Fallback | Model):
        return
    raise GraphError(
        message=f"agent {agent!r} cannot ask {choice!r:.200} for its answers: model= takes a name "
        'of crew.toml ("strong"), Fallback("strong", "cheap"), or a model, which has a name, '
        "complete() and close(), as OpenAIModel does"
    )


def name_of(choice: ModelChoice) -> str:
    """Return what tells a choice from others."""
    if isinstance(choice, Fallback):
        return " | ".join(map(name_of, choice.models))
    return choice if isinstance(choice, str) else choice.name if choice is not None else ""


def models_of(choice: ModelChoice, equipment: Equipment) -> tuple[Model, ...]:
    """Return the models to be asked in order, each open as long as the equipment is. Does no I/O.

    Raises:
        SettingsInvalid: a name is none of the settings'.
    """
    if not isinstance(choice, Fallback):
        return (_model_of(choice, equipment),)
    return tuple([_model_of(each, equipment) for each in choice.models])


def _model_of(choice: Model | str | None, equipment: Equipment) -> Model:
    settings = equipment.settings
    if choice is None:
        return equipment.keep("default model", lambda: default_model(settings, will_close=True))
    if not isinstance(choice, str):
        return equipment.use(choice)
    named = find(settings, choice)
    return equipment.keep(("model", choice), lambda: named_model(choice, named, will_close=True))


def find(settings: Settings, name: str) -> NamedModel:
    """Return what the settings say of a model.

    Raises:
        SettingsInvalid: they say nothing; the message has the names that there are.
    """
    if (named := settings.models.get(name)) is not None:
        return named
    there = f"there are: {', '.join(sorted(settings.models))}" if settings.models else "it has none"
    raise SettingsInvalid(
        message=f"no model {name!r} in crew.toml, where the program was started; {there}. "
        f"Write [models.{name}] there, with base_url and model"
    )


def default_model(settings: Settings, *, will_close: bool) -> Model:
    """Return the endpoint that `base_url` names, else the embedded model. Does no I/O.

    Without a `base_url` the `model` may also be one that the settings name.

    Args:
        settings: those in force.
        will_close: whether `close` is sure to be called; see `crew.llm.client.OpenAIModel`.
    """
    return named_model(settings.model, settings.default, will_close=will_close)


def named_model(name: str, named: NamedModel, *, will_close: bool) -> Model:
    """Return the model that is known by a name. Does no I/O.

    Raises:
        SettingsInvalid: its key is in a variable that was not set.
    """
    if named.api_key_env and not named.api_key:
        raise SettingsInvalid(
            message=f"the model {name!r} takes its key from {named.api_key_env}, which was not set "
            "where the program was started"
        )
    if named.base_url:
        from crew.llm.client import OpenAIModel  # engines load when first needed

        return OpenAIModel(
            named.model,
            base_url=named.base_url,
            api_key=named.api_key,
            will_close=will_close,
            price_in=named.price_in,
            price_out=named.price_out,
            context_window=named.context_window,
            max_output=named.max_output,
            requests_per_second=named.requests_per_second,
        )
    from crew.llm.embedded import EmbeddedModel
    from crew.llm.terms import Terms

    terms = Terms(
        price_in=named.price_in or 0.0,
        price_out=named.price_out or 0.0,
        context_window=named.context_window,
        max_output=named.max_output,
        requests_per_second=named.requests_per_second,
    )
    return EmbeddedModel(named.model, terms=terms)
