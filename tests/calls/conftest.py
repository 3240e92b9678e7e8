"""What the tests of `fault_tolerant` share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.calls.modes import MODES
from tests.servers import EchoServer


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Any:
    """Give each mode."""
    return MODES[request.param]()


@pytest.fixture(params=["asyncio", "twisted"])
def later(request: pytest.FixtureRequest) -> Any:
    """Give each mode whose calls can be cancelled."""
    return MODES[request.param]()


@pytest.fixture
def servers() -> Iterator[list[EchoServer]]:
    """Run three echo servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(EchoServer()) for _ in range(3)]


class Recorder:
    """A statsd client that remembers."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.timings: list[tuple[str, float]] = []
        self.gauges: list[tuple[str, float]] = []

    def incr(self, name: str) -> None:
        self.counts[name] += 1

    def timing(self, name: str, milliseconds: float) -> None:
        self.timings.append((name, milliseconds))

    def gauge(self, name: str, value: float) -> None:
        self.gauges.append((name, value))


@pytest.fixture
def recorder() -> Recorder:
    """Give a statsd client that remembers."""
    return Recorder()
