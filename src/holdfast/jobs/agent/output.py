"""What procedures print: lines for the log, never for the wire."""

from __future__ import annotations

import asyncio
import logging
import os

__all__ = ["Output"]

logger = logging.getLogger("holdfast.jobs.agent.output")

#: Longer lines are cut into several, in bytes.
LINE = 8192

#: What is read at once, in bytes: a procedure that prints without end does not keep others waiting.
PIECE = 65536


class Output:
    """The read end of a pipe that processes write to; closed when the last of them is gone.

    That may be long after a call's end: what it has started may go on printing.
    """

    __slots__ = ("_fd", "_held", "_loop", "label")

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, label: str) -> None:
        self._loop = loop
        self._fd = fd
        self._held = b""
        self.label = label
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            lines = (self._held + data).split(b"\n")
            self._held = lines.pop()
            for line in lines:
                self._log(line)
            while len(self._held) > LINE:
                self._log(self._held[:LINE])
                self._held = self._held[LINE:]
        else:
            self.close()

    def _log(self, line: bytes) -> None:
        for start in range(0, len(line) or 1, LINE):
            text = line[start : start + LINE].rstrip(b"\r").decode("utf-8", "backslashreplace")
            # Control characters could forge lines, or commands to the terminal.
            if not text.isprintable():
                text = "".join(
                    one if one.isprintable() or one == "\t" else ascii(one)[1:-1] for one in text
                )
            logger.info("%s: %s", self.label, text)

    def close(self) -> None:
        """Log what is left and read no more."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._held:
            self._log(self._held)
            self._held = b""
