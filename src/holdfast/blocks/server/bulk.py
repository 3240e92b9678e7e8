"""The rest of a long body, straight from the system into the buffers of who stores it.

On uvicorn's way each byte is copied twice before anybody sees it, 64 KiB to 256 KiB at a time, and
for each piece several functions are called. Together that takes as long as a third of the MD5.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from holdfast.blocks.server.exchanges import Disconnected

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.blocks.server.protocol import BlockProtocol

__all__ = ["Bulk"]


class Bulk(asyncio.BufferedProtocol):
    """Has a connection for as long as a body lasts, and then gives it back to its protocol.

    ``left``: how many bytes of the body are to come. Nothing is read while nobody waits for it, and
    never more than the body.
    """

    def __init__(self, protocol: BlockProtocol, transport: asyncio.Transport, left: int) -> None:
        self._protocol = protocol
        self._transport = transport
        self.left = left
        self._room: Callable[[], memoryview] | None = None
        self._view: memoryview | None = None
        self._filled = 0
        self._waiter: asyncio.Future[None] | None = None
        self._moved: Callable[[], None] | None = None
        self._lost = False
        transport.set_protocol(self)

    async def receive_into(self, room: Callable[[], memoryview], moved: Callable[[], None]) -> int:
        """Fill a buffer; return how many bytes that are, fewer only at the end of the body.

        ``room`` gives the buffer, once there are bytes for it: who has sent nothing must not take
        memory. ``moved`` is called whenever some have come. Raises Disconnected.
        """
        if not self.left:
            return 0
        if self._lost or self._transport.is_closing():
            raise Disconnected
        self._room = room
        self._filled = 0
        self._moved = moved
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.resume_reading()
        try:
            await self._waiter
        finally:
            if self._waiter.cancelled() and self.left:  # else it is the protocol's again
                self._pause()
            self._waiter = self._moved = self._room = self._view = None
        return self._filled

    def _pause(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    # What the transport calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes belong."""
        if self._view is None:
            assert self._room is not None
            self._view = self._room()[: self.left]
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of bytes that have come."""
        assert self._view is not None
        self._filled += nbytes
        self.left -= nbytes
        if self._filled < len(self._view):
            if self._moved is not None:
                self._moved()
            return
        self._pause()
        if not self.left:
            self._transport.set_protocol(self._protocol)
            self._protocol.body_over()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        self._lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Disconnected())
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Have the answer wait."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Have the answer go on."""
        self._protocol.resume_writing()

    def eof_received(self) -> Any:
        """Close: a body that ends here is not complete."""
