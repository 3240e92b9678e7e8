"""Who may call: users and their passwords, from a file or from the configuration.

What a password is compared with is either the password itself (``plain:``) or a hash of it by
SHA-256 or SHA-512 crypt (``crypt:``, and every line of a file). Comparing takes the same time
wherever the first difference is, and a user who does not exist costs what the others cost.

A hash is slow on purpose, and a dispatcher asks for many calls with one password. So hashing is
done elsewhere (`hashing`), and what was right is remembered for as long as nothing changes: not the
password, but a digest of user, password and hash under a key that no one knows.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
from hashlib import blake2b
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.jobs.agent.config import ConfigError, library
from holdfast.jobs.agent.hashing import Busy, Hashing, known, like

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Authentication", "Busy", "FileUsers", "ListedUsers", "Users", "users"]

logger = logging.getLogger("holdfast.jobs.agent")

#: How many right passwords are remembered.
REMEMBERED = 1024

#: Seconds within which a file could have changed without its times telling.
UNCERTAIN = 0.1


class Users(Protocol):
    """Where users come from."""

    def current(self) -> Mapping[str, str]:
        """Return every user's ``plain:…`` or ``crypt:…``; the same object while nothing changed."""
        ...


class ListedUsers:
    """Users that stand in the configuration."""

    def __init__(self, listed: Mapping[str, str]) -> None:
        self._listed = dict(listed)

    def current(self) -> Mapping[str, str]:
        """Return the users."""
        return self._listed


class FileUsers:
    """Users that stand in a file, as lines of ``user:hash``, read anew when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: tuple[int, ...] | None = None
        self._users: Mapping[str, str] = {}

    def check(self) -> None:
        """Raise ConfigError when the file cannot be read or has a line that is none."""
        try:
            _, wrong = _read_users(self.path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path}: {error}") from None
        if wrong:
            raise ConfigError(f"{self.path}: line {wrong[0]} is no 'user:hash' by SHA-crypt")

    def current(self) -> Mapping[str, str]:
        """Return the users; none when the file cannot be read, which is logged."""
        try:
            stat = os.stat(self.path)
            state = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
            if state == self._state:
                return self._users
            users, wrong = _read_users(self.path)
        except (OSError, UnicodeDecodeError) as error:
            if self._state != ():
                logger.error("nobody may call: %s: %s", self.path, error)
            self._state = ()
            self._users = {}
            return self._users
        for number in wrong:
            logger.warning("%s: line %d is no 'user:hash' by SHA-crypt", self.path, number)
        # One that has just been written may be written once more within the same tick.
        fresh = abs(time() - stat.st_ctime) < UNCERTAIN
        self._state = None if fresh else state
        if users != self._users:
            self._users = users
        return self._users


def _read_users(path: Path) -> tuple[dict[str, str], list[int]]:
    """Return the users of a file, and the numbers of the lines that are wrong."""
    users = {}
    wrong = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        user, _, hashed = text.partition(":")
        hashed = hashed.partition(":")[0]  # as in /etc/shadow
        if user and known(hashed):
            users[user] = f"crypt:{hashed}"
        else:
            wrong.append(number)
    return users, wrong


def users(section: dict[str, Any], folder: Path) -> Users:
    """Return the users that a section of the configuration describes; raises ConfigError.

    ``module``: ``passfile``, with ``file``, or ``inplace``, with ``users``. Of a dotted name only
    the last part counts, so that a configuration made for another implementation can be kept.
    """
    left = dict(section)
    module = left.pop("module", None)
    kind = module.rpartition(".")[2] if isinstance(module, str) else None
    found: Users
    if kind == "passfile":
        path = left.pop("file", None)
        if not isinstance(path, str) or not path:
            raise ConfigError("authentication.file must be the name of a file")
        found = FileUsers(folder / path)
        found.check()
    elif kind == "inplace":
        found = ListedUsers(_listed(left.pop("users", None)))
    else:
        raise ConfigError("authentication.module must be passfile or inplace")
    if left:
        raise ConfigError(f"authentication.{min(left, key=str)} is not known")
    if kind == "passfile" or any(one.startswith("crypt:") for one in found.current().values()):
        library("passlib", "libpass")  # which `hashing` imports, in its own process
    return found


def _listed(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ConfigError("authentication.users must be a mapping of users")
    for user, secret in value.items():
        if not isinstance(user, str) or not isinstance(secret, str):
            raise ConfigError(f"authentication.users: {user!r} and its password must be text")
        kind, _, rest = secret.partition(":")
        if not (kind == "plain" and rest) and not (kind == "crypt" and known(rest)):
            raise ConfigError(
                f"authentication.users.{user} must be plain:PASSWORD or crypt:HASH, by SHA-crypt"
            )
    return value


class Authentication:
    """Tells who may call. ``users`` may be replaced at any time."""

    def __init__(self, users: Users, hashing: Hashing) -> None:
        self._hashing = hashing
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, None] = {}
        self._seen: Mapping[str, str] | None = None
        self.users = users

    def check(self, user: str, password: str) -> bool | asyncio.Future[bool]:
        """Tell whether a user has a password: at once, or in a future where hashing is needed.

        Raises Busy when too many are waiting to be hashed.
        """
        current = self.users.current()
        if current is not self._seen:
            self._right.clear()
            self._seen = current
        secret = current.get(user)
        exists = secret is not None
        if secret is None:
            secret = self._stand_in(user, current)
        kind, _, rest = secret.partition(":")
        if kind == "plain":
            # Digests, because the time of a comparison tells the lengths.
            same = hmac.compare_digest(self._digest(password), self._digest(rest))
            return same and exists
        digest = self._digest(user, password, rest)
        if digest in self._right and exists:
            return True
        hashed = self._hashing.verify(rest, password)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        hashed.add_done_callback(
            lambda hashed: self._hashed(hashed, answer, exists, digest, current)
        )
        return answer

    def _hashed(
        self,
        hashed: asyncio.Future[bool],
        answer: asyncio.Future[bool],
        exists: bool,
        digest: bytes,
        current: Mapping[str, str],
    ) -> None:
        if answer.done():
            return
        if hashed.cancelled() or hashed.exception() is not None:
            answer.set_exception(hashed.exception() or Busy("passwords cannot be checked"))
            return
        right = hashed.result() and exists
        if right and current is self._seen:
            if len(self._right) >= REMEMBERED:
                del self._right[next(iter(self._right))]
            self._right[digest] = None
        answer.set_result(right)

    def _stand_in(self, user: str, current: Mapping[str, str]) -> str:
        """Return what an unknown user's password is compared with: it costs what others cost."""
        if not current:
            return "plain:" + secrets.token_hex()
        number = int.from_bytes(self._digest(user)[:8], "big")
        secret = list(current.values())[number % len(current)]
        kind, _, rest = secret.partition(":")
        return "plain:" + secrets.token_hex() if kind == "plain" else "crypt:" + like(rest)

    def _digest(self, *parts: str) -> bytes:
        digest = blake2b(key=self._key, digest_size=32)
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(data), data))
        return digest.digest()
