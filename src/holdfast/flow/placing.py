"""Where a client is, and what it asks there, from the arguments that it was made with.

A URL wins over what is said apart; a connector is where it is, and a URL beside it may lead nowhere
else; a requester alone says where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from holdfast.flow.requesting import Requester
from holdfast.flow.responding import Respondent
from holdfast.flow.secure import TLSConnector
from holdfast.flow.targets import split_host
from holdfast.http.headers import Headers, pairs
from holdfast.http.origins import PORTS, basic_auth

if TYPE_CHECKING:
    from collections.abc import MutableSequence

    from holdfast.flow.connecting import Connector
    from holdfast.http.headers import HeaderTypes

__all__ = ["Place", "placed", "ready_requester", "ready_respondent"]


class Place(NamedTuple):
    """Where a client is, and the path and the headers that are left once that is known."""

    scheme: str
    hostname: str
    port: int
    path: str
    headers: HeaderTypes | None


def placed(
    path: str,
    scheme: str,
    hostname: str,
    port: int | None,
    headers: HeaderTypes | None,
    connector: Connector | None,
    requester: Requester | None,
) -> Place:
    """Return where all of these together say that a client is.

    A user and password in a URL become a header, unless there is one. Raises ValueError for
    another scheme than http and https, and when a URL leads elsewhere than the connector.
    """
    parts = urlsplit(path)
    if parts.netloc:
        scheme = parts.scheme or scheme
        hostname = parts.hostname or hostname
        port = parts.port or port
        path = urlunsplit(("", "", parts.path or "/", parts.query, parts.fragment))
        if parts.username is not None and "authorization" not in Headers(headers):
            value = basic_auth(unquote(parts.username), unquote(parts.password or ""))
            headers = [*pairs(headers), ("Authorization", value)]
    if connector is not None:
        _check_place(connector, scheme, parts.hostname, parts.port)
        hostname, port = connector.hostname, connector.port
        scheme = scheme or ("https" if isinstance(connector, TLSConnector) else "http")
    elif requester is not None and (scheme, hostname, port) == ("", "127.0.0.1", None):
        scheme, hostname, port = requester.scheme, requester.hostname, requester.port
    scheme = scheme.lower() or "http"
    if scheme not in PORTS:
        raise ValueError(f"the scheme is http or https, not {scheme!r}")
    hostname, named = split_host(hostname)
    return Place(scheme, hostname, named or port or PORTS[scheme], path, headers)


def _check_place(connector: Connector, scheme: str, hostname: str | None, port: int | None) -> None:
    """Raise ValueError when a URL leads elsewhere than the connector that is given with it."""
    speaks = "https" if isinstance(connector, TLSConnector) else "http"
    if scheme and scheme.lower() != speaks:
        raise ValueError(f"the connector is for {speaks}, not for {scheme}")
    if hostname is not None and (hostname, port or PORTS[speaks]) != (
        connector.host,
        connector.port,
    ):
        raise ValueError(f"the connector is for {connector.where}, not for {hostname}")


def ready_requester(place: Place, requester: Requester | None, **kwa: Any) -> Requester:
    """Return a requester for a place: the given one, which keeps all else, or one of ``kwa``."""
    if requester is None:
        return Requester(
            hostname=place.hostname,
            port=place.port,
            scheme=place.scheme,
            path=place.path,
            headers=place.headers,
            **kwa,
        )
    requester.reinit(
        place.hostname,
        place.port,
        place.scheme,
        body=requester.body,
        data=requester.data,
        fargs=requester.fargs,
    )
    return requester


def ready_respondent(
    respondent: Respondent | None,
    *,
    msg: bytearray,
    redirects: MutableSequence[dict[str, Any]],
    events: MutableSequence[dict[str, Any]],
    redirectable: bool,
    dictable: bool | None,
    method: str,
) -> Respondent:
    """Return a respondent, the given one or another, with the client's buffer and queues."""
    if respondent is None:
        return Respondent(
            redirects=redirects,
            redirectable=redirectable,
            events=events,
            msg=msg,
            dictable=dictable,
            method=method,
        )
    respondent.msg = msg
    respondent.redirects = redirects
    respondent.events = events
    respondent.redirectable = respondent.redirectable and bool(redirectable)
    if dictable is not None:
        respondent.dictable = bool(dictable)
    return respondent
