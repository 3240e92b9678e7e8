"""Where a redirect leads, and with which request (RFC 9110 15.4)."""

from __future__ import annotations

from string import printable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from holdfast.flow.contents import as_dict
from holdfast.flow.targets import take_apart
from holdfast.http.headers import pairs, stays
from holdfast.http.origins import PORTS

if TYPE_CHECKING:
    from holdfast.flow.requesting import Requester

__all__ = ["destination"]


def destination(requester: Requester, status: int, location: str) -> tuple[dict[str, Any], str]:
    """Return the arguments of the request to send instead of the requester's last one.

    The second is its target, as the location has it: what is in it may be signed, so it is not
    to be made from path and query again. Raises ValueError when it leads nowhere, or from https
    to http.
    """
    if not location.isascii():
        location = quote(location.encode("latin-1"), safe=printable)
    host = f"[{requester.hostname}]" if ":" in requester.hostname else requester.hostname
    here = f"{requester.scheme}://{host}:{requester.port}{quote(requester.path, safe='/%')}"
    parts = urlsplit(urljoin(here, location))
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"it redirects to nowhere: {location[:200]!r}")
    if requester.scheme == "https" and parts.scheme == "http":
        raise ValueError("it redirects from https to http")
    port = parts.port or PORTS[parts.scheme]
    method = requester.method
    headers = pairs(requester.headers)
    body, data, fargs = requester.body, requester.data, requester.fargs
    drop = set()
    if method != "HEAD" and (status == 303 or (status in (301, 302) and method == "POST")):
        method = "GET"
    if method == "GET":
        body, data, fargs = b"", None, None
        drop |= {"content-length", "content-type", "transfer-encoding"}
    if (parts.scheme, parts.hostname, port) != (
        requester.scheme,
        requester.hostname.lower().strip("[]"),
        requester.port,
    ):
        headers = [(name, value) for name, value in headers if not stays(name)]
    path = parts.path or "/"
    arguments = {
        "scheme": parts.scheme,
        "hostname": parts.hostname,
        "port": port,
        "method": method,
        "path": path,
        "qargs": as_dict(take_apart(f"/?{parts.query}").query),
        "fragment": "",  # that of a location is for the reader, and never sent (RFC 9110 10.2.2)
        "headers": [(name, value) for name, value in headers if name.lower() not in drop],
        "body": body,
        "data": data,
        "fargs": fargs,
    }
    # Servers that mean it well leave blanks as they are; anything else is for others to refuse.
    target = f"{path}?{parts.query}" if parts.query else path
    return arguments, target.replace(" ", "%20")
