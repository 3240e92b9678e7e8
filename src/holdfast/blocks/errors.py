"""What goes wrong with blocks: the errors of the Arvados SDK, by their names."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from holdfast.errors import HoldfastError, InvalidRequest
from holdfast.telemetry.redaction import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "HttpError",
    "KeepCacheError",
    "KeepReadError",
    "KeepRequestError",
    "KeepWriteError",
    "NotFoundError",
]


class ArgumentError(InvalidRequest):
    """The arguments, or the settings, make no request that can be sent."""


class HttpError(HoldfastError, OSError):
    """A service answered with a status that is an error.

    ``reason``: the reason phrase. ``detail``: the line of text that came with it.
    """

    def __init__(self, status_code: int, reason: str, detail: str = "") -> None:
        text = f"{status_code} {reason}"
        super().__init__(f"{text} ({detail})" if detail else text)
        self.status_code = status_code
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[HttpError], tuple[int, str, str]]:
        return type(self), (self.status_code, self.reason, self.detail)


class KeepRequestError(HoldfastError, OSError):
    """No service, or not enough of them, did what was asked for.

    ``request_errors``: pairs of a service's URL and its error, in the order in which the services
    were asked. ``label``: what the URLs are those of. ``request_id``: the ``X-Request-Id`` of all
    requests.
    """

    def __init__(
        self,
        message: str = "",
        request_errors: Iterable[tuple[str, Exception]] = (),
        label: str = "service",
        request_id: str = "",
    ) -> None:
        self._request_errors = OrderedDict(request_errors)
        self.label = label
        self.request_id = request_id
        self.message = message
        text = f"[{request_id}] {message}" if request_id else message
        if self._request_errors:
            told = [self._told(root, error) for root, error in self._request_errors.items()]
            text = f"{text}: {'; '.join(told)}"
        super().__init__(text)

    def __reduce__(self) -> tuple[type[KeepRequestError], tuple[object, ...]]:
        return type(self), (
            self.message,
            tuple(self._request_errors.items()),
            self.label,
            self.request_id,
        )

    def _told(self, root: str, error: Exception) -> str:
        if isinstance(error, HttpError):
            return f"{self.label} {root} responded with {error}"
        text = str(getattr(error, "summary", error))
        return f"{self.label} {root} raised {type(error).__name__} ({escaped(text)})"

    def request_errors(self) -> OrderedDict[str, Exception]:
        """Return the error of each service, by its URL, in the order they were asked."""
        return self._request_errors


class KeepReadError(KeepRequestError):
    """No service gave the block."""


class NotFoundError(KeepReadError):
    """No service has the block."""


class KeepWriteError(KeepRequestError):
    """Fewer copies were written than asked for."""


class KeepCacheError(KeepRequestError):
    """The folder of a cache cannot be used."""
