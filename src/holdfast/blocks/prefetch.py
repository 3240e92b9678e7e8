"""Blocks fetched in the background, on threads that end when there is nothing left to fetch."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["THREADS", "Prefetch", "failed"]

logger = logging.getLogger("holdfast.blocks")

#: How many blocks are fetched at a time.
THREADS = 2


def failed(error: Exception) -> None:
    """Take note of a block that could not be fetched: who asks for it again will be told why."""
    logger.debug("a block could not be fetched ahead: %s", error)


class Prefetch:
    """The locators that are still to be fetched, by ``fetch``."""

    def __init__(self, fetch: Callable[[str], object], threads: int) -> None:
        self._fetch = fetch
        self._most = threads
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a forked process, where the threads are not."""
        self._changed = threading.Condition()
        self._left: deque[str] = deque()
        self._running = 0

    def add(self, locator: str) -> None:
        """Have a block fetched."""
        with self._changed:
            self._left.append(locator)
            if self._running >= self._most:
                return
            self._running += 1
        threading.Thread(target=self._run, name="holdfast-prefetch", daemon=True).start()

    def stop(self) -> None:
        """Forget what is not begun, and wait for what is."""
        with self._changed:
            self._left.clear()
            while self._running:
                self._changed.wait()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._left:
                    self._running -= 1
                    self._changed.notify_all()
                    return
                locator = self._left.popleft()
            try:
                self._fetch(locator)
            except Exception as error:
                failed(error)
