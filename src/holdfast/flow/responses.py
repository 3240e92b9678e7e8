"""What `respond` returns: a response as a named tuple."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.http.headers import Headers

__all__ = ["Response", "attrify"]


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
