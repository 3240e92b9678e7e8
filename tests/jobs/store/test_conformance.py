"""What every store promises."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from holdfast.jobs.dispatcher.store import Record, Store
from tests.jobs.store.conftest import Run, Stores


def record(**fields: Any) -> Record:
    """Return the record of a new job."""
    given: dict[str, Any] = {
        "id": str(uuid4()),
        "host": "web01",
        "procedure": "restart",
        "arguments": b'["nginx"]',
        "submitted": 1000,
    }
    return Record(**(given | fields))


async def submitted(store: Store, **fields: Any) -> str:
    """Record a new job and return its id."""
    new = record(**fields)
    assert await store.submit(new) is None
    return new.id


def test_record(stores: Stores, run: Run) -> None:
    """A record comes back as it was submitted, also after the store was closed."""
    plain = record()
    full = record(
        arguments='{"name": "žluťoučký"}'.encode(),
        info=b'{"user":1}',
        queue=b'{"service":"nginx"}',
        concurrency=3,
        timeout=5,
        max_exec_time=2**53 - 1,
        started=1001,
        asked_timeout=5,
        asked_max_exec_time=2**53 - 1,
    )

    async def test() -> None:
        async with stores.open() as store:
            assert await store.submit(plain) is None
            assert await store.submit(full) is None
            assert await store.record(plain.id) == plain
            assert await store.record(full.id) == full
        async with stores.open() as store:
            assert await store.record(plain.id) == plain
            assert await store.record(full.id) == full

    run(test)


def test_unknown(stores: Stores, run: Run) -> None:
    """Of a job that nobody submitted there is nothing."""

    async def test() -> None:
        async with stores.open() as store:
            assert await store.record("none") is None
            assert await store.count("none") == 0
            assert await store.packets("none", 0, 10) == []
            await store.end("none", b"{}", started=None, ended=1)
            assert await store.record("none") is None

    run(test)


def test_submitted_twice(stores: Stores, run: Run) -> None:
    """A second job of the same id changes nothing and gets the first one's record."""
    first = record()
    second = record(id=first.id, host="other")

    async def test() -> None:
        async with stores.open() as store:
            both = store.submit(first), store.submit(second)
            assert await both[0] is None
            assert await both[1] == first
            await store.end(first.id, b'{"result":1}', started=1000, ended=1002)
            repeated = await store.submit(first)
            assert repeated is not None
            assert repeated.end == b'{"result":1}'
            assert repeated.repeats(first)
            assert not repeated.repeats(second)
            page = await store.list()
            assert [one.host for one in page.records] == ["web01"]

    run(test)


def test_times_and_end(stores: Stores, run: Run) -> None:
    """A job's start and end are recorded once."""

    async def test() -> None:
        async with stores.open() as store:
            job_id = await submitted(store)
            store.start(job_id, 1005)
            await store.append(job_id, 0, [b"1"])
            found = await store.record(job_id)
            assert found is not None
            assert (found.started, found.ended, found.end) == (1005, None, None)
            await store.end(job_id, b'{"result":null}', started=1005, ended=1007)
            await store.end(job_id, b'{"cancelled":true}', started=1006, ended=1008)
            found = await store.record(job_id)
            assert found is not None
            assert (found.started, found.ended, found.end) == (1005, 1007, b'{"result":null}')

    run(test)


def test_order_of_writes(stores: Stores, run: Run) -> None:
    """Writes that nobody waits for are done in the order in which they were asked for."""
    new = record()

    async def test() -> None:
        async with stores.open() as store:
            store.submit(new)
            store.start(new.id, 1001)
            store.append(new.id, 0, [b"0", b"1"])
            store.append(new.id, 2, [b"2"])
            await store.end(new.id, b"{}", started=1001, ended=1002)
            assert await store.packets(new.id, 0, 10) == [b"0", b"1", b"2"]
            found = await store.record(new.id)
            assert found is not None
            assert (found.started, found.ended) == (1001, 1002)

    run(test)


@pytest.mark.parametrize(
    ("since", "limit", "expected"),
    [
        (0, 100, range(12)),
        (0, 1, range(1)),
        (0, 0, range(0)),
        (2, 1, range(2, 3)),
        (3, 1, range(3, 4)),
        (4, 4, range(4, 8)),
        (7, 100, range(7, 12)),
        (11, 5, range(11, 12)),
        (12, 5, range(0)),
        (13, 5, range(0)),
        (2**60, 5, range(0)),
    ],
)
def test_packets(stores: Stores, run: Run, since: int, limit: int, expected: range) -> None:
    """Packets are found from any position on, however they were appended."""

    async def test() -> None:
        async with stores.open() as store:
            before, job_id, after = [await submitted(store) for _ in range(3)]
            await store.append(before, 0, [b'"before"'] * 5)
            await store.append(after, 0, [b'"after"'] * 5)
            position = 0
            for size in (1, 2, 1, 4, 3, 1):
                batch = [b"%d" % n for n in range(position, position + size)]
                await store.append(job_id, position, batch)
                position += size
            assert await store.count(job_id) == 12
            assert await store.packets(job_id, since, limit) == [b"%d" % n for n in expected]

    run(test)


def test_size_of_packets(stores: Stores, run: Run) -> None:
    """No more packets are returned at a time than asked for in bytes, but at least one."""

    async def test() -> None:
        async with stores.open() as store:
            job_id = await submitted(store)
            big = b'"' + b"x" * 65534 + b'"'
            for position in range(20):
                await store.append(job_id, position, [big])
            assert len(await store.packets(job_id, 0, 100, 1)) == 1
            assert len(await store.packets(job_id, 3, 100, 65536 * 4)) == 4
            assert len(await store.packets(job_id, 3, 100, 1 << 30)) == 17

    run(test)


def test_list(stores: Stores, run: Run) -> None:
    """Jobs are listed in the order of submission, page by page."""

    async def test() -> None:
        async with stores.open() as store:
            ids = [await submitted(store) for _ in range(7)]
            for job_id in ids[1::2]:
                await store.end(job_id, b"{}", started=None, ended=2000)
            listed: list[str] = []
            pages = 0
            after: int | None = 0
            while after is not None:
                page = await store.list(after=after, limit=3)
                listed += [one.id for one in page.records]
                after = page.next
                pages += 1
            assert listed == ids
            assert pages == 3
            page = await store.list(ended=False)
            assert [one.id for one in page.records] == ids[::2]

    run(test)


def test_interrupted(stores: Stores, run: Run) -> None:
    """What had no end when its dispatcher ended is interrupted."""

    async def test() -> None:
        async with stores.open() as store:
            waiting, running, ended = [await submitted(store) for _ in range(3)]
            store.start(running, 1001)
            await store.append(running, 0, [b"1", b"2"])
            await store.end(ended, b"{}", started=None, ended=1002)
        async with stores.open() as store:
            assert await store.interrupted() == [waiting, running]
            for job_id in (waiting, running):
                await store.end(job_id, b'{"error":{}}', started=None, ended=1003)
            assert await store.interrupted() == []
            started = [await store.record(job_id) for job_id in (waiting, running)]
            assert [one and one.started for one in started] == [None, 1001]
            assert await store.packets(running, 0, 10) == [b"1", b"2"]

    run(test)


def test_prune(stores: Stores, run: Run) -> None:
    """Jobs that ended long ago are forgotten with their packets, others are kept."""

    async def test() -> None:
        async with stores.open() as store:
            ids = [await submitted(store) for _ in range(5)]
            for position, job_id in enumerate(ids[:4]):
                await store.append(job_id, 0, [b"1"])
                await store.end(job_id, b"{}", started=None, ended=100 + position)
            assert await store.prune(103, 2) == 2
            assert await store.prune(103, 2) == 1
            assert await store.prune(103, 2) == 0
            assert [one.id for one in (await store.list()).records] == ids[3:]
            assert await store.record(ids[0]) is None
            assert await store.packets(ids[0], 0, 10) == []
            assert await store.packets(ids[3], 0, 10) == [b"1"]

    run(test)


def test_new_job_after_prune(stores: Stores, run: Run) -> None:
    """A job that is submitted after the last was forgotten inherits nothing of it."""

    async def test() -> None:
        async with stores.open() as store:
            old = await submitted(store)
            await store.append(old, 0, [b"1"])
            await store.end(old, b"{}", started=None, ended=1)
            assert await store.prune(2) == 1
        async with stores.open() as store:
            new = await submitted(store)
            assert await store.count(new) == 0
            assert await store.packets(new, 0, 10) == []

    run(test)


def test_slots(stores: Stores, run: Run) -> None:
    """Slots are given in order, as many as the first job of a queue said."""

    async def test() -> None:
        async with stores.open() as store:
            started: list[str] = []

            def enter(job_id: str, concurrency: int = 1, queue: bytes = b"{}") -> bool:
                return store.enter(queue, concurrency, job_id, lambda: started.append(job_id))

            assert enter("a", 2)
            assert enter("b")
            assert not enter("c", 9)
            assert not enter("d")
            assert not enter("e")
            assert enter("other", queue=b'{"x":1}')
            (state, _) = store.queues()
            assert (state.name, state.concurrency) == (b"{}", 2)
            assert set(state.running) == {"a", "b"}
            assert state.waiting == ("c", "d", "e")
            store.leave(b"{}", "d")
            assert started == []
            store.leave(b"{}", "b")
            assert started == ["c"]
            store.leave(b"{}", "a")
            assert started == ["c", "e"]
            store.leave(b"{}", "a")
            store.leave(b"{}", "c")
            store.leave(b"{}", "e")
            store.leave(b'{"x":1}', "other")
            assert store.queues() == []
            # The queue is a new one, and takes the concurrency of its first job.
            assert enter("f")
            assert not enter("g")

    run(test)
