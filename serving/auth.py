"""Who may call: API keys, and without them this machine alone."""

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from crew.errors import SettingsInvalid

__all__ = ["Access", "check_exposure", "is_loopback"]

_LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can only be reached from this machine."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, api_keys: Sequence[str]) -> None:
    """Refuse to serve other machines without a key.

    Raises:
        SettingsInvalid: `host` is not a loopback address and there are no keys.
    """
    if not api_keys and not is_loopback(host):
        raise SettingsInvalid(
            message=f"serving on {host} lets other machines run workflows here, so it needs a "
            "key: give one with --api-key, or serve on 127.0.0.1"
        )


class Access:
    """The check of one request's headers; keys are kept as hashes."""

    def __init__(self, api_keys: Sequence[str]) -> None:
        self._hashes = [hashlib.sha256(key.encode()).digest() for key in api_keys]

    def refusal(self, *, authorization: str, host: str, origin: str) -> tuple[int, str] | None:
        """Say why a request is refused: a status and a sentence; None when it may pass.

        Without keys the browser is the way in: a page whose name was made to resolve to this
        machine (DNS rebinding) is told by its `Host`, any other foreign page by its `Origin`.
        """
        if self._hashes:
            return None if self._knows(authorization) else (401, _NEEDS_KEY)
        if not is_loopback(_host_name(f"//{host}")):
            return 403, f"without a key only this machine may call, not under the name {host!r}"
        if origin and not is_loopback(_host_name(origin)):
            return 403, f"without a key a page of {origin!r} may not call"
        return None

    def _knows(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        # Every key is compared, each in constant time: nothing is learned from how long it took.
        matches = [hmac.compare_digest(given, known) for known in self._hashes]
        return scheme.lower() == "bearer" and any(matches)


_NEEDS_KEY = "this endpoint needs a key: send it as 'Authorization: Bearer <key>'"


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
