"""How long a call may take, and how much it may receive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan
from typing import TypeAlias

__all__ = ["Timeout", "TimeoutTypes"]

# Not said: what the policy says holds. (A number, so that the type stays simple.)
_INHERITED = nan


@dataclass(frozen=True, slots=True)
class Timeout:
    """The time limits of a call, all in seconds; None is no limit.

    ``total``, by default the policy's: the whole call with its retries and waits; for a streamed
    answer, until its head is there. ``connect``: one connection, with name look-up and TLS; it is
    above a second so that one lost packet, which TCP sends again after one, does not fail it.
    ``read``: each wait for the peer, to take more of the request or to send more of the answer;
    for the body of a streamed answer, by default ``total``. ``min_bandwidth``: bytes a second
    that a body must come in at on average, after a second of grace. ``interval``: of so many
    seconds, any, ``min_bandwidth`` is to be the average, instead; and of bodies sent as well.
    """

    total: float | None = _INHERITED
    connect: float | None = 2.0
    read: float | None = None
    min_bandwidth: float | None = None
    interval: float | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None or value is _INHERITED:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"Timeout: {name} must be a positive number, not {value!r}")

    @classmethod
    def of(cls, value: TimeoutTypes, default: Timeout) -> Timeout:
        """Return a timeout in any accepted form.

        A number is the total, None no limit at all, a pair ``(connect, read)`` as in requests.
        """
        if isinstance(value, Timeout):
            return replace(value, total=default.total) if value.total is _INHERITED else value
        if value is None:
            return cls(total=None, connect=None)
        if isinstance(value, tuple):
            connect, read = value
            return replace(default, connect=connect, read=read)
        return replace(default, total=value)


TimeoutTypes: TypeAlias = float | tuple[float | None, float | None] | Timeout | None
