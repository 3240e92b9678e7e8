"""What went wrong in an exchange, as an error of ours that names the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import (
    DeadlineExceeded,
    HoldfastError,
    NetworkError,
    ProtocolError,
    ReadTimeout,
    TooLarge,
)
from holdfast.wire.http1 import WireError, WireLimitError

if TYPE_CHECKING:
    from holdfast.http.limits import Timeout
    from holdfast.http.pools import ConnectionPool

__all__ = ["translated"]


def translated(
    error: Exception, pool: ConnectionPool, timeout: Timeout, deadline: float
) -> HoldfastError:
    """Return our error, naming the host, for what went wrong in an exchange."""
    name = pool.name
    if isinstance(error, HoldfastError):
        if not error.summary.startswith(name):
            error.args = (f"{name}: {error.summary}",)
        return error
    if isinstance(error, TimeoutError):
        if pool.clock() >= deadline:
            return DeadlineExceeded(f"{name}: no complete answer before the deadline")
        silent = "" if timeout.read is None else f" for {timeout.read:g} s"
        return ReadTimeout(f"{name}: silent{silent}")
    if isinstance(error, WireLimitError):
        return TooLarge(f"{name}: the answer is too large: {error}")
    if isinstance(error, WireError):
        return ProtocolError(f"{name}: the answer is not HTTP/1.1: {error}")
    system = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return NetworkError(f"{name}: {system}")
