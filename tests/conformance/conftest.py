"""What the suite is run through, and with."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator

import pytest

from holdfast.drivers.simulated import World
from tests.conformance.drivers import DRIVERS, Run, worlds
from tests.conformance.peers import Listening
from tests.conformance.simulated import SimulatedListening


@pytest.fixture(scope="session", autouse=True)
def cheap_collections() -> Iterator[None]:
    """Leave what was there before the tests out of each garbage collection among them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test through every driver, those for real ones not through the simulated one."""
    if "run" in metafunc.fixturenames:
        left_out = {"simulated"} if getattr(metafunc.function, "real", False) else set()
        names = [name for name in DRIVERS if name not in left_out]
        metafunc.parametrize("run", names, indirect=True)


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Every driver in its turn."""
    if request.param == "simulated":
        worlds.append(World(start=1000.0))
        worlds[-1].names["localhost"] = ["127.0.0.1"]
    yield DRIVERS[request.param]
    worlds.clear()


@pytest.fixture
def listening(request: pytest.FixtureRequest) -> Iterator[Listening | SimulatedListening]:
    """A listening TCP socket."""
    if "run" in request.fixturenames:
        request.getfixturevalue("run")
    if worlds:
        yield SimulatedListening(worlds[-1])
        return
    with Listening(socket.AF_INET, ("127.0.0.1", 0)) as listening:
        yield listening
