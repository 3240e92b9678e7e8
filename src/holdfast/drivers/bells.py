"""How other threads end a select."""

from __future__ import annotations

import selectors
import socket
import threading
from collections import deque
from contextlib import suppress

__all__ = ["RUNG", "Bell"]

#: What a selector says for a bell, in place of a strand's number.
RUNG = -1


class Bell:
    """Tells a loop, from any thread, which of its strands' signals were fired.

    Until it is hung up, it costs no socket: who looks at ``rung`` now and then needs none.
    """

    __slots__ = ("_ends", "_lock", "rung")

    def __init__(self) -> None:
        #: The numbers of the strands, in the order of their signals.
        self.rung: deque[int] = deque()
        self._lock = threading.Lock()
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def hang(self, selector: selectors.BaseSelector) -> None:
        """Have the bell end the selects of a selector."""
        if self._ends is None:
            self._ends = socket.socketpair()
            for end in self._ends:
                end.setblocking(False)
            selector.register(self._ends[0], selectors.EVENT_READ, RUNG)

    def ring(self, number: int) -> None:
        """Say, from any thread, that a parked strand's signal was fired."""
        self.rung.append(number)
        with self._lock:  # so that nobody rings what is closed, or its number's next owner
            if self._ends is not None:
                with suppress(BlockingIOError):  # full: it rings already
                    self._ends[1].send(b"\0")

    def quiet(self) -> None:
        """Let it end the next select only when it is rung again."""
        assert self._ends is not None
        self._ends[0].recv(4096)

    def close(self) -> None:
        """Give its sockets back."""
        with self._lock:
            ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()
        self.rung.clear()
