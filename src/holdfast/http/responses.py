"""A response, with the attribute names of requests and httpx."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from holdfast.errors import InvalidRequest, StatusError
from holdfast.http.attempts import Attempt
from holdfast.http.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.http.origins import Origin
    from holdfast.http.requests import Request
    from holdfast.wire.http1 import Message

__all__ = ["Response"]


class Response:
    """A response whose body was read.

    ``attempts`` tells what it took: one entry for each attempt of the call. ``history`` holds the
    redirects that led here, oldest first. ``content`` is the decoded body: bytes, or, when a
    buffer was given, a memoryview of the part of it that was filled.
    """

    # Defaults, so that an ordinary response sets only what it has.
    content: Any = b""
    history: Sequence[Response] = ()
    seconds = 0.0
    reader: Any = None
    #: The only attempt's endpoint, or all attempts.
    tried: str | Sequence[Attempt] = ()
    _headers: Headers | None = None

    def __init__(self, request: Request, origin: Origin, message: Message) -> None:
        self.request = request
        self.origin = origin
        self.status_code = message.status
        self._message = message

    def __repr__(self) -> str:
        return f"<Response [{self.status_code} {self.reason_phrase}]>"

    @property
    def attempts(self) -> Sequence[Attempt]:
        """What it took: the attempts of the call, the last one of which is this response."""
        if isinstance(self.tried, str):
            # The ordinary call succeeds at once, and hardly anybody asks how.
            self.tried = (Attempt(1, self.tried, 0.0, self.seconds, self.status_code),)
        return self.tried

    @property
    def headers(self) -> Headers:
        """The header fields, case-insensitive."""
        if self._headers is None:
            self._headers = Headers.from_raw(self._message.headers)
        return self._headers

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The header fields as they came."""
        return list(self._message.headers)

    def raw_header(self, name: bytes) -> bytes | None:
        """Return one header field as it came, by its name in lower case; the first of several."""
        return self._message.field(name)

    @property
    def reason_phrase(self) -> str:
        """The reason phrase, the standard's own when the server gave none."""
        if self._message.reason:
            return self._message.reason.decode("latin-1")
        try:
            return HTTPStatus(self.status_code).phrase
        except ValueError:
            return ""

    reason = reason_phrase

    @property
    def http_version(self) -> str:
        """``HTTP/1.1`` or ``HTTP/1.0``."""
        return f"HTTP/{self._message.version}"

    @property
    def url(self) -> str:
        """The URL that answered, without credentials."""
        return self.origin.url + self.request.target

    @property
    def elapsed(self) -> timedelta:
        """The time of the whole call, retries and waits included."""
        return timedelta(seconds=self.seconds)

    @property
    def ok(self) -> bool:
        """Whether the status is no error (below 400), as in requests."""
        return self.status_code < 400

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx, as in httpx."""
        return 200 <= self.status_code < 300

    @property
    def is_redirect(self) -> bool:
        """Whether it is a redirect with a place to go to."""
        return self.status_code in (301, 302, 303, 307, 308) and "location" in self.headers

    @property
    def encoding(self) -> str:
        """The character set of the text: from the Content-Type, UTF-8 without."""
        for part in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'") or "utf-8"
        return "utf-8"

    @property
    def text(self) -> str:
        """The body as text; what cannot be decoded is replaced."""
        try:
            return str(self.content, self.encoding, "replace")
        except (LookupError, ValueError):  # a character set that is none, or none for text
            return str(self.content, "utf-8", "replace")

    def json(self) -> Any:
        """Return the body decoded from JSON; raises ValueError when it is none."""
        return orjson.loads(self.content)

    def raise_for_status(self) -> Response:
        """Return the response itself, or raise StatusError for 4xx and 5xx."""
        if self.status_code >= 400:
            kind = "client" if self.status_code < 500 else "server"
            error = StatusError(
                f"{self.status_code} {self.reason_phrase}: {kind} error for "
                f"{self.request.method} {self.url.partition('?')[0]}",
                self,
            )
            error.attempts = self.attempts
            raise error
        return self

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Iterate over the body in pieces of ``chunk_size`` bytes, by default in one."""
        content = bytes(self.content)
        if chunk_size is not None and chunk_size < 1:
            raise InvalidRequest(f"chunk_size is a number of bytes, from 1, not {chunk_size!r}")
        size = chunk_size or max(len(content), 1)
        for start in range(0, len(content), size):
            yield content[start : start + size]
