"""Blocks come from other services."""

from __future__ import annotations

import dataclasses
import hmac
import json
import os
from collections.abc import Iterator

import pytest

from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.blocks.server.remotes import Remote, salted
from tests.blocks.server.services import QUIET, SYSTEM, Running, locator, md5, running

TOKEN = "v2/zzzzz-gj3su-000000000000000/thesecret"
THEIRS = "v2/zzzzz-gj3su-000000000000000/" + hmac.digest(b"thesecret", b"abcde", "sha1").hex()
LOCAL = "local, 2026-01-01T00:00:00Z"
SIZES = [3, 3_000_000]


@pytest.fixture
def far() -> Iterator[Running]:
    """Serve the other cluster, abcde."""
    config = dataclasses.replace(QUIET, signing_key="theirs")
    with running([MemoryVolume()], config) as it:
        yield it


@pytest.fixture
def near(far: Running) -> Iterator[Running]:
    """Serve our cluster, which knows the other one."""
    remotes = {"abcde": Remote(far.url), "owned": Remote(far.url, "our-token")}
    config = dataclasses.replace(QUIET, signing_key="ours", remotes=remotes)
    with running([MemoryVolume()], config) as it:
        yield it


def remote(far: Running, data: bytes, token: str = THEIRS, cluster: str = "abcde") -> str:
    """Put a block to the other cluster; return its locator as ours names it."""
    signed = far.put(data, token).text.strip()
    return signed.replace("+A", f"+R{cluster}-")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_fetched_and_kept(far: Running, near: Running, size: int, method: str) -> None:
    """A block of another cluster is fetched, kept, and signed by us from then on."""
    data = os.urandom(size)
    name = remote(far, data)
    headers = {"X-Keep-Signature": LOCAL}
    answer = near.request(method, f"/{name}", token=TOKEN, headers=headers)
    assert answer.status == 200
    if method == "GET":
        assert answer.body == data
    signed = answer.headers["X-Keep-Locator"]
    assert signed is not None
    assert KeepLocator(signed).perm_sig
    assert near.get(signed, TOKEN).body == data


def test_own_token(far: Running, near: Running) -> None:
    """Where we have a token of our own the reader's never goes there."""
    name = remote(far, b"foo", "our-token", "owned")
    answer = near.get(name, "plain", X_Keep_Signature=LOCAL)
    assert (answer.status, answer.body) == (200, b"foo")


def test_refused(far: Running, near: Running) -> None:
    """A token that may not leave, an unknown cluster, a wrong signature or none: refused."""
    name = remote(far, b"foo")
    cases = [
        (name, "plain", 400),
        (name, "", 401),
        (name.replace("abcde", "other"), TOKEN, 400),
        (name.replace("+Rabcde-", "+Rabcde-0")[:-10] + name[-9:], TOKEN, 502),
        (name, TOKEN.replace("secret", "guess"), 502),
        (f"{md5(b'foo')}+3", TOKEN, 400),
    ]
    for one, token, status in cases:
        assert near.get(one, token, X_Keep_Signature=LOCAL).status == status, one


def test_absent(far: Running, near: Running) -> None:
    """What the other cluster does not have is not found."""
    name = remote(far, b"foo")
    (volume,) = far.service.mounts
    volume.trash(md5(b"foo"), 1 << 62, 0)
    assert near.get(name, TOKEN, X_Keep_Signature=LOCAL).status == 404


@pytest.mark.parametrize("size", SIZES)
def test_corrupt_there(far: Running, near: Running, size: int) -> None:
    """A block that is corrupt there is not kept here."""
    data = os.urandom(size)
    name = remote(far, data)
    (volume,) = far.service.mounts
    assert isinstance(volume, MemoryVolume)
    volume.put(md5(data), bytes(size))
    assert near.get(name, TOKEN, X_Keep_Signature=LOCAL).status == 502
    (volume,) = near.service.mounts
    assert list(volume.index()) == []


def test_unreachable() -> None:
    """A cluster that does not answer is no reason to fail otherwise."""
    with running([MemoryVolume()]) as gone:
        url = gone.url
    config = dataclasses.replace(QUIET, remotes={"abcde": Remote(url)})
    with running([MemoryVolume()], config) as near:
        name = f"{locator(b'foo')}+Rabcde-{'0' * 40}@7fffffff"
        assert near.get(name, TOKEN).status == 502
        assert near.put(b"foo", TOKEN).status == 200


def test_salted() -> None:
    """Only tokens of the form that allows it are salted."""
    assert salted(TOKEN, "abcde") == THEIRS
    assert salted(TOKEN, "other") != THEIRS
    for token in ("plain", "v1/a/b", "v2/a", "v2/a/b/c", "v2//b", "v2/a/"):
        assert salted(token, "abcde") == ""


@pytest.mark.parametrize("size", SIZES)
def test_pull(size: int) -> None:
    """Blocks of a pull list are copied to the mount that is named, from whoever has them."""
    config = dataclasses.replace(QUIET, signing_key="common")
    volumes = [MemoryVolume(), MemoryVolume()]
    data, last = os.urandom(size), os.urandom(size)
    with (
        running([MemoryVolume()], config) as empty,
        running([MemoryVolume()], config) as source,
        running(volumes, config) as target,
    ):
        for one in (data, last):
            source.put(one)
        entries = [
            {
                "locator": locator(one),
                "servers": [empty.url, source.url],
                "mount_uuid": mount,
            }
            for one, mount in (
                (b"absent", ""),
                (data, "zzzzz-nyw5e-000000000000000"),
                (data, volumes[1].uuid),
                (last, ""),
            )
        ]
        body = json.dumps(entries)
        assert target.request("PUT", "/pull", body, token=SYSTEM).status == 200
        while target.request("TOUCH", f"/{locator(last)}", token=SYSTEM).status == 404:
            pass
        assert [len(list(volume.index(md5(data)))) for volume in volumes] == [0, 1]
        text = target.request("GET", "/metrics").text
        assert 'holdfast_blocks_pulled_total{outcome="failure"} 2.0' in text
        assert 'holdfast_blocks_pulled_total{outcome="success"} ' in text
