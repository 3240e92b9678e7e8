"""Where the log goes: a file that may be moved away, or the standard error."""

from __future__ import annotations

import logging
import sys
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["configure", "reopen"]

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

# With what the event loop has to say: of connections, tasks and descriptors.
_LOGGERS = (logging.getLogger("holdfast"), logging.getLogger("asyncio"))


def configure(path: Path | None, level: str) -> None:
    """Send the log to a file, without one to the standard error; raises OSError."""
    handler: logging.Handler
    if path is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        handler = WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_Formatter(_FORMAT))
    for logger, least in zip(_LOGGERS, (level, "WARNING"), strict=True):
        for old in list(logger.handlers):
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
        logger.setLevel(least)
        logger.propagate = False


def reopen() -> None:
    """Open the file again if another has its name now, or none."""
    for handler in _LOGGERS[0].handlers:
        if isinstance(handler, WatchedFileHandler):
            handler.acquire()
            try:
                handler.reopenIfNeeded()
            finally:
                handler.release()


class _Formatter(logging.Formatter):
    """Keeps every message on a line of its own, whatever came from the network."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message with line breaks escaped."""
        text = super().formatMessage(record)
        if text.isprintable():
            return text
        return "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
        )
