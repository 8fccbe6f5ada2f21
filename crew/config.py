"""Settings: frozen, read once at a door, then passed as arguments."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

from crew.define import frozen
from crew.errors import SettingsInvalid

AgentsPlace = Literal["local", "ray"]

SETTINGS_FILE = Path("crew.toml")
DATA_FOLDER = Path(".crew")
MOST_PORT = 65_535
LOG_LEVELS = ("debug", "info", "warning")


@frozen
class NamedModel:
    """A model that agents ask for by its name: `[models.NAME]` of `crew.toml`.

    Prices are for a million tokens, in whatever currency budgets are given in. `context_window` and
    `max_output` are in tokens: what fits into a request with its answer, and into an answer. No
    more than `requests_per_second` are sent to its endpoint from one machine.
    """

    base_url: str = ""
    """An OpenAI-compatible endpoint, ending in /v1. Empty: the embedded engine."""
    model: str = ""
    """The model's id at that endpoint; for the embedded engine a GGUF file's path or name."""
    api_key_env: str = ""
    """The variable that holds the endpoint's key; it is read where the settings are."""
    context_window: int | None = None
    max_output: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    requests_per_second: float | None = None
    api_key: str = field(default="", repr=False)
    """The key itself, of that variable. Never logged, never stored."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force, with the defaults of a laptop without network, key or server.

    Read in rising order from `crew.toml` in the working directory, from `CREW_*` variables,
    and from arguments; see `load_settings`.
    """

    base_url: str = ""
    """An OpenAI-compatible endpoint, ending in /v1. Empty: the embedded model."""
    model: str = ""
    """The model's id at that endpoint; for the embedded engine a GGUF file's path or name."""
    api_key: str = field(default="", repr=False)
    """The endpoint's key. Never logged, never stored."""
    store: str = "sqlite:///.crew/crew.db"
    """Where journals live: sqlite:///path, postgresql://…, or :memory:."""
    agents: AgentsPlace = "local"
    """Where agents run: in this process, or in Ray hosts."""
    ray_address: str = ""
    """The Ray cluster to join: host:port from one of its nodes, ray://host:port from elsewhere.

    Empty: a quiet local one, started and stopped with the program.
    """
    docs: str = ""
    """The folder that document search reads. Empty: the documents that come with the package."""
    lease: float = 10.0
    """Seconds of silence after which a worker's runs are taken by another one."""
    link_ports: str = ""
    """Ports at which Ray hosts listen, as 20000-20100; none: they talk by calls of Ray alone."""
    link_tls: str = ""
    """A file of PEM, with a key and its certificate, by which what they say is encrypted."""
    log: str = ""
    """The least level of what servers and hosts log to stderr: debug, info or warning."""
    models: Mapping[str, NamedModel] = field(default_factory=dict[str, NamedModel])
    """Those that agents ask for by name. They stand in `crew.toml` alone."""

    @property
    def default(self) -> NamedModel:
        """The model of agents that have none of their own: an endpoint's, or one of the names."""
        named = None if self.base_url else self.models.get(self.model)
        return named or NamedModel(self.base_url, self.model, api_key=self.api_key)

    @property
    def ports(self) -> Iterable[int]:
        """The ports at which a host may listen; 0 is any, and nothing that it may not.

        Raises:
            SettingsInvalid: they are no range.
        """
        if self.link_ports == "none":
            return ()
        first, _, last = (self.link_ports or "0").partition("-")
        try:
            low = int(first)
            high = int(last or first)
        except ValueError:
            low = high = -1
        if not 0 <= low <= high <= MOST_PORT:
            raise SettingsInvalid(
                message=f"CREW_LINK_PORTS is {self.link_ports!r}; it must be a range as "
                "20000-20100, or none"
            )
        return range(low, high + 1)


def load_settings(**arguments: str | None) -> Settings:
    """Read the settings in force; an argument of None counts as not given.

    Raises:
        SettingsInvalid: a name or value is not understood; the message names its source.
    """
    known = {item.name for item in fields(Settings)} - {"models"}
    tables = _tables()
    models = {name: _named(name, table) for name, table in _model_tables(tables).items()}
    values = _from_file(tables, known) | _from_environment(known)
    values |= {name: value for name, value in arguments.items() if value is not None}
    _check(values, known)
    settings = Settings(**cast("dict[str, Any]", values | _lease(values)), models=models)
    _ = settings.ports
    return settings


def settings_from(data: Mapping[str, Any]) -> Settings:
    """Return the settings that `dataclasses.asdict` gave."""
    models = {name: NamedModel(**each) for name, each in data["models"].items()}
    values: dict[str, Any] = {**data, "models": models}
    return Settings(**values)


def _check(values: Mapping[str, str], known: set[str]) -> None:
    if unknown := sorted(set(values) - known):
        raise SettingsInvalid(message=f"unknown setting {unknown[0]!r}; known: {sorted(known)}")
    if values.get("agents", "local") not in ("local", "ray"):
        raise SettingsInvalid(
            message=f"CREW_AGENTS is {values['agents']!r}; it must be 'local' or 'ray'"
        )
    if (url := values.get("base_url", "")) and not url.startswith(_HTTP):
        raise SettingsInvalid(message=f"CREW_BASE_URL is {url!r}; it must start with http(s)://")
    if values.get("log", "") not in ("", *LOG_LEVELS):
        raise SettingsInvalid(
            message=f"CREW_LOG is {values['log']!r}; it must be one of {', '.join(LOG_LEVELS)}"
        )


def _lease(values: dict[str, str]) -> dict[str, float]:
    if "lease" not in values:
        return {}
    try:
        seconds = float(values["lease"])
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise SettingsInvalid(
            message=f"CREW_LEASE is {values['lease']!r}; it must be seconds, 0.1 to 3600"
        )
    return {"lease": seconds}


def _from_environment(known: set[str]) -> dict[str, str]:
    names = {f"CREW_{name.upper()}": name for name in known}
    return {names[key]: value for key, value in os.environ.items() if key in names and value}


def _tables() -> dict[str, Any]:
    """Read `crew.toml`, if there is one."""
    if not SETTINGS_FILE.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(message=f"{SETTINGS_FILE} is not valid TOML: {error}") from error


def _from_file(tables: Mapping[str, Any], known: set[str]) -> dict[str, str]:
    """Return what is no table; unlike variables, which others may share, it is checked whole."""
    values = {name: value for name, value in tables.items() if name != "models"}
    for name, value in values.items():
        if name not in known or not isinstance(value, str):
            raise SettingsInvalid(
                message=f"{SETTINGS_FILE}: {name} = {value!r} is not a setting; "
                f"known, each a string: {sorted(known)}; and tables [models.NAME]"
            )
    return values


def _model_tables(tables: Mapping[str, Any]) -> dict[str, Any]:
    models = tables.get("models", {})
    if isinstance(models, dict) and all(isinstance(each, dict) for each in models.values()):
        return models
    raise SettingsInvalid(
        message=f"{SETTINGS_FILE}: models = {models!r} is not understood; give each model a table: "
        "[models.NAME]"
    )


def _named(name: str, table: Mapping[str, Any]) -> NamedModel:
    """Return the model of one table, with its key as the environment has it."""
    for key, value in table.items():
        if key not in _OF_MODELS:
            raise SettingsInvalid(
                message=f"{SETTINGS_FILE}: [models.{name}] has no key {key!r}; known: "
                f"{', '.join(_OF_MODELS)}"
            )
        kind, is_right = _OF_MODELS[key]
        if isinstance(value, bool) or not is_right(value):
            raise SettingsInvalid(
                message=f"{SETTINGS_FILE}: [models.{name}] {key} = {value!r}; it must be {kind}"
            )
    variable = table.get("api_key_env", "")
    return NamedModel(**table, api_key=os.environ.get(variable, "") if variable else "")


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(_HTTP)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


_HTTP = ("http://", "https://")
_OF_MODELS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "base_url": ("a URL that starts with http(s)://", _is_url),
    "model": ("a string", _is_text),
    "api_key_env": ("the name of a variable", _is_text),
    "context_window": ("a number of tokens, 1 or more", _is_count),
    "max_output": ("a number of tokens, 1 or more", _is_count),
    "price_in": ("what a million tokens cost, 0 or more", _is_price),
    "price_out": ("what a million tokens cost, 0 or more", _is_price),
    "requests_per_second": ("a number above 0", _is_rate),
}
"""What a table may hold: what is said of a value that is not right, and whether it is."""
