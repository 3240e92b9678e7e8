"""Verify: every copy of every block is read on every service, and missing ones are restored.

A copy is what one service gives: of a service that keeps several, one is read. What is found of a
block on a service is in a table, `Copy`, from which the number of good copies and what is to be
done follow.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from holdfast import ops
from holdfast.blocks.errors import ArgumentError
from holdfast.blocks.files.distinct import distinct
from holdfast.blocks.files.loading import load, locators_of
from holdfast.blocks.files.progress import Tally
from holdfast.blocks.files.working import each
from holdfast.blocks.locators import EMPTY, KeepLocator
from holdfast.blocks.operation import PAUSES
from holdfast.blocks.reading import ABSENT
from holdfast.blocks.requests import Fields
from holdfast.blocks.segments import stripped
from holdfast.blocks.service import BadBlock
from holdfast.errors import Truncated
from holdfast.http.bodies import BytesBody

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.blocks.base import KeepBase
    from holdfast.blocks.files.progress import OnProgress
    from holdfast.blocks.placement import Service, Services
    from holdfast.blocks.segments import Manifest
    from holdfast.blocks.service import KeepService
    from holdfast.ops import Program

__all__ = ["Block", "Copy", "Verified", "verify"]


class Copy(Enum):
    """What is found of a block on a service."""

    GOOD = "good"
    ABSENT = "absent"
    CORRUPT = "corrupt"
    #: The service did not answer, or refused to.
    UNKNOWN = "unknown"
    #: There was none, or a corrupt one, and now there is a good one.
    REPAIRED = "repaired"


#: What a service answers that has only a corrupt copy.
_CORRUPT = frozenset({502})


class Block(NamedTuple):
    """What is known of a block: its name, its copies by the services' URLs, and what failed."""

    locator: str
    size: int
    copies: dict[str, Copy]
    errors: dict[str, str]

    @property
    def good(self) -> int:
        """How many good copies there are."""
        return sum(one in (Copy.GOOD, Copy.REPAIRED) for one in self.copies.values())


class Verified(NamedTuple):
    """What was found: see `Files.verify`."""

    #: How many copies of each block there should be.
    wanted: int
    files: int
    #: All blocks, with those of the manifest.
    blocks: int
    size: int
    #: How many copies were found of each kind, by service.
    services: dict[str, Counter[Copy]]
    #: The blocks of which there are not enough good copies, or corrupt ones.
    bad: list[Block]
    #: The files, by their paths, with a block of which there is no good copy.
    lost: list[str]

    @property
    def repaired(self) -> int:
        """How many copies were written."""
        return sum(counts[Copy.REPAIRED] for counts in self.services.values())

    @property
    def missing(self) -> int:
        """How many good copies there are too few."""
        return sum(max(self.wanted - block.good, 0) for block in self.bad)

    @property
    def ok(self) -> bool:
        """Whether of each block there are enough good copies, and no corrupt ones."""
        return not self.bad


class _Verifying:
    def __init__(self, client: KeepBase, copies: int, repair: bool, services: Services) -> None:
        self._core = client.core
        self._wanted = copies
        self._repair = repair
        self._services = services
        self._fields = Fields.new()
        self.counts: dict[str, Counter[Copy]] = {one.root: Counter() for one in services.readable}
        #: The services that did not answer, and why: they are not waited for with each block.
        self._gone: dict[str, Exception | None] = {}
        self.bad: list[Block] = []

    def block(self, locator: KeepLocator) -> Program[None]:
        """Read the copies of one block, and restore those that are missing."""
        block = Block(str(locator), locator.size or 0, {}, {})
        data: bytes | None = None
        # In the order in which they are missed.
        order = [one for one in self._services.to_read(locator) if one.root in self.counts]
        for service in order:
            one = yield from self._read(service, locator)
            found = block.copies[service.root] = _kind(one)
            if found in (Copy.CORRUPT, Copy.UNKNOWN):
                block.errors[service.root] = str(one.error)
            elif found is Copy.GOOD and self._repair and data is None:
                data = one.content
            del one  # and its block
        if data is not None:
            yield from self._mend(order, locator, block, data)
        for root, found in block.copies.items():
            self.counts[root][found] += 1
        if block.good < self._wanted or Copy.CORRUPT in block.copies.values():
            self.bad.append(block)

    def _read(self, service: Service, locator: KeepLocator) -> Program[KeepService]:
        """Read the copy on a service, again if it may answer better then."""
        core = self._core
        one = core.service(service, self._fields)
        if service.root in self._gone:
            one.error = self._gone[service.root]
            return one
        cut = False
        for attempt in count(1):
            timeout = core.timeout(service.kind == "proxy", attempt - 1, True)
            yield from one.read("GET", locator, f"/{locator}", timeout)
            if isinstance(one.error, Truncated) and not cut:
                # So ends what is found corrupt on the way; asked again, the service says so.
                cut = True
                continue
            if _kind(one) is not Copy.UNKNOWN or not one.usable() or attempt > core.retries:
                break
            yield ops.Sleep(core.clock() + PAUSES.delay(attempt, core.random))
        if one.error is not None and one.status is None:
            self._gone[service.root] = one.error
        return one

    def _mend(
        self, order: Iterable[Service], locator: KeepLocator, block: Block, data: bytes
    ) -> Program[None]:
        """Replace corrupt copies, and then write as many as are missing, in order."""
        writable = [one for one in order if not one.read_only]
        for service in writable:
            if block.copies[service.root] is Copy.CORRUPT:
                yield from self._write(service, locator, block, data)
        for service in writable:
            if block.good >= self._wanted:
                break
            if block.copies[service.root] is Copy.ABSENT:
                yield from self._write(service, locator, block, data)

    def _write(
        self, service: Service, locator: KeepLocator, block: Block, data: bytes
    ) -> Program[None]:
        """Write a copy, and have the service check it."""
        core = self._core
        proxy = service.kind == "proxy"
        one = core.service(service, self._fields)
        fields = self._fields.wanting(1, ())
        timeout = core.timeout(proxy, 0, True)
        wrote = yield from one.write(locator.md5sum, BytesBody(data), timeout, fields)
        if wrote:
            timeout = core.timeout(proxy, 0, False)
            wrote = yield from one.read("HEAD", locator, f"/{locator}", timeout)
        if wrote:
            block.copies[service.root] = Copy.REPAIRED
            block.errors.pop(service.root, None)
        else:
            block.errors[service.root] = str(one.error)


def _kind(one: KeepService) -> Copy:
    if one.error is None:
        return Copy.GOOD
    if one.status in ABSENT:
        return Copy.ABSENT
    if one.status in _CORRUPT or isinstance(one.error, BadBlock):
        return Copy.CORRUPT
    return Copy.UNKNOWN


def verify(
    client: KeepBase,
    locator: str,
    copies: int,
    repair: bool,
    parallel: int,
    progress: OnProgress | None,
) -> Program[Verified]:
    """Read and check every copy of every block; see `Files.verify`."""
    if copies < 1 or parallel < 1:
        raise ArgumentError("copies and parallel are numbers, from 1")
    if client.local_store:
        raise ArgumentError("a local store has no copies to be verified")
    manifest = yield from load(client, locator)
    services = yield from distinct(client.core)
    names = {stripped(one): KeepLocator(one) for one in locators_of(locator)}
    names |= {stripped(one): KeepLocator(one) for one in manifest.locators()}
    names.pop(str(EMPTY), None)
    verifying = _Verifying(client, copies, repair, services)
    total = sum(one.size or 0 for one in names.values())
    tally = Tally(total, progress)

    def one(block: KeepLocator) -> Program[None]:
        yield from verifying.block(block)
        tally.add(block.size or 0)

    yield from each(iter(names.values()), one, parallel)
    return Verified(
        copies,
        len(manifest.files),
        len(names),
        total,
        verifying.counts,
        verifying.bad,
        _lost(manifest, verifying.bad),
    )


def _lost(manifest: Manifest, bad: list[Block]) -> list[str]:
    """Return the files with a block of which there is no good copy."""
    gone = {stripped(block.locator) for block in bad if not block.good}
    if not gone:
        return []
    return [
        path
        for path, segments in manifest.files.items()
        if any(stripped(segment.locator) in gone for segment in segments)
    ]
