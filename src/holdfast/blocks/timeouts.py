"""How long a service may take."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from holdfast.blocks.errors import ArgumentError
from holdfast.http.limits import Timeout

__all__ = ["DEFAULT_PROXY_TIMEOUT", "DEFAULT_TIMEOUT", "Seconds", "for_attempt", "timeout_of"]

#: To connect, in seconds; an interval, in seconds, and the least bandwidth over each such
#: interval, in bytes per second.
Seconds: TypeAlias = tuple[float, float, float]

DEFAULT_TIMEOUT: Seconds = (2, 256, 32768)
DEFAULT_PROXY_TIMEOUT: Seconds = (20, 256, 32768)

#: More doublings than this mean nothing any more.
_DOUBLINGS = 32


def seconds_of(given: float | tuple[float, ...] | None, default: Seconds) -> Seconds:
    """Return a timeout as three numbers; None is the default.

    One number is both times, with the default's bandwidth, as two have. Raises ArgumentError.
    """
    if given is None:
        return default
    numbers = given if isinstance(given, tuple) else (given, given)
    if len(numbers) == 2:
        numbers = (*numbers, default[2])
    if len(numbers) == 3 and all(map(_is_number, numbers)):
        connect, read, rate = numbers
        if connect > 0 and read > 0 and rate >= 0:
            return connect, read, rate
    raise ArgumentError(
        "a timeout is the seconds to connect, those of the interval over which the least "
        f"bandwidth holds, and that in bytes per second, not {given!r}"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def for_attempt(timeout: Seconds, attempt: int) -> Seconds:
    """Return the timeout of an attempt, counted from 0: the time to connect doubles."""
    connect, read, bandwidth = timeout
    return connect * 2 ** min(attempt, _DOUBLINGS), read, bandwidth


@lru_cache(maxsize=256)
def timeout_of(timeout: Seconds, bandwidth: bool = True) -> Timeout:
    """Return the limits of a request; without ``bandwidth`` only silence is limited."""
    connect, read, rate = timeout
    if not bandwidth or not rate:
        return Timeout(total=None, connect=connect, read=read)
    return Timeout(total=None, connect=connect, read=read, min_bandwidth=rate, interval=read)
