"""How much of a body in memory is sent at a time."""

from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast import ops
from holdfast.errors import TooSlow
from holdfast.http.bodies import BytesBody
from holdfast.http.limits import Timeout
from holdfast.http.sending import ENOUGH, LEAST, MOST, send_body


class Peer:
    """A connection whose peer takes so many bytes a second, and the clock.

    The first ``buffer`` bytes are taken by the system, at once.
    """

    def __init__(self, *rates: float, buffer: int = 0) -> None:
        self.rates = list(rates)
        self.buffer = buffer
        self.now = 0.0
        self.sizes: list[int] = []
        self.data = bytearray()

    def send(self, data: memoryview, until: float) -> Generator[Any, Any, None]:
        rate = self.rates.pop(0) if len(self.rates) > 1 else self.rates[0]
        waits = max(len(data) - self.buffer, 0)
        self.buffer -= len(data) - waits
        took = waits / rate
        if self.now + took > until:
            self.now = until
            raise TimeoutError
        self.now += took
        self.sizes.append(len(data))
        self.data += data
        yield from ()

    def take(self, size: int, timeout: Timeout) -> None:
        pool: Any = SimpleNamespace(clock=lambda: self.now)
        body = BytesBody(bytes(range(256)) * (size // 256))
        program: ops.Program[None] = send_body(self, pool, body, timeout, 1e9)  # type: ignore[arg-type]
        for _ in program:
            pytest.fail("nothing is asked for")
        assert self.data == body.data


def test_a_fast_peer() -> None:
    """Much goes at a time where it goes quickly."""
    peer = Peer(1e9)
    peer.take(ENOUGH + 5 * MOST, Timeout(None, read=5))
    assert peer.sizes == [LEAST] * (ENOUGH // LEAST) + [MOST] * 5


def test_a_slow_peer() -> None:
    """The limit of a wait is for little where it goes slowly, also when it was fast before."""
    peer = Peer(LEAST / 4)
    peer.take(3 * MOST, Timeout(None, read=5))
    assert set(peer.sizes) == {LEAST}
    peer = Peer(*[1e9] * (ENOUGH // LEAST), MOST / 4, LEAST / 4)
    peer.take(ENOUGH + 3 * MOST, Timeout(None, read=5))
    assert peer.sizes[ENOUGH // LEAST :] == [MOST] + [LEAST] * (2 * MOST // LEAST)


@pytest.mark.parametrize("buffer", [LEAST, MOST, ENOUGH - LEAST])
def test_a_slow_peer_behind_buffers(buffer: int) -> None:
    """What the system takes at once says nothing of the peer."""
    peer = Peer(LEAST / 4, buffer=buffer)
    peer.take(ENOUGH + 3 * MOST, Timeout(None, read=5))
    assert set(peer.sizes) == {LEAST}


def test_a_peer_that_stands_still() -> None:
    """It ends with the limit of the wait, or of the bandwidth, whichever comes first."""
    with pytest.raises(TimeoutError) as caught:
        Peer(1e9, 1).take(MOST, Timeout(None, read=5))
    assert not isinstance(caught.value, TooSlow)
    with pytest.raises(TooSlow, match="slower than 1000 bytes/s"):
        Peer(1).take(MOST, Timeout(None, read=50, min_bandwidth=1000, interval=10))


def test_without_a_limit_of_waits() -> None:
    """All of it is one wait."""
    peer = Peer(1e9)
    peer.take(5 * MOST, Timeout(None, read=None))
    assert peer.sizes == [5 * MOST]
