"""HTTP proxies: which one to use for which host."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass

from holdfast.errors import InvalidRequest
from holdfast.http.origins import Origin

__all__ = ["Proxies", "Proxy"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: plain requests go to it in absolute form, TLS through a CONNECT tunnel."""

    origin: Origin

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What the proxy, and nobody else, is told."""
        if self.origin.credentials is None:
            return []
        return [("Proxy-Authorization", self.origin.credentials)]


class Proxies:
    """Chooses the proxy of an origin.

    ``proxy`` is the proxy's URL (``http://user:password@host:port``). ``no_proxy`` names hosts
    that are called directly, as a list or with commas between: a domain with all below it, an
    address, a network such as 10.0.0.0/8, each with a port perhaps, or ``*``. With ``trust_env``
    the variables http_proxy, https_proxy, all_proxy and no_proxy are read where the arguments are
    not given (HTTP_PROXY in capitals is not: a CGI request could set it).
    """

    def __init__(
        self,
        proxy: str | None = None,
        no_proxy: str | Iterable[str] | None = None,
        trust_env: bool = False,
    ) -> None:
        environ = os.environ if trust_env else {}
        every = proxy or environ.get("all_proxy") or environ.get("ALL_PROXY")
        self._by_scheme = {
            "http": _parsed(proxy or environ.get("http_proxy") or every),
            "https": _parsed(
                proxy or environ.get("https_proxy") or environ.get("HTTPS_PROXY") or every
            ),
        }
        if no_proxy is None:
            no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        names = no_proxy.split(",") if isinstance(no_proxy, str) else no_proxy
        self._direct = [name.strip().lower() for name in names if name.strip()]

    def of(self, origin: Origin) -> Proxy | None:
        """Return the proxy for an origin, None to call it directly."""
        proxy = self._by_scheme[origin.scheme]
        if proxy is None or origin.unix is not None:
            return None
        if any(_matches(entry, origin) for entry in self._direct):
            return None
        return proxy


def _parsed(url: str | None) -> Proxy | None:
    if not url:
        return None
    origin = Origin.parse(url)
    if origin.scheme != "http" or origin.unix is not None:
        raise InvalidRequest("a proxy is an http:// URL; https is tunnelled through it")
    return Proxy(origin)


def _matches(entry: str, origin: Origin) -> bool:
    if entry == "*":
        return True
    host, port = _split_port(entry)
    if port is not None and port != origin.port:
        return False
    try:
        address = ipaddress.ip_address(origin.host)
    except ValueError:
        domain = host.lstrip("*").lstrip(".")
        return origin.host == domain or origin.host.endswith("." + domain)
    try:
        return address in ipaddress.ip_network(host.strip("[]"), strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.endswith("]")):
        return host, int(port)
    return entry, None
