from __future__ import annotations

import pytest

from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.signatures import (
    TTL,
    ExpiredSignature,
    InvalidSignature,
    MissingSignature,
    sign,
    signature,
    verify,
)

FOO = "acbd18db4cc2f85cedef654fccc4a4d8"
KEY = b"secret"


def test_check_value() -> None:
    """The signature of a known block, token, time and key is the known one."""
    assert signature(KEY, FOO, "tok", 0x7FFFFFFF, 0x127500) == (
        "c2d73e19773a6e0ce690268fd3665333c03de358"
    )
    assert TTL == 0x127500


def test_signed() -> None:
    """What was signed for a token holds for it, whatever hints the locator had."""
    signed = sign(KEY, f"{FOO}+3+K@abcde", "tok", 2_000_000_000)
    assert signed.startswith(f"{FOO}+3+A")
    assert signed.endswith("@77359400")
    verify(KEY, KeepLocator(signed), "tok", lambda: 1_999_999_999)
    # The size is not signed.
    verify(KEY, KeepLocator(signed.replace("+3", "+4")), "tok", lambda: 0)


def test_refused() -> None:
    """A signature is worth nothing with another token, key, hash, expiry or time to live."""
    signed = sign(KEY, f"{FOO}+3", "tok", 2_000_000_000)
    locator = KeepLocator(signed)
    for key, one, token, ttl in (
        (b"other", locator, "tok", TTL),
        (KEY, locator, "other", TTL),
        (KEY, locator, "tok", TTL + 1),
        (KEY, KeepLocator(signed.replace("acbd", "acbe")), "tok", TTL),
        (KEY, KeepLocator(signed.replace("@77359400", "@77359401")), "tok", TTL),
    ):
        with pytest.raises(InvalidSignature):
            verify(key, one, token, lambda: 0, ttl)
    with pytest.raises(MissingSignature):
        verify(KEY, KeepLocator(f"{FOO}+3"), "tok", lambda: 0)


def test_expired() -> None:
    """A signature ends at its expiry; a wrong one tells nothing about that."""
    locator = KeepLocator(sign(KEY, f"{FOO}+3", "tok", 1000))
    verify(KEY, locator, "tok", lambda: 999)
    with pytest.raises(ExpiredSignature):
        verify(KEY, locator, "tok", lambda: 1000)
    with pytest.raises(InvalidSignature):
        verify(KEY, locator, "other", lambda: 1000)


def test_impossible_expiry() -> None:
    """An expiry that eight digits cannot tell is refused."""
    with pytest.raises(ValueError, match="expire"):
        sign(KEY, FOO, "tok", 1 << 32)
