"""The endpoints of a cluster, and which of them may be called now.

Theory of operation: ``ready`` is an immutable tuple of the endpoints that may be chosen, so that
choosing takes no lock and costs the same among 10 and 10,000. What changes an endpoint's
availability (its breaker, its ejection, a probe) replaces the tuple; such changes are rare. When
the time of one that is out comes is kept in a heap, whose top every call compares with the clock;
so is the time of the next sweep, which compares the endpoints with each other.

``all`` is replaced in the same way when the hosts change. An endpoint that is no member any more
has no ``place``: calls that it has in flight end as they would have, and decide nothing here.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from itertools import compress
from math import inf
from typing import Any, Literal, TypeAlias

from holdfast.cluster.endpoint import Endpoint
from holdfast.cluster.health import Ejection, Sample, outliers
from holdfast.cluster.hosts import Host, HostTypes
from holdfast.cluster.members import Members
from holdfast.policy.checks import part

__all__ = ["Endpoint", "EndpointSet", "HealthListener"]

#: Marks the permit of a probe after an ejection, above what a breaker counts up to.
_PROBE = 1 << 62

Change: TypeAlias = Literal["ejected", "returned", "added", "removed"]

#: Is told what happened to an endpoint, when, and why.
HealthListener: TypeAlias = Callable[[Change, Endpoint, float, str], None]


class EndpointSet:
    """All endpoints, and the ``ready`` ones among them. Safe among threads.

    ``make`` returns the endpoint of a host, or raises ValueError. ``listener`` is told what
    happens to endpoints, by the thread where it happens, and must not raise; of the first hosts
    it is not told.
    """

    def __init__(
        self,
        make: Callable[[Host], Endpoint],
        hosts: Iterable[HostTypes] = (),
        ejection: Ejection | None = None,
        listener: HealthListener | None = None,
    ) -> None:
        self.ejection = ejection
        part(self, Ejection, "ejection")
        self.all: tuple[Endpoint, ...] = ()
        self.ready: tuple[Endpoint, ...] = ()
        self.version = 0  # grows whenever ``all`` changes
        self.next_return = inf
        self._make = make
        self._listener: HealthListener | None = None
        self._out = 0  # how many are ejected
        self._panic = False
        # Sets that keep their order: what happens must be the same in each run.
        self._unwell: dict[Endpoint, None] = {}
        self._returns: list[tuple[float, int, Endpoint]] = []
        self._listed: set[tuple[float, Endpoint]] = set()  # what is in the heap
        self._order = itertools.count()
        self._inside = bytearray()  # for each place in ``all``, whether it is in ``ready``
        self._stale = False  # whether ``ready`` has to be made anew
        self._sweep_at = inf
        if ejection is not None and ejection.sweeps:
            self.next_return = self._sweep_at = -inf  # from the first call on
        self._members = Members()
        self._untold: deque[tuple[Change, Endpoint, float, str]] = deque()
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # held by who changes the members
        self.update(hosts, -inf)
        self.version = 0
        self._listener = listener

    def __repr__(self) -> str:
        return f"<EndpointSet {len(self.ready)} of {len(self.all)} ready>"

    def bring_back(self, now: float) -> None:
        """Make those ready whose time has come, and compare all when it is time for that."""
        with self._lock:
            while self._returns and self._returns[0][0] <= now:
                time, _, endpoint = heapq.heappop(self._returns)
                self._listed.discard((time, endpoint))
                if endpoint.health.out_until <= now:
                    self._end_ejection(endpoint)
                self._refresh(endpoint, now)
            if now >= self._sweep_at:
                self._sweep(now)
            next_return = self._returns[0][0] if self._returns else inf
            self.next_return = min(next_return, self._sweep_at)
            self._publish()
        self._tell()

    def admit(self, endpoint: Endpoint, now: float, anyway: bool = False) -> int:
        """Return a permit for a call to an endpoint, 0 when it must not be called now.

        ``anyway`` asks its circuit alone, not its ejection.
        """
        permit = endpoint.permit
        if permit:
            return permit
        if endpoint.place < 0:
            return 0
        permit = endpoint.breaker.acquire(now) if endpoint.breaker is not None else 1
        with self._lock:
            health = endpoint.health
            if permit and health.probation:
                if not health.probing or self._panic:
                    health.probing = True
                    permit |= _PROBE
                elif not anyway:
                    if endpoint.breaker is not None:
                        endpoint.breaker.release(permit)
                    permit = 0
            self._refresh(endpoint, now)
            self._publish()
        return permit

    def allows(self, endpoint: Endpoint, permit: int) -> bool:
        """Tell whether a permit still holds for a call that was not begun since it was given."""
        breaker = endpoint.breaker
        return breaker is None or breaker.holds(permit & ~_PROBE)

    def record(
        self, endpoint: Endpoint, permit: int, ok: bool | None, now: float, seconds: float = 0.0
    ) -> None:
        """Take the verdict on a call, which took so many seconds; None when it came to none."""
        breaker = endpoint.breaker
        changed = probe = False
        if permit >= _PROBE:
            permit -= _PROBE
            probe = True
        endpoint.count()
        if breaker is not None:
            if ok is None:
                changed = breaker.release(permit)
            else:
                changed = breaker.record(permit, ok, now, seconds)
        health = endpoint.health
        # Should two threads meet here, a call is not counted, which does no harm.
        health.seconds += seconds
        if ok:
            endpoint.successes += 1
            if not changed and not health.failures and not health.probation:
                return  # the ordinary case, without a lock
        elif ok is not None:
            health.failed += 1
        with self._lock:
            if probe:
                health.probing = False
            if endpoint.place < 0:
                return
            if ok:
                health.failures = 0
                if probe and health.probation:
                    health.probation = False
                    health.returned_at = endpoint.since = now
                    self._end_ejection(endpoint)
                    self._note("returned", endpoint, now, "its probe succeeded")
                    changed = True
            elif ok is not None:
                probe = probe and health.probation  # else another probe has decided already
                changed = self._failed(endpoint, probe, now) or changed
            if changed or health.probation:
                self._refresh(endpoint, now)
                self._publish()
        self._tell()

    def judge(self, endpoint: Endpoint, well: bool, now: float, cause: str) -> None:
        """Take the verdict of active checks: whoever fails them is out until it passes.

        That is no ejection: it needs no share, but in a panic it is ignored like one.
        """
        with self._lock:
            if endpoint.place < 0 or endpoint.health.failing != well:
                return
            endpoint.health.failing = not well
            if well:
                endpoint.since = now
            self._note("returned" if well else "ejected", endpoint, now, cause)
            self._refresh(endpoint, now)
            self._publish()
        self._tell()

    def update(self, hosts: Iterable[HostTypes], now: float) -> None:
        """Make these hosts the members.

        Endpoints that stay keep their state and their connections; those that go are drained:
        not chosen any more, their calls in flight end normally. Raises ValueError, and changes
        nothing, when a host is not one or is named twice.
        """
        wanted = [Host.of(host) for host in hosts]
        with self._changing:
            members, added = self._members.planned(wanted, self._make)
            with self._lock:
                gone = self._change(members, wanted, added, now)
                self._publish()
            members.forget(gone)
            self._members = members
        for endpoint in gone:
            if endpoint.is_host:
                endpoint.pool.close()
        self._tell()

    def hold(self) -> None:
        """Keep other threads from changing anything until `let_go`; for a fork."""
        self._changing.acquire()
        self._lock.acquire()

    def let_go(self) -> None:
        """End what `hold` began, in the parent and in the child."""
        self._lock.release()
        self._changing.release()

    # Members.

    def _change(
        self, members: Members, wanted: list[Host], added: list[Endpoint], now: float
    ) -> list[Endpoint]:
        """Replace the members; returns those that are no more. Both locks are held."""
        every = tuple(members.endpoints.values())
        if every == self.all and all(
            host.weight == endpoint.weight and host.priority == endpoint.priority
            for host, endpoint in zip(wanted, every, strict=True)
        ):
            return []
        gone = []
        if added or len(every) != len(self.all):
            staying = set(every)
            gone = [endpoint for endpoint in self.all if endpoint not in staying]
        inside = self._inside
        placed = bytearray(len(every))
        for endpoint in gone:
            self._dismiss(endpoint, now)
        for place, (endpoint, host) in enumerate(zip(every, wanted, strict=True)):
            if endpoint.place >= 0:
                placed[place] = inside[endpoint.place]
            endpoint.place = place
            endpoint.weight = host.weight
            endpoint.priority = host.priority
        self._inside = placed
        self.all = every
        self.version += 1
        self._stale = True
        for endpoint in added:
            self._welcome(endpoint, now)
        self._shrink(now)
        self._judge_panic(now)
        return gone

    def _welcome(self, endpoint: Endpoint, now: float) -> None:
        endpoint.since = now
        if self.ejection is not None and self.ejection.latency is not None:
            endpoint.needs_record()
        if endpoint.breaker is not None:
            endpoint.breaker.add_listener(_watcher(self, endpoint))
        self._place(endpoint, now)
        self._note("added", endpoint, now, "")

    def _dismiss(self, endpoint: Endpoint, now: float) -> None:
        self._end_ejection(endpoint)
        self._unwell.pop(endpoint, None)
        endpoint.place = -1
        endpoint.permit = 0
        self._note("removed", endpoint, now, "")

    def _shrink(self, now: float) -> None:
        """End the ejections that are too many among fewer endpoints, the oldest first."""
        if self.ejection is None or self._out <= self._most:
            return
        out = [endpoint for endpoint in self._unwell if self._is_out(endpoint)]
        out.sort(key=lambda endpoint: endpoint.health.out_until)
        for endpoint in out[: self._out - self._most]:
            self._end_ejection(endpoint)  # a probe decides
            self._refresh(endpoint, now)

    # Ejection.

    @property
    def _most(self) -> int:
        """How many may be ejected at once."""
        assert self.ejection is not None
        return max(1, int(self.ejection.most * len(self.all)))

    def _failed(self, endpoint: Endpoint, probe: bool, now: float) -> bool:
        """Count a failure; True when it ejected the endpoint."""
        ejection = self.ejection
        health = endpoint.health
        health.failures += 1
        if ejection is None or self._is_out(endpoint):
            return False
        if health.probation and not probe:
            return False  # it began before the ejection: the probe decides
        if probe:
            return self._eject(endpoint, now, "its probe failed")
        if health.failures < ejection.failures:
            return False
        return self._eject(endpoint, now, f"{health.failures} failures in a row")

    def _eject(self, endpoint: Endpoint, now: float, cause: str) -> bool:
        """Eject an endpoint that is not out; False when so many are that no other may be."""
        ejection = self.ejection
        assert ejection is not None
        if self._out >= self._most:
            return False
        health = endpoint.health
        if not health.probation and now - health.returned_at > ejection.cap:
            health.ejections = 0  # it has been well for long
        health.ejections += 1
        health.failures = 0
        health.probation = True
        health.out_until = now + min(ejection.cap, ejection.base * health.ejections)
        self._out += 1
        self._note("ejected", endpoint, now, cause)
        return True

    def _sweep(self, now: float) -> None:
        """Compare what the endpoints did since the last sweep, and eject outliers."""
        ejection = self.ejection
        assert ejection is not None
        samples = []
        for endpoint in self.all:
            endpoint.count()
            health = endpoint.health
            calls = endpoint.successes + health.failed
            if calls:
                if health.well:
                    samples.append((endpoint, Sample(calls, health.failed, health.seconds)))
                endpoint.successes = health.failed = 0
                health.seconds = 0.0
        # The first sweep only begins the count.
        if self._sweep_at > -inf:
            for endpoint, cause in outliers(ejection, samples):
                if self._eject(endpoint, now, cause):
                    self._refresh(endpoint, now)
        self._sweep_at = now + ejection.sweep

    def _is_out(self, endpoint: Endpoint) -> bool:
        return endpoint.health.out_until > -inf

    def _end_ejection(self, endpoint: Endpoint) -> None:
        if self._is_out(endpoint):
            endpoint.health.out_until = -inf
            self._out -= 1

    def _judge_panic(self, now: float) -> None:
        """Ignore ejection while too few are well: neither ejected nor with an open circuit."""
        if self.ejection is None:
            return
        count = len(self.all)
        panic = count > 0 and (count - len(self._unwell)) / count < self.ejection.panic
        if panic != self._panic:
            self._panic = panic
            for endpoint in self._unwell:  # the others are in, either way
                self._place(endpoint, now)

    # What may be chosen.

    def _refresh(self, endpoint: Endpoint, now: float) -> None:
        """Put an endpoint where it belongs; the lock is held."""
        if endpoint.place < 0:
            return
        breaker = endpoint.breaker
        if not endpoint.health.well or (breaker is not None and breaker.state != "closed"):
            self._unwell[endpoint] = None
        else:
            self._unwell.pop(endpoint, None)
        self._judge_panic(now)
        self._place(endpoint, now)

    def _place(self, endpoint: Endpoint, now: float) -> None:
        endpoint.permit = endpoint.standing()
        at = endpoint.ready_at(now, self._panic)
        ready = at <= now
        if ready != self._inside[endpoint.place]:
            self._inside[endpoint.place] = ready
            self._stale = True
        for time in {at, endpoint.health.out_until}:
            if now < time < inf and (time, endpoint) not in self._listed:
                self._listed.add((time, endpoint))
                heapq.heappush(self._returns, (time, next(self._order), endpoint))
                self.next_return = min(self.next_return, time)

    def _publish(self) -> None:
        """Let calls see what has changed."""
        if self._stale:
            self._stale = False
            self.ready = tuple(compress(self.all, self._inside))

    def _circuit_changed(self, endpoint: Endpoint, now: float) -> None:
        with self._lock:
            self._refresh(endpoint, now)
            self._publish()
        self._tell()

    def _note(self, kind: Change, endpoint: Endpoint, now: float, cause: str) -> None:
        if self._listener is not None:
            self._untold.append((kind, endpoint, now, cause))

    def _tell(self) -> None:
        """Tell the listener what was noted; no lock is held."""
        while self._untold:
            try:
                event = self._untold.popleft()
            except IndexError:  # another thread was faster
                return
            assert self._listener is not None
            self._listener(*event)


def _watcher(endpoints: EndpointSet, endpoint: Endpoint) -> Callable[[Any, Any, float], None]:
    """Return what takes note when a circuit is forced open, or let go.

    It holds neither: a set that nobody needs any more, and its connections, must not have to wait
    for the collection of cycles.
    """
    watching, watched = weakref.ref(endpoints), weakref.ref(endpoint)

    def changed(before: object, after: object, now: float) -> None:
        one, other = watching(), watched()
        if one is not None and other is not None:
            one._circuit_changed(other, now)

    return changed
