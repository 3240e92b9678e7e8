"""Hosts that fail: each failure has its type of error."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import trustme

from holdfast.jobs.dispatcher.running import LINE_LIMIT
from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit
from tests.servers.certificates import Certificates
from tests.servers.ports import refusing_address

ACK = '{"harp":1,"stream_result":false}\n'
STREAM = '{"harp":1,"stream_result":true}\n'


SAID: list[tuple[str, str]] = [
    ("", "network_error"),
    (ACK[:-1], "network_error"),
    (ACK, "network_error"),
    (ACK + '{"result":', "network_error"),
    (STREAM + '{"stream":1}\n', "network_error"),
    ("\n", "protocol_error"),
    ("HTTP/1.1 400 Bad Request\r\n\r\n", "protocol_error"),
    ("{}\n", "protocol_error"),
    ('{"harp":2,"stream_result":false}\n', "protocol_error"),
    ('{"harp":1,"stream_result":1}\n', "protocol_error"),
    ('{"result":1}\n', "protocol_error"),
    (ACK + ACK, "protocol_error"),
    (ACK + '{"stream":1}\n', "protocol_error"),
    (ACK + '{"cancelled":true}\n', "protocol_error"),
    (ACK + '{"result":1,"stream":1}\n', "protocol_error"),
    (ACK + '{"result":1,"result":}\n', "protocol_error"),
    (ACK + '{"result":NaN}\n', "protocol_error"),
    (ACK + '{"exception":{"type":"x"}}\n', "protocol_error"),
    (ACK + '{"error":1}\n', "protocol_error"),
    (ACK + "\udcff\n", "protocol_error"),
    (STREAM + '{"stream":1}\n{"stream":\n', "protocol_error"),
    (STREAM + '{"stream":"\udcff"}\n', "protocol_error"),
    ('{"harp":1,"error":{"type":"auth_error","message":"no"}}\n', "auth_error"),
    (ACK + '{"harp":1,"error":{"type":"odd","message":"","data":[]}}\n', "odd"),
    (ACK + '{"error":{"type":"timeout","message":"t"}}\n', "timeout"),
]


def test_what_hosts_say(dispatch: Dispatch) -> None:
    """A host that goes too soon is a network error, nonsense a protocol error."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for played, kind in SAID:
            job_id = await peer.call("hold")
            call = await kit.host.call()
            # Half a surrogate stands for a byte.
            call.raw(played.encode("utf-8", "surrogateescape"))
            await call.drain()
            if kind == "network_error":
                call.abort()
            end = await peer.result(job_id)
            assert end.keys() == {"error"}, played
            assert end["error"]["type"] == kind, played
            assert isinstance(end["error"]["message"], str), played

    dispatch(test)


def test_end_and_more(dispatch: Dispatch) -> None:
    """What follows the end of a call is ignored."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("play", ACK + '{"result":1}\n{"result":2}\nrubbish\n')
        assert await peer.result(job_id) == {"result": 1}

    dispatch(test)


def test_endless_line(dispatch: Dispatch) -> None:
    """A host that sends a line without end is left; what came before is kept."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("hold")
        call = await kit.host.call()
        call.acknowledge(streams=True)
        call.packets("before")
        call.raw(b'{"stream":"')
        for _ in range(0, LINE_LIMIT + 1, 1 << 18):
            call.raw(b"x" * (1 << 18))
        end = await peer.result(job_id)
        assert end["error"]["type"] == "protocol_error"
        peer.send(read_stream=job_id)
        assert await peer.stream() == ([(0, "before")], end)

    dispatch(test)


def test_longest_line(dispatch: Dispatch) -> None:
    """The longest line that a host may send comes out at the other end."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("hold")
        call = await kit.host.call()
        call.acknowledge(streams=True)
        text = "x" * (LINE_LIMIT - len('{"stream":""}'))
        call.raw(b'{"stream":"%b"}\n' % text.encode())
        call.send({"result": None})
        assert await peer.result(job_id) == {"result": None}
        peer.send(read_stream=job_id)
        assert await peer.stream() == ([(0, text)], {"result": None})

    dispatch(test)


def test_unknown_host(dispatch: Dispatch) -> None:
    """A job for a host that the registry does not have ends so."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("echo", host="nowhere")
        assert (await peer.result(job_id))["error"]["type"] == "unknown_host"

    dispatch(test)


@pytest.mark.parametrize("address", ["refused", "name.invalid", "a" * 70 + ".example", "\u2603..x"])
def test_unreachable(dispatch: Dispatch, address: str) -> None:
    """A host that cannot be reached is a network error, which names it."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        with refusing_address() as (host, port):
            there = host if address == "refused" else address
            kit.know("gone", port, there)
            end = await peer.result(await peer.call("echo", host="gone"))
            assert end["error"]["type"] == "network_error"
            assert "gone" in end["error"]["message"]

    dispatch(test)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n", b"\x00" * 100, b"\x16\x03\x01\x00\x05xxxxx"]
)
def test_no_tls(dispatch: Dispatch, answer: bytes) -> None:
    """A host that speaks no TLS answers garbage; one that just closes is a network error."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        if not answer:
            writer.transport.abort()
        else:
            await reader.read()
            writer.close()

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            kit.know("plain", port)
            end = await peer.result(await peer.call("echo", host="plain"))
            assert end["error"]["type"] == ("protocol_error" if answer else "network_error")

    dispatch(test)


def test_silent_handshake(dispatch: Dispatch) -> None:
    """A host that accepts and says nothing is a network error after a time."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            kit.know("silent", port)
            end = await peer.result(await peer.call("echo", host="silent"))
            assert end["error"]["type"] == "network_error"
            assert "no connection within 1 s" in end["error"]["message"]

    dispatch(test, connect_timeout=1)


def test_sessions_are_resumed(dispatch: Dispatch) -> None:
    """The second call to a host resumes the first one's TLS session."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for _ in range(3):
            await peer.result(await peer.call("echo"))
        assert (kit.host.calls, kit.host.resumed) == (3, 2)

    dispatch(test)


@pytest.mark.parametrize(
    ("ca", "known", "accepted"),
    [
        (None, None, True),
        ("right", None, True),
        ("other", None, False),
        (None, "right", True),
        (None, "other", False),
        ("other", "right", True),
        ("right", "other", True),
        ("other", "other", False),
    ],
)
def test_certificates(
    dispatch: Dispatch,
    certificates: Certificates,
    tmp_path: Path,
    ca: str | None,
    known: str | None,
    accepted: bool,
) -> None:
    """A certificate is accepted when a CA has signed it or it is known, also when resumed."""
    stranger = trustme.CA()
    other = tmp_path / "other.pem"
    stranger.cert_pem.write_to_path(str(other))
    other_known = tmp_path / "other-known.pem"
    stranger.issue_cert("x.example").cert_chain_pems[0].write_to_path(str(other_known))
    files = {
        "ca_file": {"right": certificates.ca_file, "other": other},
        "known_certs_file": {"right": certificates.server_file, "other": other_known},
    }
    options = {
        name: files[name][which]
        for name, which in (("ca_file", ca), ("known_certs_file", known))
        if which
    }

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for _ in range(2):
            end = await peer.result(await peer.call("echo", 1))
            if accepted:
                assert end == {"result": [1]}
            else:
                assert end["error"]["type"] == "network_error"
                assert "certificate" in end["error"]["message"]
                assert kit.host.received.empty()
        assert kit.host.resumed == accepted

    dispatch(test, **options)


def test_name_of_the_host(dispatch: Dispatch, certificates: Certificates) -> None:
    """With verify_hostname the certificate must be for the address, too."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        assert await peer.result(await peer.call("echo", 1)) == {"result": [1]}
        kit.know("other", kit.host.port, "127.0.0.2")
        end = await peer.result(await peer.call("echo", 1, host="other"))
        assert end["error"]["type"] == "network_error"

    dispatch(test, ca_file=certificates.ca_file, verify_hostname=True)


def test_credentials_stay_secret(
    dispatch: Dispatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Nothing that goes wrong shows the credentials to a client or the log."""
    caplog.set_level("DEBUG")

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        seen = ""
        for played in ("", "rubbish\n", ACK + "{}\n"):
            job_id = await peer.call("play", played)
            seen += json.dumps(await peer.result(job_id))
            seen += json.dumps(await peer.ask(get_status=job_id))
        seen += repr(kit.service.registry.hosts()) + repr(kit.service.config)
        assert "hush" not in seen + caplog.text

    dispatch(test)
