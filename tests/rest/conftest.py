"""The classes of each kind, closed at the end of a test, and servers for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.rest.faces import KINDS, Clock, Face
from tests.servers import EchoServer

StartEchoes = Callable[[int], list[EchoServer]]


@pytest.fixture(params=KINDS)
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    """Each kind of classes in its turn."""
    with Face(request.param) as face:
        yield face


@pytest.fixture
def clock() -> Clock:
    """A clock to advance."""
    return Clock()


@pytest.fixture
def echoes() -> Iterator[StartEchoes]:
    """Start echo servers: `echoes(count)`."""
    with contextlib.ExitStack() as stack:
        yield lambda count: [stack.enter_context(EchoServer()) for _ in range(count)]
