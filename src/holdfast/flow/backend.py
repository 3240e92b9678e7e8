"""Around a `Client`: a context manager, one request to a backend, and a doer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from holdfast.flow.client import Client
from holdfast.flow.doing import Doer
from holdfast.flow.tyming import Tymer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

__all__ = ["ClientDoer", "WireLog", "backendRequest", "openClient"]

C = TypeVar("C", bound=Client)


@overload
def openClient(cls: None = None, **kwa: Any) -> Any: ...
@overload
def openClient(cls: type[C], **kwa: Any) -> Any: ...
@contextmanager
def openClient(cls: Any = None, **kwa: Any) -> Iterator[Any]:
    """Make a client, open its connection, and close it whatever happens: a context manager.

    ``cls`` is the class, `Client` by default; all others are its arguments.
    """
    client = (cls or Client)(**kwa)
    try:
        client.reopen()
        yield client
    finally:
        client.close()


class WireLog:
    """Every byte received and sent, in memory: ``received`` and ``sent``."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.sent = bytearray()

    def writeRx(self, data: bytes, who: Any = b"") -> None:
        """Note what was received."""
        self.received += data

    def writeTx(self, data: bytes, who: Any = b"") -> None:
        """Note what was sent."""
        self.sent += data


def backendRequest(
    tymth: Callable[[], float],
    *,
    method: str = "GET",
    scheme: str = "",
    host: str = "localhost",
    port: int | None = None,
    path: str = "/",
    qargs: Mapping[str, Any] | None = None,
    data: Any = None,
    buffered: bool = False,
    tymeout: float = 2.0,
) -> Generator[bytes, Any, dict[str, Any] | None]:
    """Send one request on a connection of its own, for JSON.

    A URL in ``path`` wins over ``scheme``, ``host`` and ``port``. ``buffered``: keep what goes
    over the wire in memory, as a `WireLog` under ``wire`` in the response. Yields b"" after each
    turn; returns the response's dictionary, None when it did not come within ``tymeout`` seconds
    of tyme. Use it as ``response = yield from backendRequest(tymth, ...)``.
    """
    log = WireLog() if buffered else None
    client = Client(
        hostname=host,
        port=port,
        scheme=scheme,
        path=path,
        wl=log,
        tymth=tymth,
    )
    try:
        client.request(
            method=method,
            qargs=qargs,
            headers={"Accept": "application/json", "Connection": "close"},
            data=data,
        )
        tymer = Tymer(tymth, duration=tymeout)
        while True:
            client.service()
            if client.responses:
                response = client.responses.popleft()
                if log is not None:
                    response["wire"] = log
                return response
            if tymer.expired:
                return None
            yield b""
    finally:
        client.close()


class ClientDoer(Doer):
    """Run a client as a doer: opened on entering, stepped each turn, closed on leaving."""

    def __init__(self, client: Client, **kwa: Any) -> None:
        super().__init__(**kwa)
        self.client = client
        if self.tymth is not None:
            client.wind(self.tymth)

    def wind(self, tymth: Callable[[], float]) -> None:
        """Take the time from ``tymth`` from now on, and have the client do so."""
        super().wind(tymth)
        self.client.wind(tymth)

    def enter(self, *, temp: bool | None = None) -> None:
        """Open the connection."""
        self.client.reopen()

    def recur(self, tyme: float) -> bool:
        """Step the client once; it is never done."""
        self.client.service()
        return False

    def exit(self) -> None:
        """Close the connection."""
        self.client.close()
