"""What is no request."""

from __future__ import annotations

import json
import socket
import ssl
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jobs.agent.conftest import StartDaemon
from tests.jobs.agent.daemons import LIMIT, Daemon, error_of, request

GOOD: dict[str, Any] = {
    "harp": 1,
    "procedure": "nothing",
    "arguments": [],
    "auth": {"user": "ann", "password": "s3cret"},
}


def answer(daemon: Daemon, line: bytes) -> str:
    """Send a line and return the type of the error, which is all that comes."""
    lines = daemon.exchange(line)
    assert len(lines) == 1
    return error_of([json.loads(lines[0])])


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{\n",
        b'{"harp": 1,}\n',
        b"\xff\xfe\n",
        b'"\xe9"\n',
        b"{} {}\n",
        b'{"harp": NaN}\n',
        b"GET / HTTP/1.1\r\n\r\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_no_json(daemon: Daemon, line: bytes) -> None:
    """What is no JSON in UTF-8 is a parse_error."""
    assert answer(daemon, line) == "parse_error"


@pytest.mark.parametrize("version", [None, 0, 2, "1", 1.0, True, [1]])
def test_another_protocol(daemon: Daemon, version: Any) -> None:
    """Only version 1 is spoken."""
    assert answer(daemon, json.dumps({**GOOD, "harp": version}).encode() + b"\n") == (
        "invalid_protocol"
    )
    without = {key: value for key, value in GOOD.items() if key != "harp"}
    assert answer(daemon, json.dumps(without).encode() + b"\n") == "invalid_protocol"


@pytest.mark.parametrize(
    "change",
    [
        {"procedure": 1},
        {"procedure": ""},
        {"procedure": None},
        {"procedure": "a" * 5000},
        {"procedure": "\ud800"},
        {"arguments": None},
        {"arguments": "text"},
        {"arguments": 1},
        {"auth": None},
        {"auth": []},
        {"auth": {}},
        {"auth": {"user": "ann"}},
        {"auth": {"user": 1, "password": "s3cret"}},
        {"auth": {"user": "ann", "password": 1}},
        {"auth": {"user": "ann", "password": "s3cret", "more": 1}},
        {"more": 1},
    ],
)
def test_wrong_fields(daemon: Daemon, change: dict[str, Any]) -> None:
    """A field of the wrong kind, and one too many, is an invalid_request."""
    assert answer(daemon, json.dumps({**GOOD, **change}).encode() + b"\n") == "invalid_request"


@pytest.mark.parametrize("name", ["procedure", "arguments", "auth"])
def test_missing_fields(daemon: Daemon, name: str) -> None:
    """Every field is needed."""
    message = {key: value for key, value in GOOD.items() if key != name}
    assert answer(daemon, json.dumps(message).encode() + b"\n") == "invalid_request"


@pytest.mark.parametrize("value", [[], "text", 1, None])
def test_no_object(daemon: Daemon, value: Any) -> None:
    """A request is an object."""
    assert answer(daemon, json.dumps(value).encode() + b"\n") == "invalid_request"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=100)
@given(
    message=st.one_of(
        st.binary(max_size=200),
        JSON.map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {}, optional={name: JSON | st.just(value) for name, value in GOOD.items()}
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_anything(daemon: Daemon, message: bytes) -> None:
    """Whatever comes, the answer is one error, or a call's, and the daemon goes on."""
    message = message.replace(b"\n", b"") + b"\n"
    messages = [json.loads(line) for line in daemon.exchange(message)]
    if len(messages) == 2:
        assert messages[1] == {"result": None}
    else:
        assert len(messages) == 1
        error_of(messages)
    assert daemon.process.poll() is None


def test_a_line_that_is_too_long(start_daemon: StartDaemon) -> None:
    """A line beyond the limit is refused as soon as it is; one at the limit is not."""
    daemon = start_daemon(limits={"request_bytes": 70_000})
    room = 70_000 - len(request("echo", [""])) + 1
    assert daemon.result("echo", ["x" * room]) == "x" * room
    assert answer(daemon, request("echo", ["x" * (room + 1)])) == "invalid_request"
    with daemon.connect() as wire:
        wire.send(b"x" * 70_001)
        assert error_of([wire.message()]) == "invalid_request"


def test_a_request_that_does_not_come(start_daemon: StartDaemon) -> None:
    """Who connects and says nothing, or half of it, gets a timeout."""
    daemon = start_daemon(limits={"request_time": 1})
    with (
        daemon.connect() as silent,
        daemon.connect() as slow,
        socket.create_connection(("127.0.0.1", daemon.port)) as raw,
    ):
        slow.send(b'{"harp": 1')
        assert error_of([silent.message()]) == "timeout"
        assert silent.line() == b""
        assert error_of([slow.message()]) == "timeout"
        # Without TLS there is nobody to answer.
        raw.settimeout(20)
        assert raw.recv(1) == b""
    assert daemon.result("nothing") is None


def test_no_tls(daemon: Daemon) -> None:
    """Who does not speak TLS is not answered, and harms nobody."""
    for data in (request("nothing"), b"\x16\x03\x01\xff\xff" + b"\0" * 100, b"\0" * 100_000):
        with socket.create_connection(("127.0.0.1", daemon.port)) as raw:
            raw.settimeout(20)
            try:
                raw.sendall(data)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(4096):
                    pass
            except ConnectionError:
                pass
    assert daemon.result("nothing") is None


def test_too_many_without_tls(start_daemon: StartDaemon) -> None:
    """Who only connects takes no room from others: the first of too many is the first to go."""
    daemon = start_daemon(limits={"connections": 3, "request_time": 60})
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
            for _ in range(6)
        ]
        assert daemon.result("nothing") is None
        for raw in silent[:3]:
            raw.settimeout(LIMIT)
            try:
                assert raw.recv(1) == b""
            except ConnectionError:
                pass


def test_old_tls(daemon: Daemon) -> None:
    """TLS before 1.2 is not spoken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", daemon.port)) as raw,
        pytest.raises(OSError, match=r".*"),
    ):
        context.wrap_socket(raw)


def test_resumption(daemon: Daemon) -> None:
    """Who comes again need not do the whole handshake."""
    context = ssl.create_default_context(cafile=daemon.certfile)
    session = None
    reused = []
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", daemon.port)) as raw:
            raw.settimeout(20)
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
                sock.sendall(request("nothing"))
                while sock.recv(4096):
                    pass
                session = sock.session
                reused.append(sock.session_reused)
    assert reused == [False, True, True]


def test_too_many_calls(start_daemon: StartDaemon) -> None:
    """Calls beyond the limit are refused, until there is room."""
    daemon = start_daemon(limits={"calls": 1})
    with daemon.connect() as wire:
        wire.send(request("waits"))
        wire.message()
        assert error_of(daemon.call("nothing")) == "system_error"
        wire.close()
    messages = daemon.call("nothing")
    while "error" in messages[-1]:  # until the daemon has noticed
        messages = daemon.call("nothing")
    assert messages[-1] == {"result": None}


def test_too_many_connections(start_daemon: StartDaemon) -> None:
    """Connections beyond the limit are refused, whoever makes them."""
    daemon = start_daemon(limits={"connections": 2})
    with daemon.connect() as first, daemon.connect() as second:
        first.send(request("waits"))
        first.message()
        with daemon.connect() as third:
            assert error_of([third.message()]) == "system_error"
        second.send(request("nothing"))
        assert second.lines()[-1] == b'{"result":null}\n'
