"""Clients, closed at the end of a test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.http.clients import KINDS, Client, StartClient


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest) -> Iterator[StartClient]:
    """Start clients of each kind in its turn: `client(host, …, **options)`."""
    with contextlib.ExitStack() as stack:

        def start(*hosts: str, **options: Any) -> Client:
            return stack.enter_context(Client(request.param, *hosts, **options))

        yield start


@pytest.fixture
def blocking_client() -> Iterator[StartClient]:
    """Start blocking clients, where the driver makes no difference."""
    with contextlib.ExitStack() as stack:

        def start(*hosts: str, **options: Any) -> Client:
            return stack.enter_context(Client("blocking", *hosts, **options))

        yield start
