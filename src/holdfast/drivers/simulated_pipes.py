"""What is underway on a simulated connection, in one direction.

Theory of operation: what goes into a pipe arrives in order, after the delay that the network says
and as fast as its bandwidth allows; what the network loses for now is sent again as TCP does, after
waits that double, until it arrives or the connection is given up.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.drivers.simulated import World

__all__ = ["FIRST_RETRY", "Pipe"]

#: Seconds to the first retransmission, the longest between two, and how many there are: Linux
#: (TCP_RTO_MIN, TCP_RTO_MAX, net.ipv4.tcp_retries2).
FIRST_RETRY = 0.2
LONGEST_RETRY = 120.0
RETRIES = 15


class Pipe:
    """One direction of a connection: bytes, their end (``b""``), or a reset (an OSError)."""

    __slots__ = (
        "_arrive",
        "_at",
        "_end",
        "_free",
        "_held",
        "_lost",
        "_tries",
        "_world",
        "source",
        "target",
    )

    def __init__(
        self,
        world: World,
        source: str,
        target: str,
        arrive: Callable[[Any, Any], None],
        end: object,
        lost: Callable[[OSError], None],
    ) -> None:
        self._world = world
        self.source = source
        self.target = target
        self._arrive = arrive  # called with the receiving end and what arrives
        self._end = end
        self._lost = lost  # tells the sending end that nothing gets through
        self._at = 0.0  # when the last of it arrives
        self._free = 0.0  # when the last of it has gone in, where that takes time
        self._held: deque[bytes | OSError] | None = None  # what has to be sent again
        self._tries = 0

    def carry(self, data: bytes | OSError) -> None:
        """Send something on its way."""
        world = self._world
        if self._held is not None:
            self._held.append(data)
            return
        size = len(data) if isinstance(data, bytes) else 0
        delay = world.delay(self.source, self.target, size)
        if delay == inf:
            self.hold(data)
            return
        at = world.now + delay
        bandwidth = world.network.bandwidth
        if bandwidth < inf:  # each waits until what was sent before it has gone in
            self._free = max(world.now, self._free) + size / bandwidth
            at = self._free + delay
        if at < self._at:
            at = self._at
        else:
            self._at = at
        world.push(at, self._arrive, self._end, data)

    def hold(self, data: bytes | OSError) -> None:
        """Send something again later, and everything after it."""
        if self._held is not None:
            self._held.append(data)
            return
        self._held = deque((data,))
        self._tries = 0
        self._world.push(self._world.now + FIRST_RETRY, Pipe._retransmit, self, None)

    def drop(self) -> None:
        """Send nothing of it again."""
        if self._held is not None:
            self._held.clear()

    def _retransmit(self, _: None) -> None:
        world = self._world
        held = self._held
        if not held:
            self._held = None
            return
        if world.delay(self.source, self.target, 0) < inf:
            self._held = None
            for data in held:
                self.carry(data)
            return
        self._tries += 1
        if self._tries > RETRIES:
            held.clear()
            self._lost(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
            return
        wait = min(FIRST_RETRY * 2**self._tries, LONGEST_RETRY)
        world.push(world.now + wait, Pipe._retransmit, self, None)
