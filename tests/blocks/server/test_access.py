"""Who may read, write and remove."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator

import pytest

from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.server.access import token_hash
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.blocks.signatures import sign, verify
from tests.blocks.server.services import QUIET, SYSTEM, Running, locator, md5, running

FOO = "acbd18db4cc2f85cedef654fccc4a4d8"
KEY = "the signing key"


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    """Tell the service's time."""
    return Clock()


@pytest.fixture
def signing(clock: Clock) -> Iterator[Running]:
    """Serve with signatures that hold for an hour."""
    config = dataclasses.replace(QUIET, signing_key=KEY, signature_ttl=3600)
    with running([MemoryVolume()], config, now=clock) as it:
        yield it


@pytest.mark.parametrize("size", [3, 3_000_000])
def test_signed(signing: Running, size: int) -> None:
    """Who puts a block gets a locator that is signed for its token, and reads with it."""
    data = os.urandom(size)
    signed = signing.put(data, "tok").text.strip()
    verify(KEY.encode(), KeepLocator(signed), "tok", time.time, 3600)
    for method in ("GET", "HEAD", "TOUCH"):
        assert signing.request(method, f"/{signed}", token="tok").status == 200
    assert signing.get(signed, "tok").body == data
    assert signing.get(signed, Authorization="OAuth2 tok").status == 200
    assert signing.get(signed, Authorization="bearer tok").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "TOUCH"])
def test_refused(signing: Running, clock: Clock, method: str) -> None:
    """Without a token 401, without a good signature 400, with an expired one 401."""
    signed = signing.put(b"foo", "tok").text.strip()

    def status(name: str, token: str, **headers: str) -> int:
        return signing.request(method, f"/{name}", token=token, headers=headers).status

    assert status(signed, "") == 401
    assert status(signed, "", Authorization="Basic tok") == 401
    assert status(f"{FOO}+3", "tok") == 400
    assert status(signed, "other") == 400
    assert status(signed.replace("acbd", "acbe"), "tok") == 400
    wrong = sign(b"another key", f"{FOO}+3", "tok", int(time.time()) + 100, 3600)
    assert status(wrong, "tok") == 400
    clock.ahead = 3500
    assert status(signed, "tok") == 200
    clock.ahead = 3601
    assert status(signed, "tok") == 401
    # Whether there is such a block is nobody's business who has no signature.
    assert status(f"{md5(b'bar')}+3", "tok") == 400


def test_empty_block_needs_no_signature(signing: Running) -> None:
    """The empty block holds no secret."""
    assert signing.get("d41d8cd98f00b204e9800998ecf8427e+0", "tok").status == 200
    assert "+A" in signing.put(b"", "tok").text


def test_put_without_token(signing: Running) -> None:
    """What nobody has put is signed for nobody."""
    assert signing.put(b"foo").text == f"{FOO}+3\n"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_new_signature(signing: Running, clock: Clock, method: str) -> None:
    """Who asks for a local signature gets a new one, if the old one holds."""
    signed = signing.put(b"foo", "tok").text.strip()
    clock.ahead = 1000
    headers = {"X-Keep-Signature": "local, 2026-01-01T00:00:00Z"}
    answer = signing.request(method, f"/{signed}", token="tok", headers=headers)
    new = answer.headers["X-Keep-Locator"]
    assert new is not None
    assert new != signed
    verify(KEY.encode(), KeepLocator(new), "tok", clock, 3600)
    assert "X-Keep-Locator" not in signing.request(method, f"/{signed}", token="tok").headers
    clock.ahead = 4000
    answer = signing.request(method, f"/{signed}", token="tok", headers=headers)
    assert answer.status == 401
    assert "X-Keep-Locator" not in answer.headers


def test_tokens() -> None:
    """With tokens configured, plain or hashed, no other one reads or writes."""
    config = dataclasses.replace(QUIET, tokens=("plain", token_hash("hashed")))
    with running([MemoryVolume()], config) as service:
        for token in ("plain", "hashed", SYSTEM):
            assert service.put(b"foo", token).status == 200
            assert service.get(f"{FOO}+3", token).status == 200
        for token, status in (("", 401), ("other", 403), (token_hash("hashed"), 403)):
            assert service.put(b"foo", token).status == status
            assert service.put(b"", token).status == status
            assert service.get(f"{FOO}+3", token).status == status
            for method in ("HEAD", "TOUCH"):
                assert service.request(method, f"/{FOO}+3", token=token).status == status


SYSTEM_ONLY = [
    ("DELETE", f"/{FOO}+3"),
    ("PUT", f"/untrash/{FOO}"),
    ("PUT", "/trash"),
    ("PUT", "/pull"),
    ("GET", "/index"),
    ("GET", "/index/acb"),
    ("GET", "/corrupt"),
]


@pytest.mark.parametrize(("method", "path"), SYSTEM_ONLY)
def test_system(service: Running, method: str, path: str) -> None:
    """What changes or lists everything needs the system token."""
    service.put(b"foo")
    body = b"[]" if method == "PUT" else None
    assert service.request(method, path, body).status == 401
    assert service.request(method, path, body, token="other").status == 403
    assert service.request(method, path, body, token=SYSTEM).status in (200, 404)
    assert service.get(f"{FOO}+3").status == 200


def test_no_system_token() -> None:
    """Without a system token nobody may do what needs one."""
    config = dataclasses.replace(QUIET, system_token="")
    with running([MemoryVolume()], config) as service:
        for method, path in SYSTEM_ONLY:
            body = b"[]" if method == "PUT" else None
            assert service.request(method, path, body, token="any").status == 403
            assert service.request(method, path, body).status == 401


def test_system_touches_unsigned(signing: Running) -> None:
    """Who keeps the cluster in order touches blocks without their signatures."""
    signing.put(b"foo", "tok")
    assert signing.request("TOUCH", f"/{FOO}+3", token=SYSTEM).status == 200
    assert signing.request("TOUCH", f"/{locator(b'bar')}", token=SYSTEM).status == 404
