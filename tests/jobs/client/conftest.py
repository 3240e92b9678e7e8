"""Fixtures of the client's tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.jobs.client.faces import Face
from tests.jobs.client.scripts import ClassicDispatcher, LineServer
from tests.servers.scripted import Script


class StartLines(Protocol):
    """Start a server of JSON lines for the rest of the test."""

    def __call__(self, *scripts: Script, **options: Any) -> LineServer:
        """Play the first script to the first connection, and so on."""
        ...


@pytest.fixture(params=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest) -> Face:
    """Give the blocking client, then the asynchronous one."""
    return Face(request.param)


@pytest.fixture
def lines() -> Iterator[StartLines]:
    """Start servers that play scripts of messages: `lines(script, …)`."""
    with contextlib.ExitStack() as stack:

        def start(*scripts: Script, **options: Any) -> LineServer:
            return stack.enter_context(LineServer(*scripts, **options))

        yield start


@pytest.fixture
def classic() -> Iterator[ClassicDispatcher]:
    """Run a dispatcher of the classic kind."""
    with ClassicDispatcher() as server:
        yield server
