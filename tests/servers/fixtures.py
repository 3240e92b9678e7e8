"""Fixtures that start the test servers and stop them at the end of a test."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.faults.proxy import NO_FAULT, FaultProxy, Plan
from tests.servers.certificates import Certificates
from tests.servers.echo import EchoServer
from tests.servers.forward import ProxyServer
from tests.servers.ports import refusing_address, unanswering_address
from tests.servers.process import EchoProcess
from tests.servers.scripted import Script, ScriptedServer


class StartScripted(Protocol):
    """Start a scripted server for the rest of the test."""

    def __call__(
        self,
        *scripts: Script,
        host: str = "127.0.0.1",
        path: str | os.PathLike[str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> ScriptedServer:
        """Play the first script to the first connection, and so on."""
        ...


class Upstream(Protocol):
    """Anything that listens on a TCP port."""

    @property
    def host(self) -> str:
        """Return the numeric host."""
        ...

    @property
    def port(self) -> int:
        """Return the port."""
        ...


class StartFaultProxy(Protocol):
    """Start a fault proxy for the rest of the test."""

    def __call__(self, upstream: Upstream, plan: Plan = NO_FAULT) -> FaultProxy:
        """Forward to an upstream, with the plan's faults."""
        ...


@pytest.fixture
def scripted() -> Iterator[StartScripted]:
    """Start servers that play scripts of raw bytes: `scripted(script, …)`."""
    with contextlib.ExitStack() as stack:

        def start(
            *scripts: Script,
            host: str = "127.0.0.1",
            path: str | os.PathLike[str] | None = None,
            tls: ssl.SSLContext | None = None,
        ) -> ScriptedServer:
            return stack.enter_context(ScriptedServer(*scripts, host=host, path=path, tls=tls))

        yield start


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    """Run an echo server in threads of the test's process."""
    with EchoServer() as server:
        yield server


@pytest.fixture
def echo_process() -> Iterator[EchoProcess]:
    """Run an echo server in a process of its own."""
    with EchoProcess() as process:
        yield process


@pytest.fixture
def forward_proxy() -> Iterator[ProxyServer]:
    """Run a forward proxy that asks for no credentials."""
    with ProxyServer() as proxy:
        yield proxy


@pytest.fixture
def fault_proxy() -> Iterator[StartFaultProxy]:
    """Start proxies that disturb connections: `fault_proxy(upstream, plan)`."""
    with contextlib.ExitStack() as stack:

        def start(upstream: Upstream, plan: Plan = NO_FAULT) -> FaultProxy:
            return stack.enter_context(FaultProxy(upstream.host, upstream.port, plan))

        yield start


@pytest.fixture
def refusing() -> Iterator[tuple[str, int]]:
    """Give a host and a port that refuse every connection."""
    with refusing_address() as address:
        yield address


@pytest.fixture
def unanswering() -> Iterator[tuple[str, int]]:
    """Give a host and a port where connecting hangs."""
    with unanswering_address() as address:
        yield address


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Issue an authority's, a server's and a client's certificate."""
    return Certificates(Path(tmp_path_factory.mktemp("certificates")))
