"""The file of keys: who may call, for which tenant, in which roles, and within which limits.

Only hashes are kept. A secret has 256 random bits, so a plain SHA-256 of it cannot be searched.
"""

import fcntl
import hashlib
import json
import os
import stat
import tomllib
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Annotated, TextIO

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from crew.budget import Budget
from crew.errors import InputInvalid, SettingsInvalid

__all__ = ["UNVERIFIED", "Key", "add_key", "default_keys", "key_of", "load_keys", "new_key"]

UNVERIFIED = "unverified"
"""Who answers where no key says it; no key is called so."""


def _named(name: str) -> str:
    if name == UNVERIFIED:
        raise ValueError("this stands for whoever answers without a key; choose another name")
    return name


def _printable(role: str) -> str:
    if not role.isprintable():
        raise ValueError("a role is printable characters")
    return role


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Role = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
Limit = Annotated[int, Field(ge=1, le=10**12)]


class Key(BaseModel):
    """One key; a limit that is not given does not exist.

    Its holder answers questions that are for nobody in particular, for its `name`, or for one of
    its `roles`. `streams` counts answers that are open at once, streamed or waited for. `open_runs`
    counts the runs of the whole tenant that have not ended, children too.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    name: Annotated[Name, AfterValidator(_named)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(repr=False)
    tenant: Name
    roles: list[Role] = []
    requests_per_minute: Limit | None = None
    streams: Limit | None = None
    open_runs: Limit | None = None
    tokens_per_run: Limit | None = None
    calls_per_run: Limit | None = None
    seconds_per_run: Limit | None = None
    money_per_run: Annotated[float, Field(gt=0, le=10**12)] | None = None

    @property
    def addresses(self) -> frozenset[str]:
        """What a question may be for that its holder answers."""
        return frozenset((self.name, *self.roles))

    @property
    def budget(self) -> Budget | None:
        """What each run may spend; None without such a limit."""
        tokens, calls, seconds = self.tokens_per_run, self.calls_per_run, self.seconds_per_run
        if tokens is calls is seconds is self.money_per_run is None:
            return None
        return Budget(tokens=tokens, calls=calls, seconds=seconds, money=self.money_per_run)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    keys: list[Key] = []


def key_of(secret: str, *, name: str, tenant: str, roles: Sequence[str] = ()) -> Key:
    """Return a key without limits.

    Raises:
        InputInvalid: the name or the tenant is not 1 to 64 of the characters A-Z a-z 0-9 . _ -, or
            a role not 1 to 64 printable ones.
    """
    digest = hashlib.sha256(secret.encode()).hexdigest()
    try:
        return Key(name=name, tenant=tenant, sha256=digest, roles=list(roles))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputInvalid(message=_refused(first["loc"][0], first["type"])) from error


def _refused(field: object, why: str) -> str:
    if field == "roles":
        return "a role must be 1 to 64 printable characters"
    if why == "value_error":
        return f"a key cannot be called {UNVERIFIED!r}: that is whoever answers without one"
    return f"{field} must be 1 to 64 of the characters A-Z a-z 0-9 . _ -, a letter or digit first"


def default_keys(secrets: Sequence[str]) -> list[Key]:
    """Return the keys of the tenant `default` that these secrets are, without limits."""
    return [
        key_of(secret, name=f"api-key-{number}", tenant="default")
        for number, secret in enumerate(secrets, 1)
    ]


def load_keys(file: Path) -> list[Key]:
    """Read a file of keys.

    Raises:
        SettingsInvalid: it is not there, others may read it, or it does not say what it must.
    """
    try:
        with file.open(encoding="utf-8") as stream:
            keys = _checked(file, stream)
    except OSError as error:
        raise SettingsInvalid(
            message=f"{file}: {error.strerror}; make it with: crew keys new --file {file}"
        ) from error
    if not keys:
        raise SettingsInvalid(
            message=f"{file} holds no key; make one with: crew keys new --file {file}"
        )
    return keys


def new_key(
    file: Path, *, tenant: str, name: str | None = None, roles: Sequence[str] = ()
) -> tuple[Key, str]:
    """Make a key and append it to the file; return it and its secret, which is kept nowhere.

    Raises:
        InputInvalid: the name, the tenant or a role cannot be used, or the name is taken.
        SettingsInvalid: the file cannot be written, others may read it, or it is not well formed.
    """
    secret = f"crew_{token_urlsafe(32)}"
    key = key_of(secret, name=name or f"key-{token_hex(4)}", tenant=tenant, roles=roles)
    add_key(file, key)
    return key, secret


def add_key(file: Path, key: Key) -> None:
    """Append a key to the file, which is made if it is not there.

    Raises:
        InputInvalid: its name is taken.
        SettingsInvalid: the file cannot be written, others may read it, or it is not well formed.
    """
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsInvalid(message=f"{file} cannot be written: {error.strerror}") from error
    with os.fdopen(handle, "r+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # two commands at once
        if key.name in {item.name for item in _checked(file, stream)}:
            raise InputInvalid(message=f"{file} has a key {key.name!r}; choose another --name")
        stream.seek(0, os.SEEK_END)
        stream.write(("\n" if stream.tell() else "") + _entry(key))


def _entry(key: Key) -> str:
    # TOML writes printable texts, and lists of them, as JSON does.
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in key.model_dump(exclude_defaults=True).items()
    ]
    return "\n".join(["[[keys]]", *lines, ""])


def _checked(file: Path, stream: TextIO) -> list[Key]:
    if (mode := stat.S_IMODE(os.fstat(stream.fileno()).st_mode)) & 0o077:
        raise SettingsInvalid(
            message=f"{file} may be used by others (mode {mode:04o}); set it: chmod 600 {file}"
        )
    try:
        keys = _File.model_validate(tomllib.loads(stream.read())).keys
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(message=f"{file} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise SettingsInvalid(message=f"{file}: {_problem(error)}") from error
    _refuse_twins(file, keys)
    return keys


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{place} is not known; a key has: {', '.join(Key.model_fields)}"
    return f"{place}: {first['msg']}"


def _refuse_twins(file: Path, keys: Sequence[Key]) -> None:
    for field in ("name", "sha256"):
        values = [getattr(key, field) for key in keys]
        if twins := {value for value in values if values.count(value) > 1}:
            raise SettingsInvalid(
                message=f"{file}: two keys have the {field} {min(twins)!r}; remove one of them"
            )
