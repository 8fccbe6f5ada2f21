"""Names of conversations: a thread's name, and one that says by itself that it was made here."""

import hashlib
import re
import secrets

from serving.http.errors import ApiError

__all__ = ["keyed_conversation", "made_at", "new_conversation", "thread_name"]

_MADE = re.compile(r"conv_([0-9a-f]{8})([0-9a-f]{32})([0-9a-f]{8})")


def thread_name(place: str, value: object) -> str:
    """Check the name of a thread that a request gives at `place`.

    Raises:
        ApiError: it is none.
    """
    if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable():
        return value
    raise ApiError(
        status=400,
        message=f"{place} must be a string of 1 to 256 printable characters",
        param=place,
        code="invalid_value" if isinstance(value, str) else "invalid_type",
    )


def new_conversation(tenant: str, now: float) -> str:
    """Make the name of a conversation that is still empty.

    It holds when it was made, and for whom: an empty conversation needs no storage.
    """
    made, rest = f"{int(now):08x}", secrets.token_hex(16)
    return f"conv_{made}{rest}{_mark(tenant, made + rest)}"


def keyed_conversation(tenant: str, model: str, key: str) -> str:
    """Return the name of the conversation that a request with an idempotency key begins.

    It is the same when the request is sent again.
    """
    made = hashlib.sha256(f"{tenant}\0{model}\0{key}".encode()).hexdigest()
    return f"conv_{made[:48]}"


def made_at(tenant: str, name: str) -> int | None:
    """Return when a name was made for this tenant, in unix seconds; None if it was not."""
    found = _MADE.fullmatch(name)
    if found is None or found[3] != _mark(tenant, found[1] + found[2]):
        return None
    return int(found[1], 16)


def _mark(tenant: str, made: str) -> str:
    # No secret: what a tenant may see is decided by its rows, this only tells names apart.
    return hashlib.sha256(f"{tenant}\0{made}".encode()).hexdigest()[:8]
