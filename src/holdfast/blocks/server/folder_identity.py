"""Who a volume in a folder is: its uuid, and the lock of the service that uses it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import string
from typing import TYPE_CHECKING

from holdfast.blocks.server.volumes import VolumeError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Identity", "is_uuid", "new_uuid"]

#: The file, in the folder.
NAME = "volume"

_UUID = re.compile(r"[0-9a-z]{5}-nyw5e-[0-9a-z]{15}")
_DIGITS = string.digits + string.ascii_lowercase


def is_uuid(text: str) -> bool:
    """Return whether a text is the uuid of a volume."""
    return _UUID.fullmatch(text) is not None


def new_uuid() -> str:
    """Return the uuid of a new volume, which belongs to no cluster."""
    return "zzzzz-nyw5e-" + "".join(secrets.choice(_DIGITS) for _ in range(15))


class Identity:
    """The uuid of a folder, written there the first time; ``locked``: for us alone."""

    def __init__(self, root: int, path: Path, uuid: str, *, locked: bool) -> None:
        self._fd = -1
        if not locked:
            self.uuid = uuid or _written(root) or _derived(path)
            return
        # Only to be read: an open file that could be written would keep the file system from
        # being made read-only.
        flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(NAME, flags, 0o600, dir_fd=root)
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise VolumeError(f"{path} is used by another service") from None
            written = os.read(self._fd, 100).decode("ascii", "replace").strip()
            self.uuid = uuid or (written if is_uuid(written) else new_uuid())
            if self.uuid != written:
                _write(root, f"{self.uuid}\n")
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Give back the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write(root: int, text: str) -> None:
    flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(NAME, flags, dir_fd=root), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _written(root: int) -> str:
    """Return the uuid in a folder that is not ours to write, or nothing."""
    try:
        fd = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError:
        return ""
    with open(fd, encoding="ascii", errors="replace") as file:
        written = file.read(100).strip()
    return written if is_uuid(written) else ""


def _derived(path: Path) -> str:
    """Return a uuid that is always the same for a path."""
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return f"zzzzz-nyw5e-{digest[:15]}"
