"""For the tests of programs that call clusters: no server, no waiting, every failure at will.

For example::

    world = scripted({"a:80": [ConnectionResetError, 503], "b:80": itertools.repeat({"ok": True})})
    with Cluster(world.addresses, driver=world) as cluster:
        assert cluster.get("/x").json() == {"ok": True}
    assert [asked.target for asked in world.hosts["b:80"].asked] == ["/x"]

The hosts live in a `World`: calls take virtual time, so a test of a deadline of an hour is over at
once, and its outcome is the same on every machine. `instant` is for tests on real connections:
backoff takes no time. `VirtualClock` is for objects that take a ``clock``.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from holdfast import ops
from holdfast.http.origins import Origin
from holdfast.simulation import Asked, Host, Network, Reply, World

if TYPE_CHECKING:
    from holdfast.drivers.simulated import Connection, Peer

__all__ = [
    "Answer",
    "Asked",
    "Reply",
    "Script",
    "ScriptedHost",
    "ScriptedWorld",
    "VirtualClock",
    "World",
    "instant",
    "scripted",
]

#: One answer of a script: a status; a `Reply`; a body, as bytes, str, or what becomes JSON; or an
#: exception. ``ConnectionRefusedError`` refuses a connection (of a function, which has been asked
#: when it is too late for that, it is a reset), ``TimeoutError`` is silence, any other
#: ``ConnectionError`` a reset, and ``EOFError`` closes the connection without an answer.
Answer: TypeAlias = (
    int | Reply | bytes | str | dict[str, Any] | list[Any] | BaseException | type[BaseException]
)

#: All answers of a host: in order, one always, or by a function.
Script: TypeAlias = "Iterable[Answer] | Reply | Callable[[Asked], Answer]"


class VirtualClock:
    """A clock that shows what a test wants: call it for the time, in seconds."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __repr__(self) -> str:
        return f"<VirtualClock at {self.now:g} s>"

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if not seconds >= 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds!r}")
        self.now += seconds


_switching = threading.Lock()
_switched = 0


@contextmanager
def instant() -> Iterator[None]:
    """Have no program sleep: backoff, ``Retry-After`` and other pauses are over at once.

    It holds for every thread and every driver until the end of the ``with`` block. Waits for
    answers, slots and deadlines stay as they are.
    """
    global _switched
    with _switching:
        _switched += 1
        ops.instant = True
    try:
        yield
    finally:
        with _switching:
            _switched -= 1
            ops.instant = _switched > 0


def scripted(
    hosts: Mapping[str, Script], *, latency: float = 0.0, seed: int = 0, start: float = 0.0
) -> ScriptedWorld:
    """Return a world of hosts that answer from scripts; it is a driver for clusters.

    ``hosts``: scripts by address, as a cluster takes them, without TLS. An answer more than its
    script has is an AssertionError in the call. ``latency``: of one way through the network, in
    seconds. Raises ValueError for an address that no scripted host can have.
    """
    world = ScriptedWorld(seed, start)
    if latency:
        Network(world, latency)
    for address, script in hosts.items():
        world.hosts[address] = ScriptedHost(world, _listening(address), script)
    return world


def _listening(address: str) -> str:
    """Return where a cluster connects to for an address."""
    origin = Origin.parse(address)
    if origin.scheme != "http":
        raise ValueError(f"{address}: a scripted host speaks plain http, not {origin.scheme}")
    if origin.unix is not None:
        return f"unix:{origin.unix}"
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return f"{host}:{origin.port}"


class ScriptedWorld(World):
    """A world with scripted ``hosts``, by address."""

    def __init__(self, seed: int = 0, start: float = 0.0) -> None:
        super().__init__(seed, start)
        self.hosts: dict[str, ScriptedHost] = {}

    @property
    def addresses(self) -> list[str]:
        """The hosts' addresses, for a cluster."""
        return list(self.hosts)

    @property
    def asked(self) -> list[Asked]:
        """What all hosts were asked, in order of time."""
        return sorted((a for host in self.hosts.values() for a in host.asked), key=_time)


class ScriptedHost(Host):
    """A host that answers from a script and keeps what it was asked, in ``asked``."""

    def __init__(self, world: World, address: str, script: Script) -> None:
        self._function = script if callable(script) else None
        self._next: list[Answer] = []  # none, or the one that was looked at
        self._answers: Iterator[Answer] = iter(())
        self._listed = isinstance(script, Sequence)  # looking ahead has no effects
        if isinstance(script, Reply):
            self._answers = itertools.repeat(script)
        elif not callable(script):
            if isinstance(script, str | bytes | Mapping) or not isinstance(script, Iterable):
                raise TypeError(f"{address}: a script is a list of answers, not {script!r}")
            self._answers = iter(script)
        super().__init__(world, address, self._answer, record=True)

    def _accept(self, connection: Connection) -> Peer | None:  # type: ignore[override]
        if self._function is None and self._look() and _is(self._next[0], ConnectionRefusedError):
            self._next.clear()
            return None
        return super()._accept(connection)

    def _look(self) -> bool:
        """Put the next answer into ``_next``; False when there is none."""
        if not self._next:
            for answer in self._answers:
                self._next.append(answer)
                break
        return bool(self._next)

    def _answer(self, asked: Asked) -> Reply:
        if self._function is not None:
            answer = self._function(asked)
        else:
            if not self._look():
                raise AssertionError(
                    f"{self.address}: the script has no answer left for "
                    f"{asked.method} {asked.target}, its request {len(self.asked)}; "
                    "itertools.repeat(answer) never ends"
                )
            if _is(self._next[0], ConnectionRefusedError):  # it is for the next connection
                return Reply(fate="close")
            answer = self._next.pop()
            if self._listed and self._look() and _is(self._next[0], ConnectionRefusedError):
                return self._last(reply_of(answer))
        return reply_of(answer)

    def _last(self, reply: Reply) -> Reply:
        """Keep no connection, since the next one is to be refused."""
        for session in list(self._sessions):
            session.leave()
        return replace(reply, headers={**reply.headers, "Connection": "close"})


def reply_of(answer: Answer) -> Reply:
    """Return the reply that an answer of a script means."""
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, int) and not isinstance(answer, bool):
        return Reply(answer)
    if isinstance(answer, bytes):
        return Reply(body=answer)
    if isinstance(answer, str):
        return Reply(body=answer.encode(), headers={"Content-Type": "text/plain; charset=utf-8"})
    if isinstance(answer, dict | list):
        return Reply(body=orjson.dumps(answer), headers={"Content-Type": "application/json"})
    if _is(answer, TimeoutError):
        return Reply(after=inf)
    if _is(answer, ConnectionError):
        return Reply(fate="reset")
    if _is(answer, EOFError):
        return Reply(fate="close")
    raise TypeError(f"no answer of a script: {answer!r}")


def _is(answer: Any, kind: type[BaseException]) -> bool:
    return isinstance(answer, kind) or (isinstance(answer, type) and issubclass(answer, kind))


def _time(asked: Asked) -> float:
    return asked.time
