"""Blocks as files need them: read, and stored unless they are there already.

A block is looked for before it is sent, on each service, by a HEAD that reads and checks it there,
renews its time, and signs its locator anew. Where locators are signed, that takes a signature: who
has none is told nothing, not even whether the block is there, and has to send it. The signatures of
what was stored are kept, in a `Journal`, for the next time.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.blocks.base import signature_headers
from holdfast.blocks.errors import HttpError, KeepReadError, KeepWriteError, NotFoundError
from holdfast.blocks.files.working import on_thread
from holdfast.blocks.localstore import LocalStore
from holdfast.blocks.locators import EMPTY, KeepLocator
from holdfast.blocks.requests import Fields, new_request_id
from holdfast.blocks.segments import stripped
from holdfast.blocks.writing import Writing
from holdfast.policy.coalescing import Flights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.blocks.base import KeepBase
    from holdfast.blocks.files.journal import Journal
    from holdfast.blocks.placement import Service, Services
    from holdfast.blocks.service import KeepService
    from holdfast.ops import Program

__all__ = ["Storing", "get"]

#: What services answer that want a signature.
_DENIED = frozenset({400, 401, 403})


def get(client: KeepBase, locator: str) -> Program[bytes]:
    """Return a block; raises KeepReadError."""
    if client.local_store:
        data = yield from on_thread(LocalStore(client.local_store).get, locator)
    else:
        data = yield from client.core.get(locator)
    size = KeepLocator(locator).size
    if size not in (None, len(data)):  # a cache knows blocks by their hashes alone
        raise KeepReadError(f"{stripped(locator)} has {len(data)} bytes")
    return data


class Storing:
    """Stores blocks, with so many copies; what is there already is not sent.

    ``services``: those that are asked, see `distinct`; None with a local store. ``journal``: the
    signed locators of an earlier time.
    """

    def __init__(
        self, client: KeepBase, copies: int, services: Services | None, journal: Journal
    ) -> None:
        self._local = LocalStore(client.local_store) if client.local_store else None
        self._core = client.core
        self._copies = copies
        self._services = services
        self._journal = journal
        self._flights = Flights()
        #: Whether blocks may be looked for without a signature.
        self._open = True
        #: The URLs of services that did not answer: they are not looked at again, and written to
        #: when others are not enough.
        self._gone: set[str] = set()
        #: How many blocks, and bytes, were sent.
        self.blocks = 0
        self.sent = 0

    def store(self, digest: str, data: ops.Buffer) -> Program[tuple[str, bool]]:
        """Store a block; returns its locator, and whether it was there already.

        Raises KeepWriteError.
        """
        if not len(data):
            return str(EMPTY), True
        # Equal blocks are under way at the same time where there are equal files.
        (locator, spared), shared = yield from self._flights.share(
            digest, lambda: self._store(digest, data), inf
        )
        return locator, spared or shared

    def _store(self, digest: str, data: ops.Buffer) -> Program[tuple[str, bool]]:
        if self._local is not None:
            return (yield from on_thread(self._locally, self._local, digest, data))
        plain = f"{digest}+{len(data)}"
        locator = self._journal.locator(digest)
        if locator is None or not _fits(locator, plain):
            locator = plain
        core = self._core
        services = self._services
        assert services is not None
        holders: list[Service] = []
        if self._open or "+A" in locator:
            holders, locator = yield from self._found(services, KeepLocator(locator))
        missing = self._copies - len(holders)
        if missing > 0:
            core.counters.puts.add(1)
            others = [one for one in services.to_write(digest) if one not in holders]
            if len(others) < missing:
                # Proxies perhaps, which keep more than one copy each.
                missing, others = self._copies, list(services.to_write(digest))
            writing = _Completing(core, digest, data, missing, (), core.retries, None)
            writing.only = frozenset(others)
            writing.last = self._gone
            locator = yield from writing.run()
            if not _fits(locator, plain):
                # In a manifest it would make files that nobody can read.
                raise KeepWriteError(f"stored as {plain}, but a service calls it {locator!r}")
            self.blocks += 1
            self.sent += len(data)
        self._journal.add(locator)
        return locator, missing <= 0

    def _locally(self, store: LocalStore, digest: str, data: ops.Buffer) -> tuple[str, bool]:
        locator = f"{digest}+{len(data)}"
        try:
            store.head(locator)
        except NotFoundError:
            self.blocks += 1
            self.sent += len(data)
            return store.put(data), False
        return locator, True

    def _found(
        self, services: Services, locator: KeepLocator
    ) -> Program[tuple[list[Service], str]]:
        """Look for copies, as many as are wanted; return who has them, and the locator."""
        left = [one for one in services.to_read(locator) if one.root not in self._gone]
        holders: list[Service] = []
        renewed = str(locator)
        request_id = new_request_id()
        while left and len(holders) < self._copies:
            some = left[: self._copies - len(holders)]
            del left[: len(some)]
            asked = yield from self._asked(some, locator, request_id)
            for service, one in zip(some, asked, strict=True):
                if one.status == 200:
                    holders.append(service)
                    told = (one.header("x-keep-locator") or "").strip()
                    if _fits(told, locator.stripped()):
                        renewed = told
                elif one.status is None:
                    self._gone.add(service.root)
                elif one.status in _DENIED and isinstance(one.error, HttpError):
                    if locator.perm_sig is None:
                        self._open = False
                    return [], locator.stripped()
        return holders, renewed

    def _asked(
        self, services: Sequence[Service], locator: KeepLocator, request_id: str
    ) -> Program[list[KeepService]]:
        """Ask some services for a block, side by side."""
        core = self._core
        fields = Fields(request_id, signature_headers())
        asked = [core.service(service, fields) for service in services]
        programs = [
            one.read(
                "HEAD", locator, f"/{locator}", core.timeout(service.kind == "proxy", 0, False)
            )
            for service, one in zip(services, asked, strict=True)
        ]
        yield from ops.all_of(programs)
        return asked


def _fits(text: str, plain: str) -> bool:
    """Return whether a text is the locator of a block, which is ``plain`` without hints."""
    try:
        return KeepLocator(text).stripped() == plain
    except ValueError:
        return False


class _Completing(Writing):
    """The storing of further copies, on services that have none yet."""

    only: frozenset[Service]
    #: The URLs of those that did not answer: waiting for them with each block would take very long.
    last: set[str]

    def ordered(self, services: Services) -> Sequence[Service]:
        """Return those of them that can be written to, by weight."""
        order = [one for one in services.to_write(self._md5sum) if one in self.only]
        return sorted(order, key=lambda one: one.root in self.last)
