"""What the suite is run through, and with."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator

import pytest

from tests.conformance.drivers import DRIVERS, Run
from tests.conformance.peers import Listening


@pytest.fixture(scope="session", autouse=True)
def cheap_collections() -> Iterator[None]:
    """Leave what was there before the tests out of each garbage collection among them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=DRIVERS)
def run(request: pytest.FixtureRequest) -> Run:
    """Every driver in its turn."""
    return DRIVERS[request.param]


@pytest.fixture
def listening() -> Iterator[Listening]:
    """A listening TCP socket."""
    with Listening(socket.AF_INET, ("127.0.0.1", 0)) as listening:
        yield listening
