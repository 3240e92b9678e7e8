"""The other end of the control socket: ask a running dispatcher."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from holdfast.wire.jsonlines import WireError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["CommandFailed", "NotRunning", "ask"]


class CommandFailed(Exception):
    """The dispatcher could not do it; the message says why."""


class NotRunning(Exception):
    """No dispatcher answers at the control socket."""


def ask(
    path: Path,
    command: str,
    options: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Give a command and yield what the dispatcher answers.

    ``timeout`` is the longest silence of the dispatcher, in seconds. Raises NotRunning,
    CommandFailed or TimeoutError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(str(path))
            sock.sendall(encode({"command": command, **(options or {})}))
        except TimeoutError:
            raise
        except PermissionError:
            raise CommandFailed(f"{path} is for the dispatcher's own user only") from None
        except OSError as error:
            reason = error.strerror or error
            raise NotRunning(f"no dispatcher answers at {path}: {reason}") from None
        with closing(sock.makefile("rb")) as lines:
            for line in lines:
                try:
                    message = decode(line)
                except WireError:
                    break
                if "error" in message and set(message) == {"error"}:
                    raise CommandFailed(message["error"]["message"])
                if message == {"done": True}:
                    return
                yield message
    raise NotRunning("the dispatcher ended before it had answered")
