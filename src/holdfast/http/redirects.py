"""Redirects (RFC 9110 15.4): where to go next, and with what."""

from __future__ import annotations

import copy
from dataclasses import replace
from string import printable
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from holdfast.errors import InvalidRequest, ProtocolError, TooManyRedirects
from holdfast.http.exchange import Started, exchange
from holdfast.http.headers import stays
from holdfast.http.origins import Origin
from holdfast.http.requests import quoted_target

if TYPE_CHECKING:
    from holdfast.http.pools import ConnectionPool
    from holdfast.http.requests import Request
    from holdfast.http.responses import Response
    from holdfast.ops import Program

__all__ = ["fetch"]

#: How many are followed when the caller just says "follow", as in httpx.
DEFAULT = 20


def fetch(
    pool: ConnectionPool, request: Request, deadline: float, started: Started | None = None
) -> Program[Response]:
    """Exchange a request for a response, following as many redirects as the request allows.

    Raises TooManyRedirects beyond that, and what `exchange` raises.
    """
    history: list[Response] = []
    while True:
        response: Response = yield from exchange(pool, request, deadline, started)
        if not request.redirects or not response.is_redirect:
            response.history = history
            return response
        if response.reader is not None:
            response.reader.close()
        history.append(response)
        if len(history) > request.redirects:
            raise TooManyRedirects(
                f"{pool.name}: more than {request.redirects} redirects, "
                f"the last one from {response.url.partition('?')[0]}"
            )
        started = None
        pool, request = _next(pool, request, response)


def _next(
    pool: ConnectionPool, request: Request, response: Response
) -> tuple[ConnectionPool, Request]:
    origin = response.origin
    location = _quoted(response.headers["location"])
    here = (
        f"http://{origin.netloc}"
        if origin.unix is not None
        else f"{origin.scheme}://{origin.netloc}"
    )
    try:
        parts = urlsplit(urljoin(here + origin.base + request.target, location))
        if parts.scheme not in ("http", "https"):
            # Above all no Unix socket: a host of the network must not lead to those of this one.
            raise InvalidRequest(f"the scheme is http or https, not {parts.scheme[:40]!r}")
        netloc = parts.netloc.rpartition("@")[2]
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        there = Origin.parse(f"{parts.scheme}://{netloc}")
        if there == origin.unscoped and there != origin:
            there = replace(there, host=origin.host)  # whose zone nobody else has been told
        following = copy.copy(request)
        following.target = quoted_target(target)
        following.drop(())
    except ValueError as error:
        raise ProtocolError(f"{origin.name}: a redirect to nowhere: {error}") from None
    if request.method != "HEAD" and (
        response.status_code == 303
        or (response.status_code in (301, 302) and request.method == "POST")
    ):
        following.become_get()
    if not following.replayable:
        raise InvalidRequest(
            f"{origin.name}: it redirects with {response.status_code}, but the body cannot be "
            "sent again"
        )
    if there.same(origin) or (origin.unix is not None and there.url == here):
        base = origin.base + "/"
        if following.target.startswith(base) or not origin.base:
            following.target = following.target.removeprefix(origin.base)
            return pool, following
        return pool.transport.route(_without_base(origin), trusted=True), following
    following.drop({name for name in following.names if stays(name)})
    return pool.transport.route(there, trusted=False), following


def _quoted(location: str) -> str:
    """Return a location with what is not ASCII, as some servers send it, quoted byte by byte."""
    if location.isascii():
        return location
    return quote(location.encode("latin-1"), safe=printable)


def _without_base(origin: Origin) -> Origin:
    return Origin(origin.scheme, origin.host, origin.port, "", origin.unix, origin.credentials)
