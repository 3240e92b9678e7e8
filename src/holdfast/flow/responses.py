"""Responses: the dictionaries of the queue, and the named tuple that `respond` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.http.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.flow.requesting import Requester
    from holdfast.flow.responding import Respondent

__all__ = ["Response", "answered", "asked", "attrify", "refused"]


class Response(NamedTuple):
    """A response, or what went wrong instead of one.

    ``version`` is ``(1, 1)`` or ``(1, 0)``; ``headers`` are case-insensitive; ``data`` is the body
    parsed, when its type is JSON. ``request`` is what was asked, with what was given to ride along.
    When ``errored``, ``error`` says why, and what did not come is None.
    """

    version: tuple[int, int] | None
    status: int | None
    reason: str | None
    headers: Headers
    body: bytearray
    data: Any
    request: dict[str, Any]
    errored: bool
    error: str | None


def attrify(response: Mapping[str, Any]) -> Response:
    """Return a response that is a dict as a named tuple; other keys than its own are left out."""
    return Response(**{name: response[name] for name in Response._fields})


def asked(requester: Requester) -> dict[str, Any]:
    """Return the request that a requester has just built, as its response tells it."""
    return {
        "host": requester.hostname,
        "port": requester.port,
        "scheme": requester.scheme,
        "method": requester.method,
        "path": requester.path,
        "fragment": requester.fragment,
        "qargs": requester.qargs,
        "headers": requester.headers,
        "body": requester.body,
        "data": requester.data,
        "fargs": requester.fargs,
    }


def answered(respondent: Respondent, request: dict[str, Any]) -> dict[str, Any]:
    """Return the response that a respondent has found, to a request."""
    headers = respondent.headers
    return {
        "version": respondent.version,
        "status": respondent.status,
        "reason": respondent.reason,
        "headers": headers if headers is not None else Headers(),
        "body": respondent.body,
        "data": respondent.data,
        "request": request,
        "errored": respondent.errored,
        "error": respondent.error,
    }


def refused(given: dict[str, Any], reason: object) -> dict[str, Any]:
    """Return the response to what could not be sent."""
    return {
        **dict.fromkeys(Response._fields),
        "headers": Headers(),
        "body": bytearray(),
        "request": given,
        "errored": True,
        "error": f"it makes no request: {reason}",
    }
