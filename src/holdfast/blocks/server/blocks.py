"""Requests for blocks: GET, HEAD, PUT, TOUCH, DELETE, and untrash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from holdfast.blocks.locators import BLOCK, EMPTY, HASH, KeepLocator
from holdfast.blocks.server.exchanges import Disconnected
from holdfast.blocks.server.incoming import Incoming
from holdfast.blocks.server.putting import classes_of, receipt
from holdfast.blocks.server.reading import INLINE, WHOLE, is_content
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.sending import Sending
from holdfast.blocks.server.storing import Storing
from holdfast.blocks.server.volumes import BlockMissing, BlockTooNew, VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.blocks.server.exchanges import Exchange
    from holdfast.blocks.server.service import Service
    from holdfast.blocks.server.volumes import Volume

__all__ = ["BlockRequests"]

_VARY = (b"vary", b"X-Keep-Signature")
_BINARY = (b"content-type", b"application/octet-stream")


class BlockRequests:
    """Answers the requests for blocks of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reading = service.reading
        self._run = service.workers.run
        self._sending = Sending(service.reading, service.workers, service.metrics)
        self._methods = {
            "GET": self._get,
            "HEAD": self._head,
            "PUT": self._put,
            "TOUCH": self._touch,
            "DELETE": self._delete,
        }

    async def answer(self, exchange: Exchange, name: str) -> None:
        """Answer a request for a locator; raises Refused when nothing was sent, or CutShort."""
        method = self._methods.get(exchange.method)
        if method is None:
            raise Refused(400, f"{exchange.method[:20]} is no method for blocks")
        await method(exchange, name)

    # --- reading ---

    async def _get(self, exchange: Exchange, name: str) -> None:
        locator = _locator(name)
        size = locator.size
        if size is None:
            raise Refused(405, "the locator needs a size")
        headers = await self._readable(exchange, locator)
        md5sum = locator.md5sum
        if md5sum == EMPTY.md5sum:
            await exchange.answer(200, b"", headers)
            return
        if size > BLOCK:
            raise Refused(404, "no block is that large")
        data = self._reading.cached(md5sum, size) if size <= INLINE else None
        if data is None:
            if size > WHOLE:
                await self._sending.send(exchange, md5sum, size, headers)
                return
            data = await self._run(self._reading.whole, md5sum, size)
        self._service.metrics.sent.inc(size)
        await exchange.answer(200, data, headers)

    async def _head(self, exchange: Exchange, name: str) -> None:
        locator = _locator(name)
        headers = await self._readable(exchange, locator)
        size = locator.size
        if locator.md5sum == EMPTY.md5sum:
            size = 0
        elif size is None or size > INLINE or self._reading.cached(locator.md5sum, size) is None:
            size = await self._run(self._reading.check, locator.md5sum, size)
        await exchange.start(200, [(b"content-length", b"%d" % size), *headers])
        await exchange.send(b"")

    async def _readable(
        self, exchange: Exchange, locator: KeepLocator
    ) -> list[tuple[bytes, bytes]]:
        """Check that the client may read a block; fetch it if it is remote.

        Returns the headers of the answer.
        """
        service = self._service
        headers = [_BINARY, _VARY]
        wanted = exchange.header(b"x-keep-signature")
        local = wanted.partition(",")[0].strip().lower() == "local"
        if locator.md5sum == EMPTY.md5sum:
            service.access.check_token(exchange.token)
        elif locator.perm_sig is None and locator.remote is not None:
            service.access.check_token(exchange.token)
            await service.remotes.fetch(locator, exchange.token)
        else:
            service.access.check_read(locator, exchange.token)
            if local:
                # Who gets a new signature counts on the block for as long as that holds.
                await self._run(self._touch_all, locator.md5sum)
        if local:
            signed = service.access.signed(locator.stripped(), exchange.token)
            headers.append((b"x-keep-locator", signed.encode()))
        return headers

    # --- writing ---

    async def _put(self, exchange: Exchange, name: str) -> None:
        if not HASH.fullmatch(name):
            raise Refused(400, "a block is put to its hash, as 32 lowercase hexadecimal digits")
        service = self._service
        service.access.check_token(exchange.token)
        classes = classes_of(exchange.header(b"x-keep-storage-classes"))
        length = exchange.length
        if length is not None and length > BLOCK:
            raise Refused(413, "a block has at most 64 MiB")
        if name == EMPTY.md5sum:
            if await exchange.body(BLOCK):
                raise Refused(400, "the body is not what the hash says")
            # It is everywhere already.
            kept = service.mounts.shortfall(classes)
            for volume in service.mounts:
                if volume.writable and kept.needs(volume):
                    kept.add(volume)
            size = 0
        elif length is None or length > WHOLE or exchange.expects:
            storing = Storing(
                service.mounts,
                self._reading,
                name,
                size=BLOCK if length is None else length,
                classes=classes,
            )
            async with Incoming(storing, name, service.workers) as incoming:
                while size := await exchange.receive_into(incoming.room):
                    await incoming.filled(size)
                kept = await incoming.finish()
            size = incoming.size
        else:
            data = await exchange.body(WHOLE)
            if len(data) != length:
                raise Disconnected
            size = len(data)
            kept = await self._run(self._store, name, data, classes)
        service.metrics.received.inc(size)
        data, headers = receipt(service.access, name, size, kept, exchange.token)
        await exchange.answer(200, data, headers)

    def _store(self, md5sum: str, data: bytes, classes: tuple[str, ...]) -> Any:
        if not is_content(md5sum, data):
            raise Refused(400, "the body is not what the hash says")
        mounts = self._service.mounts
        with Storing(mounts, self._reading, md5sum, size=len(data), classes=classes) as storing:
            storing.store(data)
        return storing.kept

    async def _touch(self, exchange: Exchange, name: str) -> None:
        locator = _locator(name)
        access = self._service.access
        if not access.is_system(exchange.token):
            access.check_read(locator, exchange.token)
        if locator.md5sum != EMPTY.md5sum and not await self._run(self._touch_all, locator.md5sum):
            raise Refused(404, "no such block")
        await exchange.answer(200, b"")

    def _touch_all(self, md5sum: str) -> int:
        return self._on_all(md5sum, lambda volume: volume.touch(md5sum))

    # --- removing ---

    async def _delete(self, exchange: Exchange, name: str) -> None:
        locator = _locator(name)
        service = self._service
        service.access.check_system(exchange.token)
        if not service.trash.enabled:
            raise Refused(405, "trash is off")
        found = await self._run(self._trash_all, locator.md5sum)
        await exchange.answer(200, orjson.dumps(found), [(b"content-type", b"application/json")])

    def _trash_all(self, md5sum: str) -> dict[str, int]:
        deleted = kept = 0

        def trash(volume: Volume) -> None:
            nonlocal deleted, kept
            try:
                self._service.trash.remove(volume, md5sum)
                deleted += 1
            except BlockTooNew:
                kept += 1

        if not self._on_all(md5sum, trash):
            raise Refused(404, "no such block")
        return {"copies_deleted": deleted, "copies_kept": kept}

    async def untrash(self, exchange: Exchange, name: str) -> None:
        """Answer ``PUT /untrash/{locator}``."""
        locator = _locator(name)
        self._service.access.check_system(exchange.token)
        md5sum = locator.md5sum
        if not await self._run(self._on_all, md5sum, lambda volume: volume.untrash(md5sum)):
            raise Refused(404, "no such block in the trash")
        await exchange.answer(200, b"")

    def _on_all(self, md5sum: str, act: Callable[[Volume], None]) -> int:
        """Do something on each volume that has a block; return on how many it was done."""
        done = 0
        failed = False
        for volume in self._service.mounts:
            if not volume.writable:
                continue
            try:
                act(volume)
                done += 1
            except BlockMissing:
                continue
            except VolumeError as error:
                self._reading.failed(volume, md5sum, error)
                failed = True
        if failed and not done:
            raise Refused(503, "the volume failed")
        return done


def _locator(name: str) -> KeepLocator:
    try:
        return KeepLocator(name)
    except ValueError:
        raise Refused(400, "not a locator") from None
