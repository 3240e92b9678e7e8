"""Signatures of locators: who may read a block, and until when.

A signature is the HMAC-SHA1, by the cluster's signing key, of the block's hash, the reader's
token, the expiry and the time that signatures hold. A service that stores a block signs its
locator for whoever has sent it; with another token, or later, the signature is worth nothing.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from holdfast.blocks.locators import KeepLocator

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "TTL",
    "ExpiredSignature",
    "InvalidSignature",
    "MissingSignature",
    "SignatureError",
    "sign",
    "signature",
    "verify",
]

#: How long signatures hold, in seconds: two weeks.
TTL = 336 * 3600

#: The latest expiry that its eight digits can tell.
_LATEST = 0xFFFFFFFF


class SignatureError(ValueError):
    """A locator gives no permission to read its block."""


class MissingSignature(SignatureError):
    """The locator has no signature."""


class InvalidSignature(SignatureError):
    """The signature is of another block, token or key."""


class ExpiredSignature(SignatureError):
    """The signature held once."""


def signature(key: bytes, md5sum: str, token: str, expiry: int, ttl: int = TTL) -> str:
    """Return the signature of a block's hash for a token, as 40 hexadecimal digits.

    ``expiry``: seconds since the epoch. ``ttl``: how long signatures hold, in seconds; signer and
    verifier must agree on it.
    """
    message = f"{md5sum}@{token}@{expiry:08x}@{ttl:x}"
    return hmac.digest(key, message.encode("utf-8", "surrogateescape"), "sha1").hex()


def sign(key: bytes, locator: KeepLocator | str, token: str, expiry: int, ttl: int = TTL) -> str:
    """Return the locator, without its hints, with a signature for a token; see `signature`."""
    if not isinstance(locator, KeepLocator):
        locator = KeepLocator(locator)
    if not 0 <= expiry <= _LATEST:
        raise ValueError(f"a signature cannot expire at {expiry}")
    signed = signature(key, locator.md5sum, token, expiry, ttl)
    return f"{locator.stripped()}+A{signed}@{expiry:08x}"


def verify(
    key: bytes, locator: KeepLocator, token: str, now: Callable[[], float], ttl: int = TTL
) -> None:
    """Raise a `SignatureError` unless a locator is signed for a token, and still holds.

    ``now``: tells the seconds since the epoch. The signatures are compared in constant time.
    """
    if locator.perm_sig is None or locator.expiry is None:
        raise MissingSignature("the locator is not signed")
    expected = signature(key, locator.md5sum, token, locator.expiry, ttl)
    # Only who has a true signature learns that it has expired.
    if not hmac.compare_digest(expected, locator.perm_sig):
        raise InvalidSignature("the locator's signature is not valid")
    if locator.expiry <= now():
        raise ExpiredSignature("the locator's signature has expired")
