"""Rules: who may call what, and how a token is stored.

A token is random, with more than enough bits, so one pass of SHA-256 hides it: there is nothing
that could be guessed, and nothing to slow down.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from typing import Any

__all__ = ["Rule", "hash_token", "new_token"]

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What one client may do.

    ``name``: the client's; for a certificate its subject's common name, or an
    alternative one: DNS, e-mail, URI.
    ``hosts`` and ``procedures``: globs, of which one of each must match. ``hash``: of its token.
    """

    name: str
    hosts: tuple[str, ...] = ("*",)
    procedures: tuple[str, ...] = ("*",)
    hash: str = field(default="", repr=False)

    @classmethod
    def parse(cls, value: Any, *, hashed: bool) -> Rule:
        """Return the rule that a table of the configuration is; raise ValueError."""
        if not isinstance(value, dict):
            raise ValueError("must be a table")
        others = value.keys() - {"name", "hosts", "procedures", *(("hash",) if hashed else ())}
        if others:
            raise ValueError(f"unknown option {min(others)!r}")
        name = value.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError("name must be there, and a string")
        digest = value.get("hash", "")
        if hashed and not (isinstance(digest, str) and _HASH.fullmatch(digest)):
            # The value may be the token itself, so it is not shown.
            raise ValueError(f"hash of {name!r} must be sha256: and 64 hexadecimal digits")
        return cls(name, _globs(value, "hosts"), _globs(value, "procedures"), digest)

    def allows(self, host: str, procedure: str) -> bool:
        """Tell whether a procedure may be called on a host."""
        return self.sees(host) and any(_glob(one).match(procedure) for one in self.procedures)

    def sees(self, host: str) -> bool:
        """Tell whether a host is one of the rule's."""
        return any(_glob(one).match(host) for one in self.hosts)


def new_token() -> str:
    """Return a new token."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return how a token is stored."""
    return "sha256:" + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _globs(value: dict[str, Any], name: str) -> tuple[str, ...]:
    globs = value.get(name, ["*"])
    if not isinstance(globs, list) or not all(isinstance(one, str) for one in globs):
        raise ValueError(f"{name} must be a list of globs")
    return tuple(globs)


@lru_cache(1024)
def _glob(glob: str) -> re.Pattern[str]:
    # `fnmatch` itself would ignore case on some systems.
    return re.compile(translate(glob))
