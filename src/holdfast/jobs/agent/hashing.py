"""Comparing passwords with their hashes, in a process of its own.

SHA-crypt takes milliseconds at best, and as much as its number of rounds says. Done by a thread
it would hold up the event loop nevertheless, because both want the interpreter's lock. The process
is started when the first hash has to be compared, and again when it has died.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Busy", "Hashing", "known", "like", "main"]

#: How many comparisons may wait; those who guess passwords must not fill the memory.
WAITING = 64

#: Ulrich Drepper's SHA-crypt; 5000 rounds unless it says otherwise.
_HASH = re.compile(
    r"\$(?:5\$(?:rounds=\d{1,9}\$)?[./0-9A-Za-z]{0,16}\$[./0-9A-Za-z]{43}"
    r"|6\$(?:rounds=\d{1,9}\$)?[./0-9A-Za-z]{0,16}\$[./0-9A-Za-z]{86})"
)


class Busy(Exception):
    """Too many passwords wait to be checked, or they cannot be."""


def known(hashed: str) -> bool:
    """Tell whether something is a hash that can be compared with."""
    return _HASH.fullmatch(hashed) is not None


def like(hashed: str) -> str:
    """Return a hash that takes as long as another, and that no password has."""
    start, _, checksum = hashed.rpartition("$")
    return f"{start}${'.' * len(checksum)}"


class Hashing:
    """The process that compares, and those who wait for it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: deque[tuple[bytes, asyncio.Future[bool]]] = deque()

    def verify(self, hashed: str, password: str) -> asyncio.Future[bool]:
        """Compare a password with a hash; raises Busy, at once or from the future."""
        if len(self._waiting) >= WAITING:
            raise Busy("too many passwords are being checked")
        loop = asyncio.get_running_loop()
        if self._process is None:
            self._start(loop)
        future: asyncio.Future[bool] = loop.create_future()
        line = json.dumps([hashed, password]).encode("ascii") + b"\n"
        self._waiting.append((line, future))
        if len(self._waiting) == 1:
            self._send(loop)
        return future

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over the next: one at a time, which always fits into the pipe."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(self._waiting[0][0])
            self._process.stdin.flush()
        except OSError:
            self._stop(loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", __file__],  # by its path: without what the package imports
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise Busy(f"passwords cannot be checked: {error}") from None
        assert self._process.stdout is not None
        loop.add_reader(self._process.stdout.fileno(), self._readable, loop)

    def _readable(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        data = self._process.stdout.read1(4096)  # type: ignore[attr-defined]
        if not data:
            self._stop(loop)
            return
        _, future = self._waiting.popleft()
        if not future.done():
            future.set_result(data == b"1")
        if self._waiting:
            self._send(loop)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            loop.remove_reader(process.stdout.fileno())
            process.kill()
            process.stdout.close()
            try:
                process.stdin.close()
            except OSError:
                pass
            process.wait()
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(Busy("passwords cannot be checked: the process has died"))

    def close(self) -> None:
        """End the process."""
        self._stop(asyncio.get_running_loop())


def comparer() -> Callable[[str, str], bool]:
    """Return what compares a password with a hash; imports the library for it."""
    from passlib.hash import sha256_crypt, sha512_crypt

    def compare(hashed: str, password: str) -> bool:
        scheme = sha256_crypt if hashed.startswith("$5$") else sha512_crypt
        try:
            return bool(scheme.verify(password, hashed))
        except ValueError:
            return False

    return compare


def main() -> None:
    """Answer lines of hash and password, each by 1 or 0, until there are no more."""
    compare = comparer()
    for line in sys.stdin.buffer:
        hashed, password = json.loads(line)
        sys.stdout.buffer.write(b"1" if compare(hashed, password) else b"0")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
