"""Who may call: API keys, and without them this machine alone."""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from crew.errors import SettingsInvalid
from serving.access.keys import Key
from serving.http.errors import ApiError

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


def check_exposure(host: str, keys: Collection[object]) -> None:
    """Refuse to serve other machines without a key.

    Raises:
        SettingsInvalid: `host` is not a loopback address and there are no keys.
    """
    if not keys and not is_loopback(host):
        raise SettingsInvalid(
            message=f"serving on {host} lets other machines run workflows here, so it needs a "
            "key: give one with --api-key or --keys, or serve on 127.0.0.1"
        )


class Access:
    """The check of one request's headers.

    Args:
        keys: of those who may call; none: this machine alone.
        origins: of pages elsewhere that may call; see `serving.access.cors`.
    """

    def __init__(self, keys: Sequence[Key] = (), *, origins: Collection[str] = ()) -> None:
        self._origins = frozenset(origins)
        self._keys = [(bytes.fromhex(key.sha256), key) for key in keys]

    def caller(self, *, authorization: str, host: str, origin: str) -> Key | None:
        """Return the key of who calls; None where no key is needed.

        Without keys the browser is the way in: a page whose name was made to resolve to this
        machine (DNS rebinding) is told by its `Host`, any other foreign page by its `Origin`.

        Raises:
            ApiError: 401 or 403; who calls may not.
        """
        if self._keys:
            return self._holder(authorization)
        if not is_loopback(_host_name(f"//{host}")):
            raise _elsewhere(f"without a key only this machine may call, not under {host!r:.99}")
        if origin and origin not in self._origins and not is_loopback(_host_name(origin)):
            raise _elsewhere(
                f"without a key a page of {origin!r:.99} may not call; allow it with --cors"
            )
        return None

    def _holder(self, authorization: str) -> Key:
        scheme, _, secret = authorization.partition(" ")
        given = hashlib.sha256(secret.strip().encode()).digest()
        # Every key is compared, each in constant time: nothing is learned from how long it took.
        matches = [key for known, key in self._keys if hmac.compare_digest(given, known)]
        if scheme.lower() != "bearer" or not matches:
            raise ApiError(
                status=401,
                message="this endpoint needs a key: send it as 'Authorization: Bearer <key>'",
                type="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return matches[0]


def _elsewhere(message: str) -> ApiError:
    return ApiError(status=403, message=message, type="permission_error", code="host_not_allowed")


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
