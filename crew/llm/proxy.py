"""The proxy between this process and an endpoint, as the environment's variables say."""

import ipaddress
from urllib.parse import urlsplit

__all__ = ["is_on_this_machine", "proxy_to"]


def is_on_this_machine(base_url: str) -> bool:
    """Return whether an endpoint is on this machine, which no proxy would reach."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def proxy_to(base_url: str) -> str:
    """Return the proxy that requests to an endpoint go through, without its password; or nothing.

    Read as by the HTTP client: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, and `NO_PROXY`.
    """
    # Only where a call has failed: it is much to import for the names of some variables.
    from urllib.request import getproxies, proxy_bypass

    url, proxies = urlsplit(base_url), getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all") or ""
    if not proxy or is_on_this_machine(base_url) or proxy_bypass(url.netloc):
        return ""
    head, mark, rest = proxy.rpartition("@")
    return f"{head.partition('://')[0]}://…@{rest}" if mark else proxy
