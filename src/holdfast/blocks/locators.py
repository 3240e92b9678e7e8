"""Locators: the names of blocks.

A locator is the MD5 of a block's content, as 32 hexadecimal digits, its size, and hints:

    acbd18db4cc2f85cedef654fccc4a4d8+3+A<signature>@<expiry>+K@abcde

``+A`` is the permission to read it until the expiry, ``+R<cluster>-`` the same on another cluster,
and ``+K@`` tells where else the block can be found.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

__all__ = ["BLOCK", "EMPTY", "HASH", "KeepLocator", "Remote"]

#: The most bytes of one block.
BLOCK = 64 * 1024 * 1024

#: What a block's hash is, by itself.
HASH = re.compile(r"[0-9a-f]{32}")

# The parts in ASCII only: `\d` would take the digits of other scripts.
_LOCATOR = re.compile(
    r"(?P<md5>[0-9a-f]{32})"
    r"(?:\+(?P<size>[0-9]{1,19}))?"
    r"(?P<hints>(?:\+[A-Z][-A-Za-z0-9@_]*)*)"
)
_SIGNED = re.compile(r"A([0-9a-f]{40})@([0-9a-f]{8})")
_REMOTE = re.compile(r"R([0-9a-z]{5})-([0-9a-f]{40}@[0-9a-f]{8})")

_EPOCH = datetime(1970, 1, 1)


class Remote(NamedTuple):
    """A block's permission on another cluster: the cluster's id, and ``signature@expiry``."""

    cluster: str
    permission: str


class KeepLocator:
    """The name of a block, taken apart.

    ``text``: the locator. Raises ValueError when it is none. Two locators are equal when their
    texts are.
    """

    __slots__ = ("_hints", "_text", "expiry", "md5sum", "perm_sig", "size")

    #: The MD5 of the content, as 32 lowercase hexadecimal digits.
    md5sum: str
    #: How many bytes it has, or None when the locator does not say.
    size: int | None
    #: The signature of the ``+A`` hint, as 40 hexadecimal digits, or None without one.
    perm_sig: str | None
    #: When the signature expires, in seconds since the epoch, or None without one.
    expiry: int | None

    def __init__(self, text: str) -> None:
        self._text = text
        found = _LOCATOR.fullmatch(text)
        if found is None:
            raise ValueError(f"not a locator: {text!r}")
        md5sum, size, hints = found.groups()
        self.md5sum = md5sum
        self.size = None if size is None else int(size)
        self.perm_sig = None
        self.expiry = None
        self._hints: tuple[str, ...] = ()
        if hints:
            self._take(hints[1:].split("+"))

    def _take(self, hints: list[str]) -> None:
        others = []
        for hint in hints:
            if not hint.startswith("A"):
                others.append(hint)
                continue
            signed = _SIGNED.fullmatch(hint)
            if signed is None:
                raise ValueError(f"not a signature: {hint!r}, in the locator {self._text!r}")
            if self.perm_sig is not None:
                raise ValueError(f"a locator has one signature: {self._text!r}")
            self.perm_sig = signed[1]
            self.expiry = int(signed[2], 16)
        self._hints = tuple(others)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"KeepLocator({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, KeepLocator) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    @property
    def hints(self) -> list[str]:
        """The hints but the signature, without their ``+``, in their order."""
        return list(self._hints)

    @property
    def permission_signature(self) -> str | None:
        """Another name of `perm_sig`."""
        return self.perm_sig

    @property
    def perm_expiry(self) -> datetime | None:
        """When the signature expires, as a datetime in UTC without a zone; None without one."""
        return None if self.expiry is None else _EPOCH + timedelta(seconds=self.expiry)

    @property
    def remote(self) -> Remote | None:
        """The permission on another cluster, by the first ``+R`` hint; None without one."""
        for hint in self._hints:
            found = _REMOTE.fullmatch(hint)
            if found is not None:
                return Remote(found[1], found[2])
        return None

    def stripped(self) -> str:
        """Return the locator without its hints."""
        return self.md5sum if self.size is None else f"{self.md5sum}+{self.size}"

    def permission_hint(self) -> str | None:
        """Return the signature's hint, without its ``+``; None without one."""
        return None if self.perm_sig is None else f"A{self.perm_sig}@{self.expiry:08x}"

    def permission_expired(self, as_of_dt: datetime | None = None) -> bool:
        """Return whether the signature has expired: False without one.

        ``as_of_dt``: the time that counts, in UTC when it has no zone; by default now.
        """
        expiry = self.perm_expiry
        if expiry is None:
            return False
        when = datetime.now(UTC) if as_of_dt is None else as_of_dt
        if when.tzinfo is not None:
            when = when.astimezone(UTC).replace(tzinfo=None)
        return expiry <= when


#: The block without content: always there, and stored nowhere.
EMPTY = KeepLocator("d41d8cd98f00b204e9800998ecf8427e+0")
