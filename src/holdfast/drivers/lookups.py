"""Host names, looked up by the system's resolver, which knows no deadline.

So each look-up has a daemon thread of its own, which may outlive who asked; whoever asks for the
same name meanwhile waits for the same thread. There are at most as many as names that hang. An
address, and ``localhost``, need none.
"""

from __future__ import annotations

import socket
import threading

from holdfast import ops

__all__ = ["Lookup"]


class _Search:
    """A name being looked up, and who waits for it."""

    def __init__(self) -> None:
        self.waiting: list[ops.Signal] = []
        self.found: list[ops.Address] | Exception = []


_searches: dict[tuple[str, int], _Search] = {}
_lock = threading.Lock()


class Lookup:
    """One program's wait for a name; ``signal`` is fired when `result` is there."""

    __slots__ = ("_search", "signal")

    def __init__(self, host: str, port: int) -> None:
        self.signal = ops.Signal()
        found = _known(host, port)
        if found:
            self._search = _Search()
            self._search.found = found
            self.signal.fire()
            return
        with _lock:
            search = _searches.get((host, port))
            fresh = search is None
            if search is None:
                search = _searches[host, port] = _Search()
            search.waiting.append(self.signal)
        self._search = search
        if fresh:
            threading.Thread(
                target=_look_up, args=(host, port, search), name="holdfast-lookup", daemon=True
            ).start()

    def result(self) -> list[ops.Address]:
        """Return the addresses in the system's order, or raise what the resolver raised."""
        found = self._search.found
        if isinstance(found, Exception):
            raise type(found)(*found.args)  # each its own: several may wait
        return found


def _known(host: str, port: int) -> list[ops.Address]:
    """Return the addresses of a host that nobody needs to be asked for; otherwise none."""
    if host.lower() in ("localhost", "localhost."):  # never another machine (RFC 6761 6.3)
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
    for family, rest in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [(family, (host, port, *rest))]
    return []


def _look_up(host: str, port: int, search: _Search) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        search.found = [(family, address) for family, _, _, _, address in found]
    except Exception as error:
        search.found = error
    with _lock:
        if _searches.get((host, port)) is search:
            del _searches[host, port]
    for signal in search.waiting:
        signal.fire()
