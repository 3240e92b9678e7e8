"""What a cluster does besides calls: it checks its endpoints, and finds its hosts anew.

Theory of operation: each of the two is a *part*, whose ``turn`` is a program that does what is due
and returns when to come again. `Upkeep.program` is the whole as one program, for drivers that run
many. In production each part has a daemon thread and the blocking driver, whatever drives the
calls: so a function that hangs while it looks for hosts keeps no check waiting. Between two turns
the thread holds its part weakly, and ends when nobody else holds it.
"""

from __future__ import annotations

import logging
import os
import random as random_module
import threading
import weakref
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from holdfast import ops
from holdfast.cluster.checking import Check, Checking
from holdfast.drivers import blocking
from holdfast.policy.backoff import exponential
from holdfast.policy.checks import part as check_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.cluster.discovery import Discovery
    from holdfast.cluster.endpoints import EndpointSet
    from holdfast.ops import Program

__all__ = ["Refreshing", "Upkeep"]

#: Seconds until hosts that could not be had are asked for again: doubled each time, up to a cap.
AGAIN, PATIENCE = 1.0, 30.0

_log = logging.getLogger("holdfast")


class Part(Protocol):
    """Something to be done again and again, by one program at a time."""

    def turn(self) -> Program[float]:
        """Do what is due, and return when to come again; infinity is never."""

    def close(self) -> None:
        """Give back what it holds."""


class Refreshing:
    """Has a discovery find the hosts of a set, whenever it is time."""

    def __init__(
        self,
        endpoints: EndpointSet,
        discovery: Discovery,
        clock: Callable[[], float],
        report: Callable[[Exception], None] | None,
    ) -> None:
        self._endpoints = endpoints
        self._discovery = discovery
        self._clock = clock
        self._report = report
        self._failures = 0  # in a row
        self._interval = inf  # the last one there was
        self.reported = ""
        self._lock = threading.Lock()
        self._settled = False
        self._waiting: list[ops.Signal] = []

    def turn(self) -> Program[float]:
        """Ask for the hosts, and return when to ask again."""
        try:
            hosts, interval = yield from self._discovery.refresh()
            if type(interval) not in (float, int) or not interval > 0:
                raise ValueError(
                    f"the seconds until the next time must be above 0, not {interval!r}"
                )
            self._interval = interval
            if hosts:
                self._endpoints.update(hosts, self._clock())
            self._failures = 0
            delay = self._interval
            self._note(None if hosts else ValueError("it found no hosts"))
        except Exception as error:  # whatever a function of the user's raises
            delay = exponential(AGAIN, 2.0, self._failures, PATIENCE)
            delay = min(delay, self._interval)
            self._failures += 1
            self._note(error)
        self._settle()
        return self._clock() + delay

    def settled(self, deadline: float) -> Program[None]:
        """Wait until the hosts were asked for once; raises TimeoutError at the deadline."""
        signal = ops.Signal()
        with self._lock:
            if self._settled:
                return
            self._waiting.append(signal)
        try:
            yield ops.Wait(signal, deadline)
        finally:
            with self._lock:
                if signal in self._waiting:
                    self._waiting.remove(signal)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._settle()

    def _settle(self) -> None:
        with self._lock:
            self._settled = True
            waiting, self._waiting = self._waiting, []
        for signal in waiting:
            signal.fire()

    def _note(self, error: Exception | None) -> None:
        """Report what goes wrong, the same only once in a row."""
        text = str(error) if error is not None else ""
        if error is None or text == self.reported:
            self.reported = text
            return
        self.reported = text
        if self._report is not None:
            self._report(error)
        else:
            _log.warning("%r: %s; the hosts stay as they are", self._discovery, text)


class Upkeep:
    """The upkeep of a set of endpoints.

    ``report`` is told why hosts could not be found anew (by default the log is), the same reason
    once in a row. Threads tell time by ``time.monotonic``; another ``clock`` is for `program`.
    """

    def __init__(
        self,
        endpoints: EndpointSet,
        *,
        discovery: Discovery | None = None,
        check: Check | None = None,
        clock: Callable[[], float] = monotonic,
        random: Callable[[], float] = random_module.random,
        report: Callable[[Exception], None] | None = None,
    ) -> None:
        self.check = check
        check_part(self, Check, "check")
        self.endpoints = endpoints
        self._discovery = discovery
        self._clock = clock
        self._random = random
        self._report = report
        self._make_parts()
        self._stops: list[ops.Signal] = []
        self._threads: list[threading.Thread] = []

    def _make_parts(self) -> None:
        self._refreshing: Refreshing | None = None
        self._parts: list[Part] = []
        if self._discovery is not None:
            self._refreshing = Refreshing(
                self.endpoints, self._discovery, self._clock, self._report
            )
            self._parts.append(self._refreshing)
        if self.check is not None:
            self._parts.append(Checking(self.endpoints, self.check, self._clock, self._random))

    def __repr__(self) -> str:
        running = sum(thread.is_alive() for thread in self._threads)
        return f"<Upkeep of {self.endpoints!r}: {running} threads>"

    def program(self) -> Program[None]:
        """Return all of it as one program, which ends at `close`."""
        programs = []
        for part in self._parts:
            stop = ops.Signal()
            self._stops.append(stop)
            programs.append(_keep(part, stop))
        yield ops.All(programs)

    def start(self) -> None:
        """Begin, in daemon threads; in a forked child they begin again by themselves."""
        if self._threads:
            return
        for part in self._parts:
            stop = ops.Signal()
            self._stops.append(stop)
            thread = threading.Thread(
                target=_work, args=(_weakly(part, stop), stop), name="holdfast-upkeep", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        if self._threads:
            _RUNNING[id(self)] = self

    def close(self) -> None:
        """End it: at once where it waits, after the turn in progress otherwise. Never blocks."""
        _RUNNING.pop(id(self), None)
        stops, self._stops = self._stops, []
        for stop in stops:
            stop.fire()
        for part in self._parts:
            part.close()

    @property
    def trouble(self) -> str:
        """Why the hosts could not be found when they were last asked for, "" if they could."""
        return self._refreshing.reported if self._refreshing is not None else ""

    def settled(self, deadline: float) -> Program[None]:
        """Wait until the hosts were asked for once, well or not; TimeoutError at the deadline."""
        if self._refreshing is not None:
            yield from self._refreshing.settled(deadline)

    def begin_again(self) -> None:
        """Replace the threads, which a forked child has lost, in the middle of a turn perhaps."""
        self._make_parts()
        self._threads.clear()
        self._stops.clear()
        self.start()


def _keep(part: Part, stop: ops.Signal) -> Program[None]:
    """Take one turn after the other, until the signal or for ever."""
    while not stop.fired:
        until = yield from part.turn()
        if until == inf:
            return
        try:
            yield ops.Wait(stop, until)
        except TimeoutError:
            continue


def _work(reference: weakref.ref[Part], stop: ops.Signal) -> None:
    """Take the turns of a part, in a thread, while somebody else holds it."""
    while not stop.fired:
        part = reference()
        if part is None:
            return
        try:
            until = blocking.run(part.turn())
        except BaseException:  # a function of the user's may raise SystemExit: it ends no upkeep
            _log.exception("the upkeep of a cluster failed; it goes on")
            until = monotonic() + AGAIN
        del part
        if until == inf:
            return
        try:
            blocking.run(_wait(stop, until))
        except TimeoutError:
            continue


def _weakly(part: Part, stop: ops.Signal) -> weakref.ref[Part]:
    """Return a reference to a part, which fires the signal when the part is gone."""
    return weakref.ref(part, lambda _: stop.fire())


def _wait(stop: ops.Signal, until: float) -> Program[None]:
    yield ops.Wait(stop, until)


# A fork must not happen while an upkeep's thread changes its endpoints: the child would have the
# change by half, and a lock that nobody opens. User threads are their owner's to mind.

#: Those with threads, by their ids: other than a set of weak references, it can be read while
#: other threads change it.
_RUNNING: weakref.WeakValueDictionary[int, Upkeep] = weakref.WeakValueDictionary()
_FORKING = threading.Lock()
_held: list[Upkeep] = []


def _before_fork() -> None:
    _FORKING.acquire()
    _held.extend(one for one in (known() for known in _RUNNING.valuerefs()) if one is not None)
    for upkeep in _held:
        upkeep.endpoints.hold()


def _after_fork() -> None:
    for upkeep in _held:
        upkeep.endpoints.let_go()
    _held.clear()
    _FORKING.release()


def _after_fork_in_child() -> None:
    running = list(_held)
    _after_fork()
    for upkeep in running:
        upkeep.begin_again()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
