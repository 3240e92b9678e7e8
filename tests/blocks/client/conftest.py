from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.blocks.client.clients import KINDS, Client
from tests.blocks.client.stubs import Stubs

VARIABLES = (
    "ARVADOS_API_HOST_INSECURE",
    "ARVADOS_API_TOKEN",
    "ARVADOS_KEEP_PROXY",
    "ARVADOS_KEEP_SERVICES",
    "KEEP_LOCAL_STORE",
)


class StartClient(Protocol):
    """Start a client for the rest of the test."""

    def __call__(self, *arguments: Any, **options: Any) -> Client:
        """Take the arguments of a `KeepClient`."""
        ...


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name each kind of client in turn."""
    name: str = request.param
    return name


@pytest.fixture
def stubs() -> Stubs:
    """Have three services of type disk in a simulated world."""
    return Stubs(3)


@pytest.fixture
def start(kind: str) -> Iterator[StartClient]:
    """Start clients of each kind: `start(…)`."""
    started: list[Client] = []

    def start_one(*arguments: Any, **options: Any) -> Client:
        started.append(Client(kind, *arguments, **options))
        return started[-1]

    yield start_one
    for client in started:
        client.close()


@pytest.fixture
def client(stubs: Stubs, start: StartClient) -> Client:
    """Have a client of the three services, of each kind."""
    return start(stubs.api, proxy="", driver=stubs.world)
