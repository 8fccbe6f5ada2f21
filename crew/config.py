"""Settings: frozen, read once at a door, then passed as arguments."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

from crew.errors import SettingsInvalid

AgentsPlace = Literal["local", "ray"]

SETTINGS_FILE = Path("crew.toml")
DATA_FOLDER = Path(".crew")
MOST_PORT = 65_535
LOG_LEVELS = ("debug", "info", "warning")


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
    known = {item.name for item in fields(Settings)}
    values = _from_file(known) | _from_environment(known)
    values |= {name: value for name, value in arguments.items() if value is not None}
    if unknown := sorted(set(values) - known):
        raise SettingsInvalid(message=f"unknown setting {unknown[0]!r}; known: {sorted(known)}")
    if values.get("agents", "local") not in ("local", "ray"):
        raise SettingsInvalid(
            message=f"CREW_AGENTS is {values['agents']!r}; it must be 'local' or 'ray'"
        )
    if (url := values.get("base_url", "")) and not url.startswith(("http://", "https://")):
        raise SettingsInvalid(message=f"CREW_BASE_URL is {url!r}; it must start with http(s)://")
    if values.get("log", "") not in ("", *LOG_LEVELS):
        raise SettingsInvalid(
            message=f"CREW_LOG is {values['log']!r}; it must be one of {', '.join(LOG_LEVELS)}"
        )
    settings = Settings(**cast("dict[str, Any]", values | _lease(values)))
    _ = settings.ports
    return settings


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


def _from_file(known: set[str]) -> dict[str, str]:
    """Read `crew.toml`; unlike variables, which other programs may share, it is checked whole."""
    if not SETTINGS_FILE.is_file():
        return {}
    import tomllib

    try:
        values = tomllib.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(message=f"{SETTINGS_FILE} is not valid TOML: {error}") from error
    for name, value in values.items():
        if name not in known or not isinstance(value, str):
            raise SettingsInvalid(
                message=f"{SETTINGS_FILE}: {name} = {value!r} is not a setting; "
                f"known, each a string: {sorted(known)}"
            )
    return values
