"""The control socket: how administrators talk to a running dispatcher.

A Unix socket that only the dispatcher's own user may use. A command is one JSON object on a line,
``{"command": name, …options}``; the answer is any number of objects, one a line, then
``{"done": true}`` or ``{"error": {"type", "message"}}``.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.jobs.dispatcher.config import ConfigError
from holdfast.jobs.dispatcher.registry import RegistryError
from holdfast.jobs.dispatcher.store import StoreError
from holdfast.jobs.endings import error_end
from holdfast.jobs.fields import Fields, Invalid, received
from holdfast.jobs.messages import REQUEST_LIMIT
from holdfast.wire.jsonlines import encode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

__all__ = ["SOCKET", "ControlSocket"]

log = logging.getLogger(__name__)

#: Where the socket is unless told otherwise.
SOCKET = Path("/var/run/harpcallerd/control")

_DONE = encode({"done": True})


class ControlSocket:
    """Answers commands; each has a handler that takes its options and yields lines."""

    def __init__(
        self, path: Path, handlers: Mapping[str, Callable[[Fields], AsyncGenerator[bytes, None]]]
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._connections: set[asyncio.Task[None]] = set()
        # Those that have given no command yet.
        self._silent: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen; raise OSError when that cannot be done or another dispatcher listens there."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(self._path)
            # The mode holds from the first moment on.
            mask = os.umask(0o177)
            try:
                sock.bind(str(self._path))
            finally:
                os.umask(mask)
            self._inode = self._path.stat().st_ino
            self._server = await asyncio.start_unix_server(
                self._connected, sock=sock, limit=REQUEST_LIMIT
            )
        except OSError as error:
            sock.close()
            raise OSError(f"control socket {self._path}: {error.strerror or error}") from error

    async def close(self) -> None:
        """Finish the answers that have begun, and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        for task in self._silent:
            task.cancel()
        if self._connections:
            _, pending = await asyncio.wait(self._connections, timeout=5)
            for task in pending:
                task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._silent.add(task)
        try:
            line = await reader.readline()
            self._silent.discard(task)
            if line:
                await self._answer(line, writer)
        except (ConnectionError, ValueError):
            pass  # whoever asked has gone, or sends no line
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._connections.discard(task)
            self._silent.discard(task)

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            fields = Fields(received(line), "the command")
            name = fields.text("command")
            handler = self._handlers.get(name)
            if handler is None:
                raise Invalid("invalid_request", f"there is no command {name!r}")
            async with aclosing(handler(fields)) as lines:
                async for one in lines:
                    writer.write(one)
                    await writer.drain()
            writer.write(_DONE)
        except Invalid as error:
            writer.write(_error(error.type, error.message))
        except (ConfigError, RegistryError) as error:
            writer.write(_error("failed", str(error)))
        except (StoreError, OSError) as error:
            if isinstance(error, ConnectionError):
                raise
            writer.write(_error("os_error", str(error)))
        except Exception:
            log.exception("an administrative command failed")
            writer.write(_error("system_error", "the dispatcher failed; its log says how"))
        await writer.drain()


def _error(type: str, message: str) -> bytes:
    return encode(error_end(type, message))


def _remove_stale(path: Path) -> None:
    """Remove the socket of a dispatcher that was killed; raise OSError if one still listens."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            pass
        else:
            raise OSError(errno.EADDRINUSE, "another dispatcher listens on it")
    path.unlink(missing_ok=True)


def option(fields: Fields, name: str, default: Any = None) -> Any:
    """Take an option that is a positive number."""
    value = fields.any(name, default)
    if value is not default and (value.__class__ not in (int, float) or not 0 <= value < 1e9):
        raise Invalid("invalid_request", f"{name} must be a number from 0")
    return value
