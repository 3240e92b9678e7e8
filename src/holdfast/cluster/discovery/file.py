"""Hosts from a file that is watched."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from holdfast import ops
from holdfast.cluster.hosts import Host
from holdfast.policy.checks import positive

if TYPE_CHECKING:
    from holdfast.cluster.discovery.protocol import Answer
    from holdfast.ops import Program

__all__ = ["File"]

#: By what a change is noticed.
Signature: TypeAlias = tuple[int, int, int, int]


class File:
    """A JSON or TOML file (by its suffix), looked at every ``interval`` seconds.

    It has a list of hosts, in TOML under the key ``hosts``, in JSON there or alone. A host is a
    string, or a table with ``address`` and perhaps ``weight`` and ``priority``. A file that is
    broken leaves the hosts as they were. Replace it whole (write another one and rename it), as a
    file that is half written may look like a whole one.
    """

    def __init__(self, path: str | os.PathLike[str], interval: float = 1.0) -> None:
        self.path = Path(path)
        self.interval = interval
        positive(self, "interval")
        if self.path.suffix not in (".json", ".toml"):
            raise ValueError(f"File: path must end in .json or .toml, not {str(self.path)!r}")
        self._hosts: list[Host] = []
        self._seen: Signature | None = None
        self._sure = False  # whether it was read again after a change

    def __repr__(self) -> str:
        return f"File({str(self.path)!r}, interval={self.interval:g})"

    def refresh(self) -> Program[Answer]:
        """Return the hosts in the file.

        Raises OSError when it cannot be read, and ValueError, which names the file, when it is
        broken: for the same content once, after that the last good hosts are returned.
        """
        yield ops.Invoke(self._look)
        return self._hosts, self.interval

    def _look(self) -> None:
        """Read the file if it has changed."""
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            seen = status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size
            if seen == self._seen and self._sure:
                return
            # Once more after a change: a second one may follow in the same tick of the clock.
            again = seen == self._seen
            data = file.read()
        if not self._hosts:  # nothing to go on with: the error is raised again
            again = False
        self._seen, self._sure = seen, again
        try:
            hosts = _hosts(self._parsed(data))
        except (ValueError, TypeError, RecursionError) as error:
            if again:
                return
            raise ValueError(f"{self.path}: {error}") from error
        self._hosts = hosts

    def _parsed(self, data: bytes) -> Any:
        text = data.decode()
        return json.loads(text) if self.path.suffix == ".json" else tomllib.loads(text)


def _hosts(content: Any) -> list[Host]:
    if isinstance(content, dict):
        if "hosts" not in content:
            raise ValueError("the key 'hosts' is missing")
        content = content["hosts"]
    if not isinstance(content, list):
        raise ValueError(f"hosts must be a list, not a {type(content).__name__}")
    return [Host.of(host) for host in content]
