"""Metrics go out in datagrams."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf, nan

import pytest

from holdfast.telemetry import datagrams
from holdfast.telemetry.datagrams import MAX_BYTES, MAX_PENDING, UDP
from holdfast.telemetry.lines import packed
from tests.telemetry.statsd_server import StatsdServer

#: Longer than any test.
NEVER = 3600.0


@pytest.fixture
def server() -> Iterator[StatsdServer]:
    """Listen on loopback, on a port that the system picks."""
    with StatsdServer() as server:
        yield server


def test_metrics_are_packed(server: StatsdServer) -> None:
    """Counts are summed, the last gauge counts, and all of it is one datagram."""
    with UDP(port=server.port, interval=NEVER) as udp:
        for _ in range(3):
            udp.incr("a.hits")
        udp.incr("a.hits", 4)
        udp.gauge("a.level", 7)
        udp.gauge("a.level", 2.5)
        udp.timing("a.time", 12.3456)
        udp.timing("a.time", 1)
        assert server.nothing_more()
        udp.flush()
    server.receive()
    assert server.datagrams == [
        b"a.hits:7|c\na.level:2.500000|g\na.time:12.346|ms\na.time:1.000|ms"
    ]
    assert server.nothing_more()


def test_a_negative_gauge_is_set_not_changed(server: StatsdServer) -> None:
    """A sign alone would mean a change."""
    with UDP(port=server.port) as udp:
        udp.gauge("a", -3)
    server.receive()
    assert server.datagrams == [b"a:0|g\na:-3|g"]


def test_they_go_without_being_asked(server: StatsdServer) -> None:
    """After the interval."""
    with UDP(port=server.port, interval=0.001) as udp:
        udp.incr("a")
        server.receive()
        udp.incr("b")
        server.receive()
    assert server.counts == {"a": 1, "b": 1}


def test_a_full_datagram_does_not_wait(server: StatsdServer) -> None:
    """However long the interval is."""
    with UDP(port=server.port, interval=NEVER, max_bytes=100) as udp:
        for number in range(30):
            udp.timing("a", number)
        server.receive()
    assert all(len(data) <= 100 for data in server.datagrams)


def test_closing_sends_the_rest(server: StatsdServer) -> None:
    """What comes later is dropped; closing again does nothing."""
    udp = UDP(port=server.port, interval=NEVER)
    udp.incr("a")
    udp.close()
    udp.close()
    server.receive()
    assert server.counts == {"a": 1}
    udp.incr("a")
    udp.flush()
    assert udp.dropped == 1
    assert server.nothing_more()


def test_a_sender_that_is_dropped_sends_the_rest(server: StatsdServer) -> None:
    """And its thread ends."""
    udp = UDP(port=server.port, interval=NEVER)
    udp.incr("a")
    thread = udp._outbox._thread
    del udp
    gc.collect()
    server.receive()
    assert server.counts == {"a": 1}
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()


def test_the_end_of_the_program_sends_the_rest(server: StatsdServer) -> None:
    """Nobody has to close it."""
    code = (
        "from holdfast.telemetry import UDP\n"
        f"udp = UDP(port={server.port}, interval=3600)\n"
        "udp.incr('a')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    server.receive()
    assert server.counts == {"a": 1}


def test_threads(server: StatsdServer) -> None:
    """No count is lost between them."""
    with UDP(port=server.port, interval=NEVER) as udp:

        def work(number: int) -> None:
            for _ in range(500):
                udp.incr("a")
                udp.gauge(f"g{number}", number)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    server.receive()
    assert server.counts == {"a": 4000}
    assert len(server.gauges) == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork(server: StatsdServer) -> None:
    """Each process sends its own, and only that; what the parent held is still the parent's."""
    with UDP(port=server.port, interval=NEVER) as udp:
        udp.incr("parent")
        with udp._outbox._changed:  # as if another thread had held it
            child = os.fork()
            if child == 0:
                done = threading.Thread(target=udp.incr, args=("child",))
                done.start()
                done.join(20)
                udp.flush()
                os._exit(done.is_alive())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        server.receive()
        assert server.counts == {"child": 1}
    server.receive()
    assert server.counts == {"child": 1, "parent": 1}
    assert server.nothing_more()


def test_nobody_listens() -> None:
    """It is not the caller's problem."""
    with StatsdServer() as server:
        port = server.port
    with UDP(port=port, interval=NEVER) as udp:
        for _ in range(5):
            udp.incr("a")
            udp.flush()
    assert udp.dropped <= 5


def test_a_server_that_began_anew(server: StatsdServer) -> None:
    """A metric after its return is the first one that arrives, not the second one."""
    with StatsdServer() as gone:
        port = gone.port
    with UDP(port=port, interval=NEVER) as udp:
        udp.incr("lost")
        udp.flush()
        with StatsdServer(port=port) as back:
            udp.incr("a")
            udp.flush()
            back.receive()
    assert back.counts == {"a": 1}


@pytest.mark.parametrize("first", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_a_name_with_several_addresses(
    server: StatsdServer, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """The older one counts, as most servers have no other."""
    found = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", server.port, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", server.port)),
    ]
    found.sort(key=lambda item: item[0] != first)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with UDP("both.invalid", server.port, interval=NEVER) as udp:
        udp.incr("a")
        udp.flush()
        server.receive()
    assert server.counts == {"a": 1}


def test_an_address_where_nobody_listens(
    server: StatsdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is tried."""
    with StatsdServer() as gone:
        port = gone.port
    found = [
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", number))
        for number in (port, server.port)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with UDP("both.invalid", interval=NEVER) as udp:
        for name in ("lost", "a", "b"):
            udp.incr(name)
            udp.flush()
        server.receive(2)
    assert server.counts == {"a": 1, "b": 1}


def test_a_name_that_is_not_known_any_more(
    server: StatsdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last address is used on."""
    monkeypatch.setattr(datagrams, "LOOK_UP_AFTER", 0.0)
    with UDP("localhost", server.port, interval=NEVER) as udp:
        udp.incr("a")
        udp.flush()

        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(-2, "no such name")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        udp.incr("b")
        udp.flush()
        server.receive(2)
    assert server.counts == {"a": 1, "b": 1}


def test_names_cannot_break_the_protocol(server: StatsdServer) -> None:
    """What separates a name from its value becomes an underscore."""
    with UDP(port=server.port, interval=NEVER) as udp:
        udp.incr("a:1|c\nb")
        udp.gauge("c@d#e", 1)
        udp.timing("f\0 g", 1)
    server.receive()
    assert server.datagrams == [b"a_1_c_b:1|c\nc_d_e:1|g\nf__g:1.000|ms"]


def test_a_name_that_is_not_known() -> None:
    """What cannot be sent is counted."""
    with UDP("nobody.invalid", interval=NEVER) as udp:
        udp.incr("a")
        udp.timing("b", 1)
        udp.flush()
        assert udp.dropped == 2


def test_what_is_no_number_is_dropped(server: StatsdServer) -> None:
    """No server understands it."""
    with UDP(port=server.port, interval=NEVER) as udp:
        udp.timing("a", nan)
        udp.gauge("a", inf)
    assert udp.dropped == 2
    assert server.nothing_more()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be sent, timings are dropped."""
    with UDP("nobody.invalid", interval=NEVER, max_bytes=1 << 30) as udp:
        for _ in range(MAX_PENDING + 5):
            udp.timing("a", 1)
        assert udp.dropped == 5


def test_packing() -> None:
    """Datagrams are as full as can be, and a long line goes alone."""
    lines = ["a" * 60, "b" * 39, "c" * 200, "d"]
    packs = list(packed(lines, 100))
    assert [len(data) for data, _ in packs] == [100, 200, 1]
    assert [count for _, count in packs] == [2, 1, 1]
    assert b"\n".join(data for data, _ in packs).decode().split("\n") == lines
    assert list(packed([], MAX_BYTES)) == []


@pytest.mark.parametrize(
    "wrong",
    [{"host": ""}, {"port": 0}, {"port": 70000}, {"interval": -1}, {"max_bytes": 0}],
    ids=repr,
)
def test_wrong_arguments(wrong: dict[str, object]) -> None:
    """Are named."""
    with pytest.raises(ValueError, match=f"UDP: {next(iter(wrong))}"):
        UDP(**wrong)  # type: ignore[arg-type]
