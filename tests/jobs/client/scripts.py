"""Steps of scripts for servers that speak JSON lines, and a dispatcher of the classic kind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from tests.servers import PeerClosed
from tests.servers.connection import Connection
from tests.servers.listening import Listener
from tests.servers.scripted import STEP_LIMIT, Script, play

ID = "<the id>"
"""Stands for the id that the client chose, in what is expected and in what is said."""

_RESTS: WeakKeyDictionary[Connection, bytearray] = WeakKeyDictionary()
_IDS: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()


def hear_line(connection: Connection) -> bytes:
    """Read a line; raises PeerClosed where the client is gone."""
    rest = _RESTS.setdefault(connection, bytearray())
    connection.sock.settimeout(STEP_LIMIT)
    while b"\n" not in rest:
        data = connection.receive(1 << 16)
        if not data:
            raise PeerClosed
        rest += data
    line, _, left = bytes(rest).partition(b"\n")
    rest[:] = left
    return line


@dataclass(frozen=True)
class Hear:
    """Hear a line, and check that it is this message."""

    message: Any

    def play(self, connection: Connection) -> None:
        """Read it; its id, if it has one, is remembered."""
        server = connection.server
        assert isinstance(server, LineServer)
        message = json.loads(hear_line(connection))
        if isinstance(message, dict) and "id" in message:
            _IDS[connection] = message["id"]
            server.ids.append(message["id"])
            message["id"] = ID
        server.heard(message)
        assert message == self.message, f"{message} instead of {self.message}"


@dataclass(frozen=True)
class Say:
    """Say messages, a line each; `ID` is the id that was heard last on this connection."""

    messages: tuple[Any, ...]

    def __init__(self, *messages: Any) -> None:
        object.__setattr__(self, "messages", messages)

    def play(self, connection: Connection) -> None:
        """Send them."""
        lines = "".join(json.dumps(message) + "\n" for message in self.messages)
        connection.send(lines.replace(ID, _IDS.get(connection, "")).encode())


@dataclass(frozen=True)
class Do:
    """Call a function of the test."""

    function: Callable[[], Any]

    def play(self, connection: Connection) -> None:
        """Call it."""
        self.function()


@dataclass(frozen=True)
class HearEnd:
    """Wait until the client closes, and set an event."""

    event: threading.Event

    def play(self, connection: Connection) -> None:
        """Read up to the end."""
        connection.sock.settimeout(STEP_LIMIT)
        while connection.receive(1 << 16):
            pass
        self.event.set()


class LineServer(Listener):
    """Play a script of messages to each connection; those beyond the last one get the last again.

    ``messages`` has what was heard, with `ID` for each id, and ``ids`` those.
    """

    def __init__(self, *scripts: Script, **options: Any) -> None:
        super().__init__(**options)
        self.messages: list[Any] = []
        self.ids: list[str] = []
        self._scripts = scripts

    def serve(self, connection: Connection) -> None:
        """Play the connection's script."""
        play(self._scripts[min(connection.number, len(self._scripts) - 1)], connection)

    def heard(self, message: Any) -> None:
        """Record a message."""
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    @property
    def at(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port


FIELDS = {
    "cancel": set[str](),
    "get_result": {"wait"},
    "get_status": set[str](),
    "follow_stream": {"since", "recent"},
    "read_stream": {"since", "recent"},
    "procedure": {"host", "arguments", "timeout", "max_exec_time", "queue", "info"},
}


class ClassicDispatcher(LineServer):
    """A dispatcher that answers one request a connection, and refuses fields it does not know.

    Each job has ended when it was submitted: its result is its arguments.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__((), **options)
        self.jobs: list[dict[str, Any]] = []

    def serve(self, connection: Connection) -> None:
        """Answer one request."""
        request = json.loads(hear_line(connection))
        self.heard(request)
        Say(self.answer(request)).play(connection)

    def answer(self, request: dict[str, Any]) -> Any:
        """Return the reply."""
        kind = next((name for name in FIELDS if name in request), "")
        if request.keys() - FIELDS.get(kind, set()) - {"harpcaller", kind}:
            return {"error": {"type": "invalid_request", "message": "unrecognized request"}}
        if kind == "procedure":
            self.jobs.append(request)
            return {"harpcaller": 1, "job_id": f"job-{len(self.jobs) - 1}"}
        if kind == "get_result":
            return {"result": self.jobs[int(request[kind].removeprefix("job-"))]["arguments"]}
        return {"error": {"type": "invalid_jobid", "message": "no such job"}}
