from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.drivers.asyncio import Stream


def test_a_stream_is_closed_after_its_transport_is_gone() -> None:
    """A transport that sent the last of its buffer while closing has no loop any more."""

    class Transport(asyncio.Transport):
        def abort(self) -> None:
            pytest.fail("it is gone")

    async def main() -> None:
        stream = Stream(asyncio.get_running_loop())
        transport: Any = Transport()
        stream.connection_made(transport)
        stream.eof_received()
        stream.connection_lost(None)
        stream.close()

    asyncio.run(main())
