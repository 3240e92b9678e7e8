"""One tree of exceptions; each knows what was tried.

Where Python people expect an ``OSError`` (the network) or a ``ValueError`` (the arguments), ours
are subclasses of it. ``str`` of an error says what failed and lists the attempts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AdmissionRejected",
    "AttemptTimeout",
    "CallTimeout",
    "CertificateError",
    "CircuitOpenError",
    "ConnectError",
    "ConnectTimeout",
    "DeadlineExceeded",
    "DecodingError",
    "HoldfastError",
    "InvalidRequest",
    "LimitExceeded",
    "NetworkError",
    "NoEndpointError",
    "ProtocolError",
    "ProxyError",
    "RateLimited",
    "ReadTimeout",
    "ResolveError",
    "StatusError",
    "TooLarge",
    "TooManyRedirects",
    "TooSlow",
    "Truncated",
]


class HoldfastError(Exception):
    """The base of every exception of ours; ``attempts`` are the attempts of the failed call."""

    attempts: Sequence[Any] = ()

    #: Whether the peer may have carried the request out; False when none of it can have arrived.
    sent = False
    #: Whether another attempt, elsewhere perhaps, may go better.
    retryable = False
    #: Whether it counts against the endpoint's health.
    fault = False

    def __str__(self) -> str:
        text = super().__str__()
        if not self.attempts:
            return text
        tried = "; ".join(str(attempt) for attempt in self.attempts)
        count = len(self.attempts)
        return f"{text} [{count} attempt{'s' if count > 1 else ''}: {tried}]"

    @property
    def summary(self) -> str:
        """What failed, without the list of attempts."""
        return super().__str__()


class InvalidRequest(HoldfastError, ValueError):
    """The arguments make no request that can be sent: nothing was sent."""


class NoEndpointError(HoldfastError, ValueError):
    """There is no endpoint to choose from."""


class NetworkError(HoldfastError, ConnectionError):
    """A connection broke: reset, or closed before the answer."""

    sent = True
    retryable = True
    fault = True


class ConnectError(NetworkError):
    """No connection could be made, so that nothing was sent."""

    sent = False


class ResolveError(ConnectError):
    """The host's name is not known."""


class CertificateError(ConnectError):
    """The peer's certificate was not accepted, or TLS could not be agreed on."""


class ProxyError(ConnectError):
    """The HTTP proxy refused to open a tunnel."""


class CallTimeout(HoldfastError, TimeoutError):
    """Something took too long."""

    sent = True
    retryable = True
    fault = True


class ConnectTimeout(CallTimeout):
    """No connection was made within the connect limit."""

    sent = False


class ReadTimeout(CallTimeout):
    """The peer said nothing for longer than the read limit."""


class TooSlow(CallTimeout):
    """The body came in slower than the least bandwidth that was asked for."""


class AttemptTimeout(CallTimeout):
    """One attempt took longer than the policy's limit for attempts."""


class DeadlineExceeded(CallTimeout):
    """The time for the whole call was over."""

    retryable = False


class ProtocolError(NetworkError):
    """The peer sent something that is not HTTP."""


class Truncated(ProtocolError):
    """The peer closed before the end of its answer."""


class TooLarge(ProtocolError):
    """The answer, or a part of it, is larger than its limit."""

    retryable = False
    fault = False


class DecodingError(ProtocolError, ValueError):
    """The body is not what its Content-Encoding says."""

    retryable = False


class TooManyRedirects(HoldfastError, OSError):
    """More redirects than allowed, or in a circle."""


class StatusError(HoldfastError, OSError):
    """The answer's status is an error; ``response`` is the answer."""

    def __init__(self, message: str, response: Any = None) -> None:
        super().__init__(message)
        self.response = response

    @property
    def status_code(self) -> int:
        """The answer's status code."""
        return int(self.response.status_code)


class CircuitOpenError(HoldfastError, ConnectionError):
    """Every circuit breaker that the call could pass is open: nothing was sent."""


class LimitExceeded(HoldfastError, OSError):
    """A limit of concurrency and its queue are full: nothing was sent."""

    retryable = True


class RateLimited(LimitExceeded):
    """The rate limit's bucket is empty: nothing was sent."""


class AdmissionRejected(LimitExceeded):
    """The hosts reject so much that this call was rejected here: nothing was sent."""

    retryable = False
