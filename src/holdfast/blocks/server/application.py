"""The service as an ASGI application.

Requests for blocks are answered without a framework between, because there are many of them and
each has little to do; everything else is Starlette's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from starlette.routing import Match

from holdfast.blocks.server.at_once import AtOnce
from holdfast.blocks.server.blocks import BlockRequests
from holdfast.blocks.server.exchanges import Disconnected, Exchange
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.routes import routes
from holdfast.blocks.server.sending import CutShort
from holdfast.blocks.server.volumes import VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive, Scope, Send

    from holdfast.blocks.server.service import Service

__all__ = ["Application"]

logger = logging.getLogger("holdfast.blocks.server")

_HEX = frozenset("0123456789abcdef")
UNTRASH = "/untrash/"


class Application:
    """Answers the requests to a service; ``make``: makes it, within the event loop."""

    def __init__(self, make: Callable[[], Service]) -> None:
        self._make = make
        self._service: Service | None = None
        self._blocks: BlockRequests | None = None
        self._at_once: AtOnce | None = None
        self._routes = routes(lambda: self.service)

    @property
    def service(self) -> Service:
        """The service; only while it runs."""
        assert self._service is not None, "the service is not started"
        return self._service

    def get(self, path: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """Return the whole answer to a GET that needs no wait; see `AtOnce`."""
        try:
            return None if self._at_once is None else self._at_once.get(path, headers)
        except Exception:  # the ordinary way says why
            return None

    def takes_put(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Return whether a PUT with such headers may need no wait."""
        return self._at_once is not None and self._at_once.takes_put(headers)

    def put(self, path: bytes, headers: list[tuple[bytes, bytes]], data: bytes) -> bytes | None:
        """Store a block if that needs no wait; return the whole answer. See `AtOnce`."""
        try:
            return None if self._at_once is None else self._at_once.put(path, headers, data)
        except Exception:
            return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or start and stop with the server."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self._service = self._make()
                except VolumeError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                self._blocks = BlockRequests(self._service)
                self._at_once = AtOnce(self._service)
                self._service.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.service.stop()
                self._service = self._blocks = self._at_once = None
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self.service
        clock = asyncio.get_running_loop().time
        began = clock()
        exchange = Exchange(scope, receive, send, clock)
        service.exchanges.add(exchange)
        service.metrics.in_flight.inc()
        try:
            await self._dispatch(exchange, scope, receive, send)
        except Refused as error:
            await _refuse(exchange, error)
        except CutShort:
            service.metrics.cut_short.inc()
            # The server closes the connection when an answer is not complete.
        except Disconnected:
            pass
        except asyncio.CancelledError:
            if not exchange.expired:
                raise
            assert exchange.task is not None
            exchange.task.uncancel()
            if not exchange.status:
                await _refuse(exchange, Refused(408, "the body did not come"))
        except Exception:
            logger.exception("%s %r failed", exchange.method, exchange.path[:100])
            if exchange.status:
                raise
            await _refuse(exchange, Refused(503, "the service failed"))
        finally:
            service.exchanges.discard(exchange)
            service.metrics.in_flight.dec()
            service.metrics.answered(exchange.method, exchange.status, clock() - began)

    async def _dispatch(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        assert self._blocks is not None
        path = exchange.path
        # Only a locator begins with such digits.
        if len(path) >= 33 and _HEX.issuperset(path[1:33]):
            await self._blocks.answer(exchange, path[1:])
        elif exchange.method == "PUT" and path.startswith(UNTRASH):
            await self._blocks.untrash(exchange, path[len(UNTRASH) :])
        else:
            await self._starlette(exchange, scope, receive, send)

    async def _starlette(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [
                    (b"x-request-id", exchange.request_id),
                    *message.get("headers", ()),
                ]
            await send(message)

        scope["exchange"] = exchange
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                await route.handle(scope, receive, identified)
                return
        raise Refused(400, "unknown path or method")


async def _refuse(exchange: Exchange, error: Refused) -> None:
    if exchange.status:
        logger.error("%r: %s, when the answer had begun", exchange.path[:100], error)
        return
    try:
        await exchange.refuse(error)
    except Disconnected:
        pass
