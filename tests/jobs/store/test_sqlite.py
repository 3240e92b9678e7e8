"""What only the SQLite store does: files, locks, a full disk."""

from __future__ import annotations

import asyncio
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.jobs.dispatcher import sqlite_schema, sqlite_writer
from holdfast.jobs.dispatcher.sqlite import SqliteStore
from holdfast.jobs.dispatcher.store import StoreError, StoreInUse
from tests.jobs.store.conftest import Run
from tests.jobs.store.test_conformance import record, submitted


def test_locked(run: Run, tmp_path: Path) -> None:
    """A second dispatcher does not get in, and the first is not disturbed."""

    async def test() -> None:
        store = SqliteStore(tmp_path)
        await store.open()
        job_id = await submitted(store)
        with pytest.raises(StoreInUse, match="another dispatcher"):
            await SqliteStore(tmp_path).open()
        assert await store.record(job_id) is not None
        await store.close()
        await store.close()
        again = SqliteStore(tmp_path)
        await again.open()
        await again.close()

    run(test)


def test_private(run: Run, tmp_path: Path) -> None:
    """The files are readable for their owner only, while they are used and after."""

    async def test() -> None:
        store = SqliteStore(tmp_path / "jobs")
        await store.open()
        await submitted(store)
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "jobs").iterdir()
        }
        assert modes.keys() >= {"jobs.sqlite", "jobs.sqlite-wal", "lock"}
        assert set(modes.values()) == {0o600}
        await store.close()

    run(test)


def test_no_store(run: Run, tmp_path: Path) -> None:
    """A file that is no store is an error that names the place, and stays as it is."""
    (tmp_path / "jobs.sqlite").write_text("this is no database" * 100)

    async def test() -> None:
        with pytest.raises(StoreError, match=str(tmp_path)):
            await SqliteStore(tmp_path).open()

    run(test)
    assert (tmp_path / "jobs.sqlite").read_text() == "this is no database" * 100


def test_later_version(run: Run, tmp_path: Path) -> None:
    """The file of a later version is not touched."""
    path = tmp_path / "jobs.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()

    async def test() -> None:
        with pytest.raises(StoreError, match="schema 99"):
            await SqliteStore(tmp_path).open()

    run(test)
    assert path.read_bytes() == before


def test_first_version(run: Run, tmp_path: Path) -> None:
    """The file of the first version is taken over, with its jobs."""

    async def test() -> None:
        store = SqliteStore(tmp_path)
        await store.open()
        job_id = await submitted(store)
        await store.close()
        connection = sqlite3.connect(tmp_path / "jobs.sqlite")
        connection.executescript(
            "ALTER TABLE jobs DROP COLUMN asked_timeout;"
            "ALTER TABLE jobs DROP COLUMN asked_max_exec_time;"
            "PRAGMA user_version = 1;"
        )
        connection.close()
        for _ in range(2):
            await store.open()
            kept = await store.record(job_id)
            assert kept is not None
            # It is not known what was asked, so a repeated request may have asked for anything.
            again = replace(kept, asked_timeout=5, asked_max_exec_time=None)
            assert kept.repeats(again)
            assert not kept.repeats(replace(again, host="other"))
            await store.close()

    run(test)


def test_size_of_a_page(run: Run, tmp_path: Path) -> None:
    """However large records are, a page of them has a bound."""

    async def test() -> None:
        store = SqliteStore(tmp_path)
        await store.open()
        big = b'"' + b"x" * 600_000 + b'"'
        ids = [await submitted(store, arguments=big) for _ in range(5)]
        pages = []
        after: int | None = 0
        while after is not None:
            page = await store.list(after=after)
            pages.append([one.id for one in page.records])
            after = page.next
        assert pages == [ids[:2], ids[2:4], ids[4:]]
        await store.close()

    run(test)


def test_prune_of_many_packets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where old jobs have many packets, others may write between one and the next."""
    monkeypatch.setattr(sqlite_writer, "PRUNED_ROWS", 3)

    async def test() -> None:
        store = SqliteStore(tmp_path)
        await store.open()
        for _ in range(4):
            job_id = await submitted(store)
            await asyncio.gather(*(store.append(job_id, n, [b"1"]) for n in range(2)))
            await store.end(job_id, b"{}", started=1, ended=1)
        assert [await store.prune(2) for _ in range(3)] == [2, 2, 0]
        await store.close()

    run(test)


def test_odd_names(run: Run, tmp_path: Path) -> None:
    """The directory may have any name."""

    async def test() -> None:
        store = SqliteStore(tmp_path / "a?b#c%20 ž")
        await store.open()
        await submitted(store)
        await store.close()
        assert (tmp_path / "a?b#c%20 ž" / "jobs.sqlite").stat().st_size > 0

    run(test)


def test_closed(run: Run, tmp_path: Path) -> None:
    """A closed store says so."""

    async def test() -> None:
        store = SqliteStore(tmp_path)
        await store.open()
        pending = store.submit(record())
        await store.close()
        assert await pending is None
        with pytest.raises(StoreError):
            await store.submit(record())
        with pytest.raises(StoreError):
            await store.record("x")

    run(test)


def test_durable(run: Run, tmp_path: Path) -> None:
    """What was answered has reached the disk: every commit is synchronous."""
    connection = sqlite_schema.connect(tmp_path / "x.sqlite")
    sqlite_schema.prepare(connection)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


def test_group(run: Run, tmp_path: Path) -> None:
    """Writes that come together are committed together."""

    async def test() -> None:
        store = SqliteStore(tmp_path)
        await store.open()
        commits: list[str] = []
        assert store._writer is not None
        store._writer._connection.set_trace_callback(
            lambda text: commits.append(text) if text == "COMMIT" else None
        )
        await asyncio.gather(*(store.submit(record()) for _ in range(500)))
        assert len(commits) < 100
        await store.close()

    run(test)


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_full_disk(run: Run, tmp_path: Path) -> None:
    """What does not fit is refused whole; what was there stays; with room, all goes on."""

    async def test() -> None:
        store = SqliteStore(tmp_path)
        await store.open()
        job_id = await submitted(store)
        await store.append(job_id, 0, [b"1", b"2"])
        big = [b'"' + b"x" * 100_000 + b'"'] * 20
        with small_files(200_000):
            with pytest.raises(StoreError, match=r"cannot be recorded|no space"):
                await store.append(job_id, 2, big)
            with pytest.raises(StoreError):
                await store.submit(record(arguments=big[0] * 20))
            assert await store.packets(job_id, 0, 10) == [b"1", b"2"]
        await store.append(job_id, 2, big)
        assert await store.count(job_id) == 22
        await store.end(job_id, b"{}", started=1, ended=2)
        assert len((await store.list()).records) == 1
        await store.close()

    run(test)
    connection = sqlite3.connect(tmp_path / "jobs.sqlite")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from holdfast.jobs.dispatcher.sqlite import SqliteStore
from holdfast.jobs.dispatcher.store import Record

async def job(store, name):
    await store.submit(Record(name, "h", "p", b"[]", 1))
    print("job", name, flush=True)
    for first in range(0, 1000, 3):
        await store.append(name, first, [b"%d" % n for n in range(first, first + 3)])
        print("packets", name, first + 3, flush=True)

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await asyncio.gather(*(job(store, str(n)) for n in range(20)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 10, 300])
def test_killed(run: Run, tmp_path: Path, lines: int) -> None:
    """After a kill everything that was answered is there, in order and once."""
    answered: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(lines):
            _take(child.stdout.readline(), answered)
        child.kill()
        for line in child.stdout:
            if line.endswith("\n"):
                _take(line, answered)

    async def test() -> None:
        store = SqliteStore(tmp_path)
        await store.open()
        assert set(await store.interrupted()) >= answered.keys()
        for job_id, count in answered.items():
            packets = await store.packets(job_id, 0, 10_000)
            assert len(packets) >= count
            assert packets == [b"%d" % number for number in range(len(packets))]
            assert await store.count(job_id) == len(packets)
        await store.close()

    run(test)


def _take(line: str, answered: dict[str, int]) -> None:
    kind, job_id, *count = line.split()
    answered[job_id] = int(count[0]) if kind == "packets" else 0
