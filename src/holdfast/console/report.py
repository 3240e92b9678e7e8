"""What a demonstration came to: numbers, for a table or as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Dispatched", "Figures", "Guarded", "Report", "Stored", "Watched"]


@dataclass(frozen=True)
class Figures:
    """The calls of one phase, of one client, or all; latencies are in milliseconds.

    ``errors`` counts the calls that were lost: those whose caller saw an error or a wrong answer.
    ``servers`` tells how many each server answered.
    """

    name: str
    calls: int
    attempts: int
    retries: int
    errors: int
    p50: float
    p99: float
    max: float
    servers: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return an object for JSON."""
        return {
            "name": self.name,
            "calls": self.calls,
            "attempts": self.attempts,
            "retries": self.retries,
            "errors": self.errors,
            "p50_ms": round(self.p50, 3),
            "p99_ms": round(self.p99, 3),
            "max_ms": round(self.max, 3),
            "servers": self.servers,
        }


@dataclass(frozen=True)
class Guarded:
    """The calls of a function under `fault_tolerant`, and what statsd received of them.

    One server is ``slow``, one says that it is ``unavailable``, one was ``killed``. ``answered``
    and ``fell_back`` tell what the callers got; ``counts`` are by the names of the metrics.
    """

    calls: int
    slow: str
    unavailable: str
    killed: str
    answered: int
    fell_back: int
    counts: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return an object for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Watched:
    """Event streams that one loop has watched while their servers were killed, one by one.

    ``once`` tells whether each of the ``events`` came once and in order. ``polls`` of a resource
    were answered meanwhile in the same loop.
    """

    streams: int
    events: int
    received: int
    once: bool
    kills: int
    reconnects: int
    polls: int
    failed_polls: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return an object for JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class Dispatched:
    """Jobs on some hosts, through a dispatcher that was killed and started again.

    Of ``jobs`` in a queue ``done`` gave their results, ``at_once`` at the same time, where
    ``limit`` were to; ``kept`` results were still there after the kill. ``packets`` of the job that
    was then interrupted are recorded; ``once`` tells whether each follower had all of them, once
    and in order, and ``ended`` the type of the error that the job ended with. Another job was
    ``cancelled``, and its process is ``gone``.
    """

    hosts: int
    jobs: int
    done: int
    limit: int
    at_once: int
    kept: int
    followers: int
    packets: int
    once: bool
    ended: str
    cancelled: bool
    gone: bool
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether all was as promised."""
        return (
            self.kept == self.done == self.jobs
            and 0 < self.at_once <= self.limit
            and self.packets > 0
            and self.once
            and self.ended == "missing_result"
            and self.cancelled
            and self.gone
        )

    def as_json(self) -> dict[str, Any]:
        """Return an object for JSON."""
        return {**asdict(self), "ok": self.ok, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class Stored:
    """Files that were stored as blocks, and restored while a service and its disk were lost.

    ``bytes`` of all ``files``, as so many ``blocks``, each on so many services (``copies``).
    ``same`` files came back as they were. ``lost`` copies were on that disk, ``repaired`` were
    written anew, and ``whole`` tells whether each block has its copies again.
    """

    services: int
    copies: int
    files: int
    bytes: int
    blocks: int
    put_seconds: float
    get_seconds: float
    same: int
    lost: int
    repaired: int
    whole: bool

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, and what was missing is there again."""
        return self.same == self.files and self.whole and 0 < self.lost == self.repaired

    def as_json(self) -> dict[str, Any]:
        """Return an object for JSON."""
        rounded = {name: round(getattr(self, name), 3) for name in ("put_seconds", "get_seconds")}
        return {**asdict(self), "ok": self.ok, **rounded}


@dataclass(frozen=True)
class Report:
    """The whole demonstration.

    ``killed`` is the server that was killed, ``kills`` how often. ``losses`` tell of a
    few calls that were lost, in words. ``came_back`` tells whether every client called the killed
    server again after its return. ``recovery`` is for how many seconds a failing server was left
    alone. ``guarded`` is the part of `fault_tolerant`, ``watched`` that of the event streams,
    ``dispatched`` that of jobs, and ``stored`` that of blocks.
    """

    seconds: float
    kills: int
    killed: str
    came_back: bool
    total: Figures
    phases: tuple[Figures, ...]
    clients: tuple[Figures, ...]
    losses: tuple[str, ...]
    recovery: float
    guarded: Guarded | None = None
    watched: Watched | None = None
    dispatched: Dispatched | None = None
    stored: Stored | None = None

    @property
    def ok(self) -> bool:
        """Whether no call was lost, no event, no job and no file, and none came twice."""
        return (
            not self.total.errors
            and (self.watched is None or self.watched.once)
            and (self.dispatched is None or self.dispatched.ok)
            and (self.stored is None or self.stored.ok)
        )

    def as_json(self) -> dict[str, Any]:
        """Return one object for JSON; its figures are those of all calls together."""
        return {
            **self.total.as_json(),
            "name": "demo",
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "kills": self.kills,
            "killed": self.killed,
            "came_back": self.came_back,
            "recovery_seconds": self.recovery,
            "phases": [figures.as_json() for figures in self.phases],
            "clients": [figures.as_json() for figures in self.clients],
            "losses": list(self.losses),
            "fault_tolerant": self.guarded.as_json() if self.guarded is not None else None,
            "flow": self.watched.as_json() if self.watched is not None else None,
            "jobs": self.dispatched.as_json() if self.dispatched is not None else None,
            "blocks": self.stored.as_json() if self.stored is not None else None,
        }
