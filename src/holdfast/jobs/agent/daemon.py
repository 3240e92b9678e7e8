"""Being a daemon: in the background, and only once."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from typing import TYPE_CHECKING

from holdfast.jobs.agent.config import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Pidfile", "Ready", "to_background"]


class Pidfile:
    """A file with the number of this process, locked for as long as it runs.

    The lock tells whether a daemon runs, not the file: one that a crash left is taken over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self) -> None:
        """Write the file; raises ConfigError when another process has it."""
        while True:
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            except OSError as error:
                raise ConfigError(f"{self.path}: {error.strerror}") from None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                owner = os.read(fd, 32).decode("ascii", "replace").strip()
                os.close(fd)
                raise ConfigError(
                    f"{self.path}: a daemon runs already, as process {owner or '?'}"
                ) from None
            # Its owner may have removed it just before the lock was given.
            try:
                same = os.path.samestat(os.fstat(fd), os.stat(self.path))
            except FileNotFoundError:
                same = False
            if same:
                break
            os.close(fd)
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % os.getpid())
        self._fd = fd

    def release(self) -> None:
        """Remove the file."""
        if self._fd >= 0:
            try:
                os.unlink(self.path)
            except OSError:
                pass  # the lock ends nevertheless
            os.close(self._fd)
            self._fd = -1


class Ready:
    """Tells who has started the daemon that it serves."""

    def __init__(self, pipe: int = -1) -> None:
        self._pipe = pipe

    def tell(self) -> None:
        """Let the terminal go: from now on only the log says anything."""
        if self._pipe < 0:
            return
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        os.write(self._pipe, b"1")
        os.close(self._pipe)
        self._pipe = -1


def to_background() -> Ready:
    """Go on in a process without a terminal; the first one exits when it is ready, or has failed.

    Only without threads and event loops.
    """
    reading, writing = os.pipe()
    first = os.fork()
    if first:
        os.close(writing)
        os.waitpid(first, 0)
        ready = os.read(reading, 1)
        sys.stdout.flush()
        os._exit(0 if ready else 1)
    os.close(reading)
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which the end of the session's leader sends
    if os.fork():
        os._exit(0)
    os.chdir("/")
    return Ready(writing)
