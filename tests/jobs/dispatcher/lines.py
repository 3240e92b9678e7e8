"""A blocking client that knows of lines only."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any, Self


class Lines:
    """One connection to a dispatcher."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")

    def send(self, **fields: Any) -> None:
        """Send a request."""
        self._socket.sendall(json.dumps({"harpcaller": 1, **fields}).encode() + b"\n")

    def receive(self) -> Any:
        """Return the next message, None at the end of the connection."""
        try:
            line = self._file.readline()
        except ConnectionError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def ask(self, **fields: Any) -> Any:
        """Send a request and return its answer."""
        self.send(**fields)
        return self.receive()

    def call(self, procedure: str, *arguments: Any, **fields: Any) -> str:
        """Submit a job and return its id."""
        asked = {"host": "web01", "procedure": procedure, "arguments": arguments}
        return str(self.ask(**(asked | fields))["job_id"])

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
