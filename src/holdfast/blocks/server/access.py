"""Who may do what: tokens and signatures."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from holdfast.blocks import signatures
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.signatures import ExpiredSignature, SignatureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.blocks.locators import KeepLocator

__all__ = ["Access", "token_hash", "token_of"]

#: How a token that is known by its hash alone is written.
HASHED = "sha256:"


def token_hash(token: str) -> str:
    """Return what stands for a token in a configuration, so that reading that tells nothing."""
    return HASHED + hashlib.sha256(token.encode()).hexdigest()


def token_of(authorization: bytes | None) -> str:
    """Return the token of an Authorization header: empty without one, or with another scheme."""
    if authorization is None:
        return ""
    scheme, _, token = authorization.strip().partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() in (b"bearer", b"oauth2") else ""


class Access:
    """What tokens and signatures allow.

    ``key``: signs locators; empty: they are not signed, and whoever knows a block's hash may read
    it. ``ttl``: how long signatures hold, in seconds. ``system_token``: for those who keep the
    cluster in order; empty: nobody does. ``tokens``: those that may read and write, plain or by
    `token_hash`; none: every token, and without a key also none. ``now``: tells the seconds since
    the epoch.

    Tokens are compared by their hashes and in constant time: how long it takes tells nothing.
    """

    def __init__(
        self,
        *,
        key: bytes = b"",
        ttl: int = signatures.TTL,
        system_token: str = "",
        tokens: Iterable[str] = (),
        now: Callable[[], float],
    ) -> None:
        self.key = key
        self.ttl = ttl
        self.now = now
        self.system_token = system_token
        self._system = _digest(system_token) if system_token else None
        self._tokens = tuple(
            bytes.fromhex(token.removeprefix(HASHED))
            if token.startswith(HASHED)
            else _digest(token)
            for token in tokens
        )

    def is_system(self, token: str) -> bool:
        """Return whether this is the system token."""
        return self._system is not None and hmac.compare_digest(self._system, _digest(token))

    def check_system(self, token: str) -> None:
        """Refuse every token but the system token."""
        if not token:
            raise Refused(401, "a token is needed")
        if not self.is_system(token):
            raise Refused(403, "only the system token may do this")

    def check_token(self, token: str) -> None:
        """Refuse a token that is not among those that may read and write."""
        if not self._tokens:
            return
        if not token:
            raise Refused(401, "a token is needed")
        digest = _digest(token)
        # All of them, always: not even which one it is can be measured.
        known = [hmac.compare_digest(digest, one) for one in self._tokens]
        if not any(known) and not self.is_system(token):
            raise Refused(403, "the token is not known")

    def check_read(self, locator: KeepLocator, token: str) -> None:
        """Refuse to read a block without a good signature for the token."""
        self.check_token(token)
        if not self.key:
            return
        if not token:
            raise Refused(401, "a token is needed")
        try:
            signatures.verify(self.key, locator, token, self.now, self.ttl)
        except ExpiredSignature as error:
            raise Refused(401, str(error)) from None
        except SignatureError as error:
            raise Refused(400, str(error)) from None

    def signed(self, locator: str, token: str) -> str:
        """Return a locator with a signature for the token, where locators are signed."""
        if not self.key or not token:
            return locator
        return signatures.sign(self.key, locator, token, int(self.now()) + self.ttl, self.ttl)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
