"""What a request of a call may be told, in every mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.errors import InvalidRequest
from holdfast.http.headers import Headers
from holdfast.http.limits import Timeout
from holdfast.http.origins import basic_auth
from holdfast.http.redirects import DEFAULT
from holdfast.http.requests import Request

if TYPE_CHECKING:
    from holdfast.http.bodies import Body

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `Http.request`; raises InvalidRequest for what makes no sense."""

    headers: Any = None
    params: Any = None
    data: Any = None
    persistent: bool = True
    allow_redirects: bool = True
    auth: tuple[str, str] | None = None
    timeout: float | None = None
    idempotent: bool | None = None

    def __post_init__(self) -> None:
        timeout: object = self.timeout
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0
        ):
            raise InvalidRequest(f"timeout is seconds above 0, or None, not {timeout!r}")

    def request(
        self,
        method: str,
        target: str,
        connect_timeout: float | None,
        body: Body | None = None,
        *,
        closing: bool = False,
    ) -> Request:
        """Return the request; ``closing`` tells the server that the connection is not kept."""
        headers = list(_fields(self.headers))
        if self.auth is not None:
            # Instead of another one, not beside it: who got two might believe either.
            headers = [field for field in headers if field[0].lower() != "authorization"]
            headers.append(("Authorization", _authorization(self.auth)))
        if closing:
            headers = [field for field in headers if field[0].lower() != "connection"]
            headers.append(("Connection", "close"))
        return Request(
            method,
            target,
            Timeout(total=None, connect=connect_timeout),
            DEFAULT if self.allow_redirects else 0,
            params=self.params,
            headers=headers,
            body=body,
            idempotent=self.idempotent,
        )


def _fields(headers: Any) -> Iterator[tuple[str, str]]:
    """Return header fields: those of Twisted's ``Headers``, of a mapping or of pairs.

    A list of values is a field for each; bytes are what they are on the wire.
    """
    if headers is None:
        return
    raw = getattr(headers, "getAllRawHeaders", None)
    if raw is not None:
        headers = raw()
    elif isinstance(headers, Headers):
        headers = headers.multi_items()
    elif isinstance(headers, Mapping):
        headers = headers.items()
    try:
        fields = [(name, value) for name, value in headers]
    except (TypeError, ValueError):
        raise InvalidRequest("headers are a mapping, or pairs of a name and a value") from None
    for name, value in fields:
        for one in value if isinstance(value, list | tuple) else (value,):
            yield _text(name), _text(one)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str | int | float):
        return str(value)
    raise InvalidRequest(f"a header is made of strings, not {type(value).__name__}")


def _authorization(auth: Any) -> str:
    try:
        user, password = auth
        return basic_auth(user, password)
    except (TypeError, ValueError):
        raise InvalidRequest("auth is (user, password)") from None
