"""TLS: who is believed, what is sent, and what is said when it fails."""

from __future__ import annotations

import hashlib
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest

from holdfast import Cluster
from holdfast.errors import CallTimeout, CertificateError, NetworkError, Truncated
from tests.http.clients import StartClient
from tests.servers import (
    CLIENT_NAME,
    Certificates,
    EchoServer,
    Hold,
    Receive,
    pattern,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted

BIG = 8 << 20


def ca(certificates: Certificates) -> str:
    """Return the path of the authority's certificate."""
    return str(certificates.ca_file)


@pytest.fixture
def secure(certificates: Certificates) -> Any:
    """Run an echo server with a certificate for localhost and loopback."""
    with EchoServer(tls=certificates.server_context()) as server:
        yield server


def test_calls_over_tls(
    client: StartClient, secure: EchoServer, certificates: Certificates
) -> None:
    """Calls of every size go over one connection."""
    one = client(f"https://localhost:{secure.port}", verify=ca(certificates))
    for size in (0, 10, 100_000, 4 << 20):
        for route in ("bytes", "chunked"):
            assert one.get(f"/{route}/{size}").content == pattern(size)
        seen = one.post(content=pattern(size)).json()
        assert seen["sha256"] == hashlib.sha256(pattern(size)).hexdigest()
    assert secure.connection_count == 1
    assert one.get().json()["tls"] == {"server_name": "localhost", "client": []}


def test_a_body_over_tls_into_a_buffer(
    client: StartClient, secure: EchoServer, certificates: Certificates
) -> None:
    """The body is decrypted into the buffer, and the connection stays in order."""
    one = client(f"https://localhost:{secure.port}", verify=ca(certificates))
    buffer = bytearray(BIG + 10)
    for _ in range(2):
        assert one.get(f"/bytes/{BIG}", into=buffer).content == pattern(BIG)
    with one.stream("GET", f"/bytes/{BIG}") as streamed:
        assert streamed.read() == pattern(BIG)
    assert secure.connection_count == 1


@pytest.mark.parametrize("size", [1 << 14, 1 << 16, BIG])
def test_a_streamed_request_over_tls(
    client: StartClient, secure: EchoServer, certificates: Certificates, size: int
) -> None:
    """Bodies in pieces are encrypted piece by piece, however large these are."""
    one = client(f"https://localhost:{secure.port}", verify=ca(certificates))
    seen = one.post(content=[pattern(size), b"end"]).json()
    assert seen["sha256"] == hashlib.sha256(pattern(size) + b"end").hexdigest()


@pytest.mark.parametrize(
    ("host", "name"), [("localhost", "localhost"), ("127.0.0.1", None), ("[::1]", None)]
)
def test_the_name_that_is_asked_for(
    client: StartClient, certificates: Certificates, host: str, name: str | None
) -> None:
    """SNI carries names and no addresses; both are verified."""
    listen = "::1" if host == "[::1]" else "127.0.0.1"
    with EchoServer(listen, tls=certificates.server_context()) as server:
        one = client(f"https://{host}:{server.port}", verify=ca(certificates))
        assert one.get().json()["tls"]["server_name"] == name


def test_certificates_are_verified_by_default(client: StartClient, secure: EchoServer) -> None:
    """A certificate of an unknown authority is refused before anything is sent."""
    one = client(f"https://localhost:{secure.port}")
    with pytest.raises(CertificateError, match="TLS: unable to get local issuer") as caught:
        one.get()
    assert f"localhost:{secure.port}" in str(caught.value)
    assert not caught.value.sent
    assert isinstance(caught.value, ConnectionError)
    assert secure.request_count == 0
    one.rest()
    secure.wait_for(lambda: secure.open_connections == 0)


def test_another_authority_is_not_enough(
    client: StartClient, certificates: Certificates, tmp_path: Path
) -> None:
    """A certificate must be of an authority that is trusted."""
    stranger = Certificates(tmp_path)
    with EchoServer(tls=stranger.server_context()) as server:
        one = client(f"https://localhost:{server.port}", verify=ca(certificates))
        with pytest.raises(CertificateError, match="TLS: "):
            one.get()
        assert server.request_count == 0


def test_the_name_must_be_right(client: StartClient, certificates: Certificates) -> None:
    """A valid certificate for another host is refused, and the error names both."""
    with EchoServer(tls=certificates.server_context("other.example")) as server:
        one = client(f"https://localhost:{server.port}", verify=ca(certificates))
        with pytest.raises(CertificateError, match="not valid for 'localhost'"):
            one.get()
        assert server.request_count == 0


def test_verification_can_be_turned_off(client: StartClient, certificates: Certificates) -> None:
    """With `verify=False` any certificate will do; SNI is sent all the same."""
    with EchoServer(tls=certificates.server_context("other.example")) as server:
        one = client(f"https://localhost:{server.port}", verify=False)
        assert one.get().json()["tls"]["server_name"] == "localhost"


def test_a_context_of_ones_own(
    client: StartClient, secure: EchoServer, certificates: Certificates
) -> None:
    """An `SSLContext` is used as it is."""
    context = certificates.client_context()
    one = client(f"https://localhost:{secure.port}", verify=context)
    assert one.get().status_code == 200


def test_an_empty_folder_of_authorities(
    client: StartClient, secure: EchoServer, tmp_path: Path
) -> None:
    """`verify` may be a folder; where nobody is in it, nobody is trusted."""
    one = client(f"https://localhost:{secure.port}", verify=tmp_path)
    with pytest.raises(CertificateError):
        one.get()
    assert secure.request_count == 0


@pytest.mark.parametrize("form", ["one file", "two files", "with a password", "context"])
def test_client_certificates(client: StartClient, certificates: Certificates, form: str) -> None:
    """A server that asks for a certificate gets the one that was given."""
    pair = (str(certificates.client_chain_file), str(certificates.client_key_file))
    forms: dict[str, dict[str, Any]] = {
        "one file": {"cert": str(certificates.client_file)},
        "two files": {"cert": pair},
        "with a password": {"cert": (*pair, "not needed")},
        "context": {"verify": certificates.client_context(certificate=True)},
    }
    options = forms[form]
    with EchoServer(tls=certificates.server_context(client_required=True)) as server:
        host = f"https://localhost:{server.port}"
        one = client(host, **{"verify": ca(certificates), **options})
        assert one.get().json()["tls"]["client"] == [CLIENT_NAME]


def test_a_missing_client_certificate(client: StartClient, certificates: Certificates) -> None:
    """A server that insists gets nothing carried out, and its refusal is an error of ours."""
    with EchoServer(tls=certificates.server_context(client_required=True)) as server:
        one = client(f"https://localhost:{server.port}", verify=ca(certificates))
        with pytest.raises(NetworkError) as caught:
            one.get()
        assert f"localhost:{server.port}" in str(caught.value)
        assert server.request_count == 0
        assert one.kept == 0


@pytest.mark.parametrize(
    "options",
    [
        {"verify": "/no/such/file"},
        {"cert": "/no/such/file"},
        {"verify": __file__},
        {"cert": __file__},
    ],
)
def test_files_that_are_not_there(options: dict[str, Any]) -> None:
    """What cannot be read is an OSError when the client is made, not in its first call."""
    with pytest.raises(OSError, match=r"."):
        Cluster(["https://localhost"], **options)


def test_no_tls_at_all(client: StartClient, scripted: StartScripted) -> None:
    """A server that speaks plainly on a TLS port is told apart from a bad certificate."""
    server = scripted([b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    with pytest.raises(CertificateError, match="TLS: ") as caught:
        client(f"https://{server.address}").get()
    assert server.address in str(caught.value)


def test_tls_where_none_is_expected(client: StartClient, secure: EchoServer) -> None:
    """A plain request to a TLS port is a network error."""
    with pytest.raises(NetworkError):
        client(f"http://127.0.0.1:{secure.port}").get()


def test_a_handshake_that_is_cut(client: StartClient, scripted: StartScripted) -> None:
    """A server that closes in the handshake is an error that says so."""
    server = scripted([])
    with pytest.raises(NetworkError, match=r"TLS handshake|reset|closed"):
        client(f"https://{server.address}").get()


def test_a_handshake_that_hangs(client: StartClient, scripted: StartScripted) -> None:
    """The connect limit holds for the handshake."""
    from holdfast import Timeout

    server = scripted([Hold()])
    with pytest.raises(CallTimeout, match=r"within 0\.05 s"):
        client(f"https://{server.address}").get(timeout=Timeout(5, connect=0.05))
    server.wait_for(lambda: server.open_connections == 0)


def test_a_body_cut_off_without_goodbye(
    client: StartClient, certificates: Certificates, scripted: StartScripted
) -> None:
    """A body that ends with the connection must end by TLS: an attacker can cut TCP."""

    class CutTCP:
        def play(self, connection: Any) -> None:
            connection.shut_down_sending()

    server = scripted(
        [Receive(), b"HTTP/1.1 200 OK\r\n\r\nhalf of it", CutTCP(), Hold()],
        tls=certificates.server_context(),
    )
    with pytest.raises(Truncated, match="TLS"):
        client(f"https://localhost:{server.port}", verify=ca(certificates)).get()


def test_a_body_that_ends_with_goodbye(
    client: StartClient, certificates: Certificates, scripted: StartScripted
) -> None:
    """A proper end is an end."""
    server = scripted(
        [Receive(), b"HTTP/1.1 200 OK\r\n\r\nall of it"], tls=certificates.server_context()
    )
    one = client(f"https://localhost:{server.port}", verify=ca(certificates))
    assert one.get().content == b"all of it"


def test_a_kept_connection_that_was_closed(
    client: StartClient, certificates: Certificates, scripted: StartScripted
) -> None:
    """A TLS connection closed while idle is replaced, for any method."""
    server = scripted([Receive(), response(200, b"ok")], tls=certificates.server_context())
    one = client(f"https://localhost:{server.port}", verify=ca(certificates))
    for method in ("GET", "POST", "GET"):
        assert one.request(method, "/").content == b"ok"
        server.wait_for(lambda: server.open_connections == 0)
        one.rest()
    assert server.connection_count == 3


def test_old_protocols_are_refused(client: StartClient, certificates: Certificates) -> None:
    """Nothing below TLS 1.2 is spoken."""
    context = certificates.server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # Python warns of them, too
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with EchoServer(tls=context) as server:
        one = client(f"https://localhost:{server.port}", verify=ca(certificates))
        with pytest.raises(CertificateError, match="TLS: "):
            one.get()


def test_a_slow_body_over_tls(
    client: StartClient, certificates: Certificates, scripted: StartScripted
) -> None:
    """Time limits hold beneath TLS."""
    server = scripted(
        [Receive(), response_head(200, [("Content-Length", "100")]), Hold()],
        tls=certificates.server_context(),
    )
    one = client(f"https://localhost:{server.port}", verify=ca(certificates))
    with pytest.raises(CallTimeout):
        one.get(timeout=0.1)
    assert one.kept == 0
