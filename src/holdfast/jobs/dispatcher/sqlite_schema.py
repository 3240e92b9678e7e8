"""The tables of the SQLite store, and every statement that is run on them.

Jobs are numbered in the order of submission. Packets are stored as they were appended, many to a
row: ``data`` are their lines, and ``place`` is the job's number and the first packet's position in
one integer, so that a job's packets lie side by side and need no index besides.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from holdfast.jobs.dispatcher.store import UNKNOWN, Record, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

__all__ = [
    "COUNT",
    "FIND_JOB",
    "INSERT_JOB",
    "INSERT_PACKETS",
    "INTERRUPTED",
    "LAST_NUMBER",
    "LIST_ALL",
    "LIST_UNFINISHED",
    "NUMBER",
    "PRUNE_JOB",
    "PRUNE_PACKETS",
    "READ_PACKETS",
    "SELECT_OLD",
    "UPDATE_END",
    "UPDATE_START",
    "connect",
    "place",
    "position",
    "prepare",
    "to_record",
    "to_row",
]

#: The version of the schema, kept in the file as its ``user_version``.
VERSION = 2

SCHEMA = f"""
CREATE TABLE jobs(
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    procedure TEXT NOT NULL,
    arguments BLOB NOT NULL,
    submitted INTEGER NOT NULL,
    info BLOB NOT NULL,
    queue BLOB,
    concurrency INTEGER NOT NULL,
    timeout INTEGER NOT NULL,
    max_exec_time INTEGER NOT NULL,
    started INTEGER,
    ended INTEGER,
    message BLOB,
    asked_timeout INTEGER,
    asked_max_exec_time INTEGER
) STRICT;
CREATE INDEX unfinished ON jobs(number) WHERE ended IS NULL;
CREATE INDEX ended ON jobs(ended) WHERE ended IS NOT NULL;
CREATE TABLE packets(
    place INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
PRAGMA user_version = {VERSION};
"""

# Makes the second version of the first, which did not record what was asked.
_SECOND = f"""
ALTER TABLE jobs ADD COLUMN asked_timeout INTEGER DEFAULT {UNKNOWN};
ALTER TABLE jobs ADD COLUMN asked_max_exec_time INTEGER DEFAULT {UNKNOWN};
PRAGMA user_version = 2;
"""

_COLUMNS = (
    "id, host, procedure, arguments, submitted, info, queue, concurrency, timeout, max_exec_time,"
    " started, ended, message, asked_timeout, asked_max_exec_time"
)

INSERT_JOB = f"INSERT INTO jobs(number, {_COLUMNS}) VALUES ({', '.join('?' * 16)})"  # noqa: S608
UPDATE_START = "UPDATE jobs SET started = ? WHERE number = ? AND ended IS NULL"
UPDATE_END = (
    "UPDATE jobs SET started = coalesce(?, started), ended = ?, message = ?"
    " WHERE number = ? AND ended IS NULL"
)
INSERT_PACKETS = "INSERT INTO packets(place, count, data) VALUES (?, ?, ?)"
FIND_JOB = f"SELECT {_COLUMNS} FROM jobs WHERE id = ?"  # noqa: S608
NUMBER = "SELECT number FROM jobs WHERE id = ?"
LAST_NUMBER = "SELECT max(number) FROM jobs"
LIST_ALL = f"SELECT number, {_COLUMNS} FROM jobs WHERE number > ? ORDER BY number LIMIT ?"  # noqa: S608
LIST_UNFINISHED = (
    f"SELECT number, {_COLUMNS} FROM jobs INDEXED BY unfinished"  # noqa: S608
    " WHERE number > ? AND ended IS NULL ORDER BY number LIMIT ?"
)
INTERRUPTED = "SELECT id FROM jobs INDEXED BY unfinished WHERE ended IS NULL ORDER BY number"
COUNT = (
    "SELECT place, count FROM packets WHERE place >= ? AND place < ? ORDER BY place DESC LIMIT 1"
)
# From the row that holds the position on: the last that begins at it or before.
READ_PACKETS = (
    "SELECT place, data FROM packets WHERE place >= coalesce("
    "(SELECT max(place) FROM packets WHERE place >= ?1 AND place <= ?2), ?2)"
    " AND place < ?3 ORDER BY place"
)
SELECT_OLD = "SELECT number FROM jobs WHERE ended < ? ORDER BY ended LIMIT ?"
PRUNE_JOB = "DELETE FROM jobs WHERE number = ?"
PRUNE_PACKETS = "DELETE FROM packets WHERE place >= ? AND place < ?"

# The largest position of a packet is one less than two to this power.
_BITS = 32


def place(number: int, position: int = 0) -> int:
    """Return where the packet of a job is."""
    return number << _BITS | min(position, (1 << _BITS) - 1)


def position(place: int) -> int:
    """Return the position of the packet at a place."""
    return place & ((1 << _BITS) - 1)


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Open the file; statements outside of transactions are committed at once."""
    mode = "ro" if readonly else "rwc"
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=10.0,
    )
    connection.execute("PRAGMA cache_size = -16000")  # KiB
    connection.execute("PRAGMA mmap_size = 0")  # a page that cannot be read is an error, no SIGBUS
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none; raise StoreError for a file of a later version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreError(
            f"the jobs were recorded by a later version of the dispatcher (schema {version},"
            f" this one has {VERSION}): choose another stream_directory"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit has reached the disk when it returns, so that it survives a power failure.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if version == 0:
        connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
    elif version == 1:
        connection.executescript(f"BEGIN; {_SECOND} COMMIT;")


def to_row(number: int, record: Record) -> tuple[Any, ...]:
    """Return a record as a row."""
    return (
        number,
        record.id,
        record.host,
        record.procedure,
        record.arguments,
        record.submitted,
        record.info,
        record.queue,
        record.concurrency,
        record.timeout,
        record.max_exec_time,
        record.started,
        record.ended,
        record.end,
        record.asked_timeout,
        record.asked_max_exec_time,
    )


def to_record(row: Sequence[Any]) -> Record:
    """Return the record of a row that begins with the job's id."""
    return Record(*row)


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
