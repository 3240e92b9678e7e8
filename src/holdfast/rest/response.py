"""A completed response that handles JSON."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any

from holdfast.errors import StatusError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.http.headers import Headers
    from holdfast.http.responses import Response as HTTPResponse

__all__ = ["Response", "ResponseError"]


class ResponseError(StatusError):
    """The status is not 2xx; ``body`` is the decoded body, ``reason`` the reason phrase."""

    response: HTTPResponse

    def __init__(self, message: str, response: Any = None, body: Any = None) -> None:
        super().__init__(message, response)
        self.body = body

    @property
    def status(self) -> int:
        """The status code."""
        return self.response.status_code

    @property
    def reason(self) -> str:
        """The reason phrase."""
        return self.response.reason_phrase


class Response:
    """A completed response: its body was read.

    Its truth is that the status is 2xx. Called, it returns the body, decoded from JSON when its
    type says so, and raises `ResponseError` for any other status.
    """

    __slots__ = ("_response",)

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response

    def __repr__(self) -> str:
        return f"<Response [{self.status} {self.reason}]>"

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status_code

    @property
    def reason(self) -> str:
        """The reason phrase."""
        return self._response.reason_phrase

    @property
    def headers(self) -> Headers:
        """The header fields, case-insensitive."""
        return self._response.headers

    @property
    def body(self) -> bytes:
        """The whole body; empty when it was written to a file."""
        return self._response.content  # type: ignore[no-any-return]

    @property
    def time(self) -> float:
        """The server's own time for it in seconds, from ``x-response-time``; NaN without."""
        try:
            return float(self.headers["x-response-time"])
        except (KeyError, ValueError):
            return nan

    @property
    def attempts(self) -> Sequence[Any]:
        """What it took: one `holdfast.Attempt` for each."""
        return self._response.attempts

    def __bool__(self) -> bool:
        return self._response.is_success

    def __call__(self) -> Any:
        """Return the decoded body; raises ResponseError, ValueError when JSON is damaged."""
        response = self._response
        if response.is_success:
            return self._decoded()
        try:
            body = self._decoded()
        except ValueError:
            body = self.body
        error = ResponseError(
            f"{self.status} {self.reason}: {response.request.method} "
            f"{response.url.partition('?')[0]}",
            response,
            body,
        )
        error.attempts = response.attempts
        raise error

    def _decoded(self) -> Any:
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self.body and (kind == "application/json" or kind.endswith("+json")):
            return self._response.json()
        return self.body
