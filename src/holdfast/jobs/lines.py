"""JSON lines over one connection, as programs."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from holdfast.errors import NetworkError, ProtocolError, TooLarge, Truncated
from holdfast.wire.jsonlines import LineParser, LineTooLong, WireError, decode

if TYPE_CHECKING:
    from holdfast.http.connections import Connection
    from holdfast.ops import Program

__all__ = ["Lines"]


class Lines:
    """Values, as they come and go over a connection.

    ``limit``: the most bytes in a line that comes.
    """

    __slots__ = ("_parser", "_too_long", "connection", "heard", "pending")

    def __init__(self, connection: Connection, limit: int) -> None:
        self.connection = connection
        self.heard = False  # whether anything came
        self._parser = LineParser(limit)
        #: Lines that came, and that nobody has received yet.
        self.pending: deque[bytes] = deque()
        self._too_long = ""

    def send(self, line: bytes, deadline: float) -> Program[None]:
        """Send a line."""
        yield from self.connection.send(line, deadline)

    def receive(self, deadline: float) -> Program[Any]:
        """Return the next value.

        Raises NetworkError at the end of the connection, Truncated where that is in the middle of
        a line, ProtocolError for what is no JSON, TooLarge for a line above the limit.
        """
        while not self.pending:
            if self._too_long:
                raise TooLarge(self._too_long)
            data = yield from self.connection.receive(deadline)
            if not data:
                if self._parser.held:
                    raise Truncated("it closed the connection in the middle of a line")
                raise NetworkError("it closed the connection")
            self.heard = True
            try:
                self.pending.extend(self._parser.feed(data))
            except LineTooLong as error:
                self.pending.extend(error.lines)
                self._too_long = str(error)
        try:
            return decode(self.pending.popleft())
        except WireError as error:
            raise ProtocolError(f"the answer is malformed: {error}") from None

    @property
    def clean(self) -> bool:
        """Whether nothing came that nobody asked for, so that another request may follow."""
        return not (self.pending or self._parser.held or self._too_long)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
