"""Link-local addresses, which mean something only together with an interface."""

from __future__ import annotations

import socket
from math import inf
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from holdfast import ops
from holdfast.drivers import blocking
from holdfast.drivers.twisted import Driver
from holdfast.http.connections import connect
from holdfast.http.limits import Timeout
from holdfast.http.origins import Origin
from tests.http.clients import StartClient
from tests.servers import EchoServer

INTERFACE = socket.if_nameindex()[0]


def program(host: str) -> Any:
    """Return the program that connects to a host."""
    return connect(Origin.parse(host), host, Timeout(None, None), inf, lambda: 0.0)


def resolved(host: str) -> list[ops.Address]:
    """Return what the blocking driver makes of the first operation of connecting."""

    def looking() -> ops.Program[list[ops.Address]]:
        operation = program(host).send(None)
        assert isinstance(operation, ops.Resolve)
        found: list[ops.Address] = yield operation
        return found

    return blocking.run(looking())


@pytest.mark.parametrize("zone", INTERFACE)
def test_a_zone_is_looked_up(zone: str | int) -> None:
    """The system is asked for the number of the interface, which it connects by."""
    try:
        found = resolved(f"[fe80::1%{zone}]:80")
    except socket.gaierror:
        pytest.skip("this system knows no scoped addresses")
    family, (host, port, _, scope) = found[0]
    assert (family, port, scope) == (socket.AF_INET6, 80, INTERFACE[0])
    assert host.partition("%")[0] == "fe80::1"


def test_other_addresses_are_not() -> None:
    """An address without a zone is connected to at once."""
    for host in ("[fe80::1]:80", "127.0.0.1:80"):
        assert isinstance(program(host).send(None), ops.Connect)


def test_the_scope_reaches_twisted() -> None:
    """By its number, whether the system has named the interface in the address or not."""

    class Reactor(Clock):
        hosts: list[str]

        def connectTCP(self, host: str, port: int, factory: Any, **options: Any) -> Any:
            self.hosts.append(host)
            raise OSError("far enough")

    reactor = Reactor()
    reactor.hosts = []

    def connecting(host: str) -> ops.Program[Any]:
        return (yield ops.Connect((socket.AF_INET6, (host, 80, 0, 3)), inf))

    for host in ("fe80::1", "fe80::1%eth0"):
        failed: list[Failure] = []
        Driver(reactor).run(connecting(host)).addErrback(failed.append)
        assert str(failed[0].value) == "far enough"
    assert reactor.hosts == ["fe80::1%3"] * 2


def test_the_zone_stays_here() -> None:
    """A zone is nobody else's business: neither the Host header nor certificates have one."""
    origin = Origin.parse("https://[fe80::1%eth0]:8443/base")
    assert origin.unscoped == Origin.parse("https://[fe80::1]:8443/base")
    plain = Origin.parse("name:80")
    assert plain.unscoped is plain


@pytest.fixture
def v6() -> Any:
    """Run a server on the loopback address of IPv6."""
    try:
        server = EchoServer(host="::1")
    except OSError:
        pytest.skip("there is no IPv6 here")
    with server:
        yield server


def test_calls_to_scoped_addresses(client: StartClient, v6: EchoServer) -> None:
    """A call, and a redirect that does not know the zone, reach the server."""
    if resolved_scope() != 1:
        pytest.skip("the loopback interface is another one")
    one = client(f"[::1%1]:{v6.port}")
    answer = one.get(f"/redirect/302?to=http://[::1]:{v6.port}/next", follow_redirects=True)
    told = answer.json()
    assert (told["path"], told["headers"]["host"]) == ("/next", f"[::1]:{v6.port}")
    assert str(answer.url).startswith("http://[::1%1]:")
    assert v6.connection_count == 1


def resolved_scope() -> int:
    """Return the number of the first interface, which is the loopback one on most systems."""
    return INTERFACE[0] if INTERFACE[1].startswith("lo") else 0
