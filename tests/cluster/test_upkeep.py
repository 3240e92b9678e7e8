"""What a cluster does besides calls: active checks, and hosts found anew."""

from __future__ import annotations

import gc
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest

from holdfast import Cluster, Ejection, Policy, Retry
from holdfast.cluster import ClusterCore
from holdfast.cluster import upkeep as upkeep_module
from holdfast.cluster.checking import Check, Checking
from holdfast.cluster.discovery import Discovery, Function, Static
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.cluster.hosts import Host
from holdfast.cluster.upkeep import Upkeep
from holdfast.drivers import blocking
from holdfast.drivers.simulated import World
from holdfast.errors import InvalidRequest, NoEndpointError
from holdfast.http.limits import Timeout
from holdfast.http.requests import Request
from holdfast.ops import Program
from holdfast.simulation.hosts import Host as Simulated
from holdfast.simulation.hosts import Reply
from tests.policy.hammering import hammer
from tests.servers import EchoServer

Answer = tuple[list[Host], float]


class Site:
    """Simulated hosts, a cluster of them, and its upkeep in virtual time."""

    def __init__(
        self,
        count: int = 3,
        *,
        discovery: Discovery | None = None,
        check: Check | None = None,
        ejection: Ejection | None = None,
    ) -> None:
        self.world = World(seed=1)
        self.hosts = [
            Simulated(self.world, f"10.0.0.{n + 1}:80", record=True) for n in range(count)
        ]
        self.core = ClusterCore(
            [host.address for host in self.hosts],
            policy=Policy(retry=None),
            ejection=ejection,
            clock=self.world.clock,
            random=self.world.random,
        )
        self.endpoints = self.core.endpoints
        self.reports: list[tuple[float, str]] = []
        self.upkeep = Upkeep(
            self.endpoints,
            discovery=discovery,
            check=check,
            clock=self.world.clock,
            random=self.world.random,
            report=lambda error: self.reports.append((self.world.now, str(error))),
        )
        self.task = self.world.start(self.upkeep.program())

    def out(self) -> list[int]:
        """Return the indexes of the endpoints that may not be chosen."""
        ready = self.endpoints.ready
        return [n for n, endpoint in enumerate(self.endpoints.all) if endpoint not in ready]

    def names(self) -> list[str]:
        """Return the names of the endpoints."""
        return [endpoint.name for endpoint in self.endpoints.all]


class Script:
    """A discovery that finds one thing after the other, the last for ever."""

    def __init__(self, *steps: Exception | tuple[list[str], float]) -> None:
        self.steps = list(steps)
        self.asked = 0

    def refresh(self) -> Program[Answer]:
        yield from ()
        self.asked += 1
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return [Host.of(host) for host in step[0]], step[1]

    def __repr__(self) -> str:
        return "Script()"


# --- active checks ----------------------------------------------------------------------------


def test_every_endpoint_is_checked_every_interval() -> None:
    """At times of its own, with a GET of the path."""
    site = Site(20, check=Check("/health", interval=10))
    site.world.advance(100)
    for host in site.hosts:
        times = [asked.time for asked in host.asked]
        assert len(times) == 10
        assert {(asked.method, asked.target) for asked in host.asked} == {("GET", "/health")}
        assert all(9 <= b - a <= 11 for a, b in pairwise(times))
    firsts = {host.asked[0].time for host in site.hosts}
    assert len(firsts) > 5
    assert max(firsts) > 5
    assert site.out() == []


def test_checks_take_hosts_out_and_bring_them_back() -> None:
    """Three failures in a row take one out, two successes in a row bring it back."""
    site = Site(check=Check(interval=10))
    bad = site.hosts[1]
    bad.behaviour = Reply(status=503)
    site.world.advance(20)
    assert len(bad.asked) == 2
    assert site.out() == []
    site.world.advance(10)
    assert site.out() == [1]
    site.world.advance(1000)
    assert site.out() == [1]
    bad.behaviour = Reply(status=204)
    site.world.advance(10)
    assert site.out() == [1]
    site.world.advance(10)
    assert site.out() == []
    assert site.endpoints.all[1].since > 1000


def test_one_success_among_failures_begins_the_count_anew() -> None:
    """Only what fails again and again is out."""
    site = Site(1, check=Check(interval=10))
    statuses = iter([500, 500, 200] * 10)
    site.hosts[0].behaviour = lambda asked: Reply(status=next(statuses))
    site.world.advance(300)
    assert len(site.hosts[0].asked) == 30
    assert site.out() == []


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (lambda host: host.crash(), "refused"),
        (lambda host: host.freeze(), "no answer within 1 s"),
        (lambda host: setattr(host, "behaviour", Reply(after=1.5)), "no answer within 1 s"),
        (lambda host: setattr(host, "behaviour", Reply(fate="reset")), "reset"),
        (lambda host: setattr(host, "behaviour", Reply(fate="cut")), "closed"),
        (lambda host: setattr(host, "behaviour", Reply(body=b"x" * (2 << 20))), "1048576"),
        (lambda host: setattr(host, "behaviour", Reply(status=404)), "status 404"),
        (lambda host: setattr(host, "behaviour", Reply(status=301)), ""),
    ],
)
def test_what_fails_a_check(fault: Callable[[Simulated], None], cause: str) -> None:
    """No connection, no answer in time, a broken one, one that is too long, a wrong status."""
    site = Site(check=Check(interval=5, timeout=1))
    told: list[str] = []
    site.endpoints._listener = lambda kind, endpoint, now, cause: told.append(cause)
    fault(site.hosts[0])
    site.world.advance(60)
    assert site.out() == ([0] if cause else [])
    for text in told:
        assert text.startswith("3 checks failed: ")
        assert cause in text, text


def test_hosts_that_hang_do_not_keep_others_waiting() -> None:
    """Checks of many endpoints are made at the same time."""
    site = Site(100, check=Check(interval=10, timeout=5))
    for host in site.hosts[:50]:
        host.freeze()
    site.world.advance(100)
    assert site.out() == list(range(50))
    assert all(len(host.asked) >= 6 for host in site.hosts[50:])


def test_checks_have_connections_of_their_own() -> None:
    """They take none from calls and count for no load."""
    site = Site(1, check=Check(interval=1))
    host = site.hosts[0]
    site.world.advance(10)
    (endpoint,) = site.endpoints.all
    assert (host.connects, len(endpoint.pool)) == (1, 0)
    host.behaviour = lambda asked: Reply(after=0.9)
    call = site.world.start(site.core.call(Request("GET", "/x", Timeout(total=9))))
    site.world.advance(0.5)
    assert endpoint.in_flight == 1
    site.world.advance(2)
    assert call.result().status_code == 200
    assert (host.connects, len(endpoint.pool)) == (2, 1)


def test_functions_are_not_checked() -> None:
    """An endpoint without a host has nothing to ask."""
    world = World()
    among = EndpointSet(lambda host: Endpoint(host.address, Policy()), ["function"])
    upkeep = Upkeep(among, check=Check(), clock=world.clock, random=world.random)
    task = world.start(upkeep.program())
    world.advance(100)
    assert not task.done
    upkeep.close()
    world.advance(0)
    assert task.done


def test_checks_follow_the_members() -> None:
    """Hosts that come are checked, hosts that go are not, and no connection to them is left."""
    site = Site(4, check=Check(interval=10))
    site.endpoints.update([host.address for host in site.hosts[:2]], 0)
    site.world.advance(30)
    assert [host.open for host in site.hosts] == [1, 1, 0, 0]
    site.endpoints.update([host.address for host in site.hosts[1:3]], site.world.now)
    site.hosts[2].crash()
    site.world.advance(60)
    assert [host.open for host in site.hosts] == [0, 1, 0, 0]
    assert site.out() == [1]
    asked = len(site.hosts[0].asked)
    site.world.advance(60)
    assert len(site.hosts[0].asked) == asked


def test_the_end_of_the_upkeep() -> None:
    """After it nothing is checked, and no connection is left."""
    site = Site(check=Check(interval=1), discovery=Script((["10.0.0.1:80", "10.0.0.2:80"], 1)))
    site.world.advance(10)
    assert site.hosts[0].open == 1
    site.upkeep.close()
    site.world.advance(1)
    assert site.task.done
    assert [host.open for host in site.hosts] == [0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "health"}, "path .*'health'"),
        ({"path": None}, "path .*None"),
        ({"interval": 0}, "interval .*0"),
        ({"timeout": -1}, "timeout .*-1"),
        ({"healthy": 0}, "healthy .*0"),
        ({"unhealthy": 1.5}, "unhealthy .*1.5"),
        ({"statuses": []}, "statuses .*"),
        ({"statuses": [99]}, "statuses .*99"),
        ({"statuses": range(200, 700)}, "statuses .*range"),
    ],
)
def test_wrong_values_are_refused(fields: dict[str, Any], message: str) -> None:
    """An error names the class, the field and the value."""
    with pytest.raises(ValueError, match=f"^Check: {message}"):
        Check(**fields)


def test_a_check_is_a_value() -> None:
    """It compares, and shows what differs from the defaults."""
    assert Check() == Check("/", 10.0, 1.0, 2, 3, range(200, 400))
    assert repr(Check("/x", statuses=[200])) == "Check(path='/x', statuses=frozenset({200}))"
    with pytest.raises(ValueError, match="check must be a Check or None"):
        Upkeep(EndpointSet(lambda host: Endpoint("", Policy())), check="/")  # type: ignore[arg-type]


# --- discovery --------------------------------------------------------------------------------


def test_hosts_are_found_anew() -> None:
    """When the time that the discovery gave is over, it is asked again."""
    script = Script(
        (["10.0.0.1:80"], 5), (["10.0.0.1:80", "10.0.0.2:80"], 20), (["10.0.0.3:80"], 9)
    )
    site = Site(discovery=script)
    first = site.endpoints.all[0]
    site.world.advance(0)
    assert site.names() == ["10.0.0.1:80"]
    assert site.endpoints.all[0] is first
    site.world.advance(5)
    assert site.names() == ["10.0.0.1:80", "10.0.0.2:80"]
    assert site.endpoints.all[1].since == 5
    site.world.advance(19)
    assert script.asked == 2
    site.world.advance(1)
    assert site.names() == ["10.0.0.3:80"]
    assert site.reports == []


def test_what_fails_or_is_empty_keeps_the_hosts() -> None:
    """It is reported, once, and tried again: soon at first, then less often."""
    site = Site(
        1,
        discovery=Script(
            (["10.0.0.1:80", "10.0.0.2:80"], 100),
            OSError("no answer"),
            OSError("no answer"),
            RuntimeError("a mistake"),
            (["10.0.0.3:80", "10.0.0.3:80"], 100),
            (["10.0.0.3:80", "nobody at all"], 100),
            ([], 50),
            ([], 50),
            (["10.0.0.3:80"], 100),
            OSError("no answer"),
        ),
    )
    for until in (100, 101, 103, 107, 115, 131, 181, 230):
        site.world.run_until(until)
        assert site.names() == ["10.0.0.1:80", "10.0.0.2:80"]
    assert [time for time, _ in site.reports] == [100, 103, 107, 115, 131]
    texts = [text for _, text in site.reports]
    assert texts[:2] == ["no answer", "a mistake"]
    assert "twice" in texts[2]
    assert "nobody at all" in texts[3]
    assert texts[4] == "it found no hosts"
    site.world.run_until(231)
    assert site.names() == ["10.0.0.3:80"]
    site.world.run_until(331)
    assert site.reports[-1] == (331, "no answer")


def test_failures_are_tried_again_no_later_than_the_interval() -> None:
    """Nor ever more than half a minute later."""
    quick = Script((["10.0.0.1:80"], 2), OSError("gone"))
    site = Site(discovery=quick)
    site.world.advance(100)
    assert quick.asked == pytest.approx(50, abs=2)
    slow = Script(OSError("gone"))
    site = Site(discovery=slow)
    site.world.advance(1000)
    assert slow.asked == pytest.approx(36, abs=2)


@pytest.mark.parametrize("interval", [0, -1, nan, "1", None, True])
def test_a_time_that_is_none_is_reported(interval: Any) -> None:
    """A discovery of the user's may not keep the upkeep busy, or stop it."""
    script = Script((["10.0.0.2:80"], interval))
    site = Site(1, discovery=script)
    site.world.advance(10)
    assert 2 <= script.asked <= 6
    assert site.names() == ["10.0.0.1:80"]
    ((_, text),) = site.reports
    assert repr(interval) in text


def test_a_list_is_read_once() -> None:
    """Nothing goes on after that."""
    site = Site(discovery=Static(["10.0.0.2:80"]))
    site.world.advance(0)
    assert site.names() == ["10.0.0.2:80"]
    assert site.task.done


def test_calls_may_wait_for_the_first_hosts() -> None:
    """Until they were asked for once, whether they were had or not."""
    site = Site(1, discovery=Script(OSError("gone")))
    for one in (site, Site(1, discovery=Script((["10.0.0.1:80"], 5.0)))):
        waiting = [one.world.start(one.upkeep.settled(inf)) for _ in range(3)]
        one.world.advance(0)
        assert all(task.done for task in waiting)
        one.world.run(one.upkeep.settled(inf))
    endless = Upkeep(site.endpoints, discovery=Static(["a"]), clock=site.world.clock)
    with pytest.raises(TimeoutError):
        site.world.run(endless.settled(site.world.now + 1))
    waiting = [site.world.start(endless.settled(inf))]
    site.world.advance(0)
    endless.close()
    site.world.advance(0)
    assert waiting[0].done
    site.world.run(Upkeep(site.endpoints).settled(inf))
    site.world.run(Upkeep(site.endpoints).program())


def test_reports_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """By default; the message says what was asked, and what happens now."""
    world = World()
    among = EndpointSet(lambda host: Endpoint(host.address, Policy()), ["a"])
    upkeep = Upkeep(among, discovery=Script(OSError("gone")), clock=world.clock)
    with caplog.at_level(logging.WARNING, "holdfast"):
        world.start(upkeep.program())
        world.advance(10)
    assert caplog.messages == ["Script(): gone; the hosts stay as they are"]


# --- threads ----------------------------------------------------------------------------------


class Asked:
    """A function that finds hosts, and lets a test wait until it was asked."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = list(hosts)
        self.times = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def __call__(self) -> list[str]:
        self.threads.append(threading.current_thread())
        self.times.release()
        return self.hosts

    def again(self) -> bool:
        """Wait until it was asked once more."""
        return self.times.acquire(timeout=20)


@pytest.fixture
def running() -> Iterator[Callable[..., Upkeep]]:
    """Start the upkeep of a cluster of functions, to be closed at the end."""
    started: list[weakref.ref[Upkeep]] = []

    def start(*hosts: str, **options: Any) -> Upkeep:
        among = EndpointSet(lambda host: Endpoint(host.address, Policy()), hosts)
        upkeep = Upkeep(among, **options)
        started.append(weakref.ref(upkeep))
        upkeep.start()
        return upkeep

    yield start
    for reference in started:
        upkeep = reference()
        if upkeep is not None:
            upkeep.close()


def names(upkeep: Upkeep) -> list[str]:
    """Return the names of the endpoints."""
    return [endpoint.name for endpoint in upkeep.endpoints.all]


def test_a_thread_finds_the_hosts(running: Callable[..., Upkeep]) -> None:
    """A daemon, until the upkeep is closed; it starts once."""
    asked = Asked("b")
    upkeep = running("a", discovery=Function(asked, interval=0.01))
    upkeep.start()
    blocking.run(upkeep.settled(inf))
    assert names(upkeep) == ["b"]
    assert asked.again()
    assert asked.again()
    thread = asked.threads[0]
    assert thread.daemon
    assert repr(upkeep) == "<Upkeep of <EndpointSet 1 of 1 ready>: 1 threads>"
    upkeep.close()
    thread.join(20)
    assert not thread.is_alive()
    assert set(asked.threads) == {thread}


def test_a_thread_checks_the_endpoints() -> None:
    """The same checks, over real sockets."""
    with EchoServer() as server:
        host = "{}:{}".format(*server.address)
        core = ClusterCore([host], ejection=None)
        told = threading.Semaphore(0)
        core.endpoints._listener = lambda *event: told.release()
        check = Check(interval=0.02, unhealthy=1, healthy=1, statuses=[418])
        upkeep = Upkeep(core.endpoints, check=check)
        upkeep.start()
        try:
            assert told.acquire(timeout=20)
            assert core.endpoints.ready == ()
        finally:
            upkeep.close()
            for thread in upkeep._threads:
                thread.join(20)
            core.close()


def test_an_upkeep_that_nobody_needs_ends(running: Callable[..., Upkeep]) -> None:
    """A cluster that was dropped without a word takes its threads along."""
    asked = Asked("a")
    upkeep = running("a", discovery=Function(asked, interval=300))
    assert asked.again()
    blocking.run(upkeep.settled(inf))
    thread = asked.threads[0]
    del upkeep
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


def test_a_function_that_hangs_keeps_no_check_waiting() -> None:
    """Each has a thread of its own; closing waits for neither."""
    gate = threading.Event()
    asked = threading.Event()

    def hang() -> list[str]:
        asked.set()
        gate.wait(20)
        return []

    with EchoServer() as server:
        host = "{}:{}".format(*server.address)
        core = ClusterCore([host], ejection=None)
        told = threading.Semaphore(0)
        core.endpoints._listener = lambda *event: told.release()
        check = Check(interval=0.02, unhealthy=1, statuses=[418])
        upkeep = Upkeep(core.endpoints, check=check, discovery=Function(hang))
        upkeep.start()
        try:
            assert asked.wait(20)
            assert told.acquire(timeout=20)
        finally:
            upkeep.close()
            gate.set()
            for thread in upkeep._threads:
                thread.join(20)
            core.close()


def test_a_function_that_wants_to_end_its_thread(running: Callable[..., Upkeep]) -> None:
    """What it raises, whatever that is, ends nothing but its turn."""
    asked = threading.Semaphore(0)

    def leave() -> list[str]:
        asked.release()
        raise SystemExit(1)

    upkeep = running("a", discovery=Function(leave, interval=0.01))
    assert asked.acquire(timeout=20)
    assert asked.acquire(timeout=20)
    assert upkeep._threads[0].is_alive()


def test_checks_may_be_closed_while_members_are_enrolled() -> None:
    """Another thread does that, and finds the connections of before or of after."""
    world = World()
    core = ClusterCore([f"10.0.0.{n}:80" for n in range(9)], clock=world.clock)
    checking = Checking(core.endpoints, Check(), world.clock, lambda: 0.5)
    world.run(checking.turn())
    records = iter(checking._records.values())
    next(records)
    core.endpoints.update(["10.0.0.1:80", "10.0.1.1:80"], 0)
    checking._enrol(0)
    assert len(list(records)) == 8


def test_forks_while_upkeeps_come_and_go() -> None:
    """What happens around a fork is complete, whatever other threads do."""
    gate = threading.Event()
    kept = [Upkeep(EndpointSet(lambda host: Endpoint("", Policy())), check=Check()) for _ in "abc"]

    def work(number: int) -> None:
        if number:
            while not gate.is_set():
                upkeep = Upkeep(EndpointSet(lambda host: Endpoint("", Policy())))
                upkeep_module._RUNNING[id(upkeep)] = upkeep
                upkeep.close()
        else:
            try:
                for _ in range(3000):
                    upkeep_module._before_fork()
                    upkeep_module._after_fork()
            finally:
                gate.set()

    for upkeep in kept:
        upkeep_module._RUNNING[id(upkeep)] = upkeep
    try:
        hammer(work, 2)
    finally:
        for upkeep in kept:
            upkeep.close()


def test_a_child_checks_all_whatever_the_parent_was_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn that a fork has cut off may have begun to enrol the endpoints."""
    world = World()
    core = ClusterCore([f"10.0.0.{n}:80" for n in range(9)], clock=world.clock)
    upkeep = Upkeep(core.endpoints, check=Check(), clock=world.clock, random=lambda: 0.5)
    (checking,) = upkeep._parts
    assert isinstance(checking, Checking)
    checking._version = core.endpoints.version  # as in the middle of it
    monkeypatch.setattr(upkeep, "start", lambda: None)
    upkeep.begin_again()
    (checking,) = upkeep._parts
    world.run(checking.turn())
    assert isinstance(checking, Checking)
    assert len(checking._records) == 9


def test_a_mistake_of_ours_does_not_end_it(running: Callable[..., Upkeep]) -> None:
    """What no part expects is logged, and the thread goes on."""
    logged = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.set()

    handler = Handler()
    logging.getLogger("holdfast").addHandler(handler)
    try:

        def broken(error: Exception) -> None:
            raise RuntimeError("in the report")

        upkeep = running("a", discovery=Script(OSError("gone")), report=broken)
        assert logged.wait(20)
        assert upkeep._threads[0].is_alive()
    finally:
        logging.getLogger("holdfast").removeHandler(handler)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_has_an_upkeep_of_its_own(running: Callable[..., Upkeep]) -> None:
    """Its threads begin again, whatever the parent's did at that moment."""
    asked = Asked("a", "b")
    upkeep = running("a", discovery=Function(asked, interval=0.001))
    assert asked.again()
    for _ in range(10):
        with warnings.catch_warnings():
            # Newer Pythons warn of forks where there are threads: this is how that goes well.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            status = 2
            try:
                asked.hosts = ["c"]
                asked.times = threading.Semaphore(0)
                asked.threads.clear()
                assert asked.again()
                assert asked.again()
                status = 0 if names(upkeep) == ["c"] else 1
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    asked.times = threading.Semaphore(0)
    assert asked.again()
    assert names(upkeep) == ["a", "b"]


def test_a_call_without_hosts_says_why_there_are_none() -> None:
    """What went wrong in the discovery is in the error of the call, not in the log alone."""

    def find() -> list[str]:
        raise OSError("the registry is down")

    with (
        Cluster(Function(find)) as cluster,
        pytest.raises(NoEndpointError, match="registry is down"),
    ):
        cluster.get("/")
    with Cluster(Function(list)) as cluster, pytest.raises(NoEndpointError, match="found no hosts"):
        cluster.get("/")


@pytest.mark.parametrize("arguments", [(None,), (7,)])
def test_what_are_no_hosts_is_refused(arguments: Any) -> None:
    """Neither a list nor a discovery: an error at once."""
    with pytest.raises(InvalidRequest, match="hosts are a list of hosts, or a discovery"):
        Cluster(*arguments)


@pytest.mark.parametrize("policy", [None, "x", Retry()])
def test_what_is_no_policy_is_refused(policy: Any) -> None:
    """A part of a policy, or nothing, is none."""
    with pytest.raises(ValueError, match="policy must be a Policy"):
        Cluster(["a:80"], policy=policy)
