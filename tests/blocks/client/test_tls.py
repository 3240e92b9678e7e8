"""Services behind TLS: the client verifies them, and says so when it cannot."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.blocks import KeepReadError, KeepWriteError
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.errors import CertificateError, NetworkError
from tests.blocks.client.clients import Api, item, locator
from tests.blocks.client.conftest import StartClient
from tests.blocks.server.services import QUIET, Running, running
from tests.servers import Certificates


@pytest.fixture(scope="module")
def service(certificates: Certificates) -> Iterator[Running]:
    """Serve blocks with a certificate for loopback."""
    config = dataclasses.replace(QUIET, certfile=Path(certificates.server_file))
    with running([MemoryVolume()], config) as it:
        assert it.url.startswith("https://")
        yield it


def api(service: Running) -> Api:
    """List the service."""
    return Api([item(0, *service.address, service_ssl_flag=True)])


@pytest.mark.parametrize("size", [3, 40_000, 3_000_000])
def test_there_and_back(
    service: Running,
    start: StartClient,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    """Blocks go there and back, to a service that is listed or named by its URL."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
    data = os.urandom(size)
    first = start(api(service), proxy="")
    for _ in range(2):
        assert first.put(data, copies=1) == locator(data)
    second = start(proxy=service.url, api_token="t")
    for _ in range(2):
        assert second.head(locator(data)) is True
        assert second.get(locator(data), headers={"X-No": "cache"}) == data


def test_unknown_authority(service: Running, start: StartClient) -> None:
    """A service that cannot be verified gets nothing, and the error says why."""
    with pytest.raises(KeepWriteError, match="certificate") as caught:
        start(api(service), proxy="").put(b"foo", copies=1)
    (error,) = caught.value.request_errors().values()
    assert isinstance(error, CertificateError)


def test_insecure(service: Running, start: StartClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says so gets blocks from a service that cannot be verified."""
    monkeypatch.setenv("ARVADOS_API_HOST_INSECURE", "yes")
    client = start(proxy=service.url, api_token="t")
    assert client.get(client.put(b"bar", copies=1)) == b"bar"


def test_plain_requests_to_tls(service: Running, start: StartClient) -> None:
    """A service that speaks TLS, taken for one that does not, is an error, and no wait."""
    client = start(proxy=service.url.replace("https", "http"), api_token="t")
    with pytest.raises(KeepReadError) as caught:
        client.get(locator(b"foo"))
    (error,) = caught.value.request_errors().values()
    assert isinstance(error, NetworkError)
