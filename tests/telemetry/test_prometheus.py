"""Calls are counted and timed for Prometheus."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from holdfast import (
    AdaptiveLimit,
    Breaker,
    Cluster,
    Coalesce,
    Ejection,
    Fallback,
    Fault,
    Hedge,
    Limit,
    Policy,
    Retry,
)
from holdfast.policy.events import Event, Kind
from holdfast.telemetry import Prometheus
from tests.cluster.calls import Reply, Virtual
from tests.servers.echo import EchoServer

PLAIN: dict[str, Any] = {"retry": None, "budget": None, "breaker": None, "limit": None}


class Scraped:
    """Metrics in a registry of their own."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Prometheus(self.registry, **options)

    def value(self, name: str, cluster: str = "", /, **labels: str) -> float | None:
        """Return a sample's value, None when there is no such series."""
        return self.registry.get_sample_value(f"holdfast_{name}", {"cluster": cluster, **labels})

    def endpoints(self) -> set[str]:
        """Return every value of the label ``endpoint``."""
        return {
            sample.labels["endpoint"]
            for family in self.registry.collect()
            for sample in family.samples
            if "endpoint" in sample.labels
        }

    def watch(self, count: int = 1, ejection: Any = None, **parts: Any) -> Virtual:
        """Return a cluster that is listened to."""
        policy = Policy(**{**PLAIN, **parts})
        return Virtual(count, policy, ejection=ejection, listeners=[self.metrics])


def test_a_call_that_goes_well() -> None:
    """One call, one attempt, and how long they took."""
    scraped = Scraped()
    cluster = scraped.watch()
    cluster.all_reply(after=0.2)
    running = cluster.world.start(cluster.program())
    cluster.world.advance(0.1)
    place = cluster.names[0]
    assert scraped.value("calls_in_flight") == 1
    assert scraped.value("attempts_in_flight", endpoint=place) == 1
    cluster.world.advance(1)
    assert running.done
    assert scraped.value("calls_in_flight") == 0
    assert scraped.value("attempts_in_flight", endpoint=place) == 0
    assert scraped.value("calls_total", outcome="success") == 1
    assert scraped.value("attempts_total", endpoint=place, outcome="success") == 1
    assert scraped.value("call_duration_seconds_sum") == pytest.approx(0.2)
    assert scraped.value("call_duration_seconds_bucket", le="0.1") == 0
    assert scraped.value("attempt_duration_seconds_count", endpoint=place) == 1


def test_failures_and_retries() -> None:
    """By outcome, and where."""
    scraped = Scraped()
    cluster = scraped.watch(retry=Retry(attempts=2, base=1e-9))
    place = cluster.names[0]
    cluster.all_reply(fate="reset")
    cluster.fail()
    cluster.all_reply(status=503)
    cluster.call()
    cluster.all_reply(after=100)
    cluster.fail(timeout=1)
    assert scraped.value("calls_total", outcome="failure") == 2
    assert scraped.value("calls_total", outcome="timeout") == 1
    assert scraped.value("attempts_total", endpoint=place, outcome="failure") == 4
    assert scraped.value("attempts_total", endpoint=place, outcome="timeout") == 1
    assert scraped.value("retries_total", endpoint=place) == 2


def test_hedges() -> None:
    """The one that lost is cancelled, and its time says nothing."""
    scraped = Scraped()
    cluster = scraped.watch(2, hedge=Hedge(after=0.1))
    cluster.all_reply(after=0.15)
    cluster.call()
    values = [scraped.value("hedges_total", endpoint=name) for name in cluster.names]
    assert sorted(value or 0 for value in values) == [0, 1]
    for outcome in ("success", "cancelled"):
        values = [
            scraped.value("attempts_total", endpoint=name, outcome=outcome)
            for name in cluster.names
        ]
        assert sorted(value or 0 for value in values) == [0, 1]
    counts = [
        scraped.value("attempt_duration_seconds_count", endpoint=name) for name in cluster.names
    ]
    assert sorted(count or 0 for count in counts) == [0, 1]


def test_a_circuit() -> None:
    """Its state, its changes, and what it rejects."""
    scraped = Scraped()
    cluster = scraped.watch(breaker=Breaker(failures=1, open_for=10))
    place = cluster.names[0]
    cluster.all_reply(fate="reset")
    cluster.fail()
    assert scraped.value("circuit_state", endpoint=place) == 2
    cluster.fail()
    assert scraped.value("rejections_total", endpoint="", policy="breaker") == 1
    assert scraped.value("calls_total", outcome="rejected") == 1
    cluster.all_reply(after=5)
    cluster.world.advance(11)
    cluster.world.start(cluster.program())
    cluster.world.advance(1)
    assert scraped.value("circuit_state", endpoint=place) == 1
    cluster.world.advance(10)
    assert scraped.value("circuit_state", endpoint=place) == 0
    for state in ("open", "half-open", "closed"):
        assert scraped.value("circuit_changes_total", endpoint=place, to=state) == 1


def test_an_ejection() -> None:
    """Who is out now, and how often."""
    scraped = Scraped()
    cluster = scraped.watch(2, Ejection(failures=1, base=30), retry=Retry(attempts=2, base=1e-9))
    place = cluster.names[0]
    cluster.hosts[0].behaviour = Reply(fate="reset")
    while not scraped.value("ejections_total", endpoint=place):
        cluster.call()
    assert scraped.value("ejected", endpoint=place) == 1
    cluster.hosts[0].behaviour = Reply()
    cluster.world.advance(31)
    while scraped.value("ejected", endpoint=place):
        cluster.call()
    assert scraped.value("ejections_total", endpoint=place) == 1


def test_a_full_queue() -> None:
    """Who was rejected was never in flight."""
    scraped = Scraped()
    cluster = scraped.watch(limit=Limit(1, queue=0))
    place = cluster.names[0]
    cluster.all_reply(after=1)
    cluster.world.start(cluster.program())
    cluster.world.advance(0)
    cluster.fail()
    assert scraped.value("rejections_total", endpoint=place, policy="limit") == 1
    assert scraped.value("attempts_total", endpoint=place, outcome="rejected") == 1
    assert scraped.value("attempts_in_flight", endpoint=place) == 1
    cluster.world.advance(2)
    assert scraped.value("attempts_in_flight", endpoint=place) == 0
    assert scraped.value("attempt_duration_seconds_count", endpoint=place) == 1


def test_the_rest() -> None:
    """Fallbacks, shared calls, injected faults, adaptive limits."""
    scraped = Scraped()
    fault = Fault(1, error=ConnectionError)
    cluster = scraped.watch(faults=(fault,), fallback=Fallback(7))
    cluster.world.run(cluster.program())
    assert scraped.value("faults_injected_total", endpoint=cluster.names[0]) == 1
    assert scraped.value("fallbacks_total") == 1
    assert scraped.value("calls_total", outcome="fallback") == 1
    assert scraped.value("calls_total", outcome="success") is None

    scraped = Scraped()
    limit = AdaptiveLimit(algorithm="aimd", initial=20)
    cluster = scraped.watch(coalesce=Coalesce(), limit=limit)
    cluster.all_reply(after=1, status=503)
    for _ in range(3):
        cluster.world.start(cluster.program())
    cluster.world.advance(2)
    assert scraped.value("coalesced_total") == 2
    value = scraped.value("concurrency_limit", endpoint=cluster.names[0])
    assert value is not None
    assert value < 20


def test_labels_are_bounded() -> None:
    """Endpoints beyond the bound share one label, and have no state of their own."""
    scraped = Scraped(max_endpoints=2)
    cluster = scraped.watch(5, breaker=Breaker(failures=1))
    cluster.all_reply(fate="reset")
    for _ in range(5):
        cluster.fail()
    labels = scraped.endpoints()
    assert len(labels & set(cluster.names)) == 2
    assert labels - set(cluster.names) - {""} == {"other"}
    assert scraped.value("attempts_total", endpoint="other", outcome="failure") == 3
    assert scraped.value("circuit_state", endpoint="other") is None
    assert scraped.value("circuit_changes_total", endpoint="other", to="open") == 3


def test_endpoints_come_and_go() -> None:
    """The series of one that was removed go too, and leave room for another one's."""
    scraped = Scraped(max_endpoints=1)
    cluster = scraped.watch(1)
    cluster.all_reply(after=1)
    old = cluster.names[0]
    cluster.call()
    running = cluster.world.start(cluster.program())
    cluster.world.advance(0)
    cluster.core.endpoints.update(["10.0.0.9:80"], cluster.world.now)
    assert scraped.endpoints() == {"other"}
    assert scraped.value("attempts_in_flight", endpoint="other") == 1
    cluster.world.advance(2)
    assert running.done
    assert scraped.value("attempts_in_flight", endpoint="other") == 0
    cluster.fail()
    assert scraped.endpoints() == {"10.0.0.9:80", "other"}
    cluster.core.endpoints.update([old], cluster.world.now)
    cluster.call()
    assert scraped.endpoints() == {old, "other"}


def test_a_listener_that_came_late() -> None:
    """What began before it listened is counted at its end, and never was in flight."""
    scraped = Scraped()
    cluster = scraped.watch()
    cluster.core.unlisten(scraped.metrics)
    cluster.core.listen(lambda event: None)
    cluster.all_reply(after=1)
    cluster.world.start(cluster.program())
    cluster.world.advance(0)
    cluster.core.listen(scraped.metrics)
    cluster.world.advance(2)
    assert scraped.value("calls_total", outcome="success") == 1
    assert scraped.value("calls_in_flight") is None
    assert scraped.value("attempts_in_flight", endpoint=cluster.names[0]) is None


def test_a_cancelled_call_as_it_is_told() -> None:
    """It is counted as such, and is in flight no more."""
    scraped = Scraped()
    listen = scraped.metrics.cluster("a")
    listen(Event("call started", 0.0, call=1))
    listen(Event("call failed", 1.0, cause=asyncio.CancelledError(), seconds=1.0, call=1))
    assert scraped.value("calls_total", "a", outcome="cancelled") == 1
    assert scraped.value("calls_in_flight", "a") == 0
    assert scraped.value("call_duration_seconds_count", "a") is None


def test_a_cancelled_attempt() -> None:
    """It is in flight no more."""
    scraped = Scraped()
    cluster = scraped.watch()
    cluster.all_reply(after=1)
    running = cluster.world.start(cluster.program())
    cluster.world.advance(0.5)
    running.cancel(asyncio.CancelledError())
    place = cluster.names[0]
    assert scraped.value("attempts_in_flight", endpoint=place) == 0
    assert scraped.value("attempts_total", endpoint=place, outcome="cancelled") == 1


def test_a_cancelled_call() -> None:
    """It is counted as such, and is in flight no more."""
    scraped = Scraped()
    cluster = scraped.watch()
    cluster.all_reply(after=1)
    running = cluster.world.start(cluster.program())
    cluster.world.advance(0.5)
    running.cancel(asyncio.CancelledError())
    assert scraped.value("calls_in_flight") == 0
    assert scraped.value("calls_total", outcome="cancelled") == 1


def test_clusters_have_names() -> None:
    """And numbers of calls of their own."""
    scraped = Scraped()
    listeners = [scraped.metrics.cluster(name) for name in ("a", "b")]
    assert scraped.metrics.cluster("a") is listeners[0]
    for listener in listeners:
        listener(Event("call started", 0.0, call=1))
    kinds: list[Kind] = ["call succeeded", "call failed"]
    for listener, kind in zip(listeners, kinds, strict=True):
        listener(Event(kind, 1.0, call=1, cause=ValueError() if kind == "call failed" else None))
    assert scraped.value("calls_total", "a", outcome="success") == 1
    assert scraped.value("calls_total", "b", outcome="failure") == 1
    assert scraped.value("calls_in_flight", "a") == scraped.value("calls_in_flight", "b") == 0


def test_a_listener_of_two_clusters(caplog: pytest.LogCaptureFixture) -> None:
    """It is warned of, once, and nothing stays in flight for ever."""
    scraped = Scraped()
    clusters = [scraped.watch() for _ in range(2)]  # both number their calls from 1
    with caplog.at_level(logging.WARNING, "holdfast"):
        for _ in range(2):
            for cluster in clusters:
                cluster.all_reply(after=1)
                cluster.world.start(cluster.program())
                cluster.world.advance(0.5)
            for cluster in clusters:
                cluster.world.advance(2)
    assert caplog.text.count("each one needs its own") == 1
    assert scraped.value("calls_total", outcome="success") == 4
    assert scraped.value("calls_in_flight") == 0
    assert scraped.value("attempts_in_flight", endpoint=clusters[0].names[0]) == 0


class Collecting(str):
    """A name at whose sight the garbage collector runs."""

    __slots__ = ()

    def __hash__(self) -> int:
        gc.collect()
        return super().__hash__()


def test_a_call_that_is_collected_while_another_is_counted() -> None:
    """A call that was left alone ends where the collector finds it, and blocks nobody."""
    scraped = Scraped()
    cluster = scraped.watch()
    cluster.all_reply(after=1)
    program = cluster.program()
    next(program)
    cycle = [program]
    cycle.append(cycle)  # type: ignore[arg-type]
    del program, cycle
    event = Event("ejected", 0.0, Collecting("a:80"))
    thread = threading.Thread(target=scraped.metrics, args=(event,), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert scraped.value("calls_total", outcome="cancelled") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_counts() -> None:
    """The child can count, too."""
    scraped = Scraped()
    listener = scraped.metrics.cluster("a")
    inside, go_on = threading.Event(), threading.Event()

    class Slow(str):
        __slots__ = ()

        def __hash__(self) -> int:
            inside.set()
            go_on.wait(20)
            return super().__hash__()

    other = threading.Thread(target=listener, args=(Event("returned", 0.0, Slow("a:80")),))
    other.start()
    inside.wait(20)
    os.register_at_fork(before=go_on.set)  # the latest one comes first
    child = os.fork()
    if child == 0:
        done = threading.Thread(target=listener, args=(Event("call started", 0.0, call=1),))
        done.daemon = True
        done.start()
        done.join(20)
        os._exit(done.is_alive())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    other.join(20)


def test_the_arguments() -> None:
    """The bound is a number from 0; a registry has each metric once, and namespaces tell apart."""
    with pytest.raises(ValueError, match="max_endpoints"):
        Prometheus(CollectorRegistry(), max_endpoints=-1)
    registry = CollectorRegistry()
    Prometheus(registry)
    Prometheus(registry, namespace="other")
    with pytest.raises(ValueError, match="Duplicated"):
        Prometheus(registry)


def test_a_scrape_while_threads_call(echo: EchoServer) -> None:
    """A real endpoint shows real calls, and every one of them."""
    scraped = Scraped()
    place = f"127.0.0.1:{echo.port}"
    listener = scraped.metrics.cluster("echo")
    server, thread = start_http_server(0, "127.0.0.1", scraped.registry)
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        stop = threading.Event()

        def scrape() -> str:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return str(answer.read().decode())

        def scrape_on() -> None:
            while not stop.is_set():
                scrape()

        with (
            Cluster([place], listeners=[listener]) as cluster,
            ThreadPoolExecutor(5) as pool,
        ):
            scraping = pool.submit(scrape_on)
            try:
                list(pool.map(cluster.get, ["/x"] * 100))
                cluster.get("/status/404")
                cluster.post("/status/500")
            finally:
                stop.set()
            scraping.result()
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(scrape())
            for sample in family.samples
        }
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    of_call = ("cluster", "echo")
    of_place = (of_call, ("endpoint", place))
    assert samples["holdfast_calls_total", (of_call, ("outcome", "success"))] == 101
    assert samples["holdfast_calls_total", (of_call, ("outcome", "failure"))] == 1
    assert samples["holdfast_attempts_total", (*of_place, ("outcome", "success"))] == 101
    assert samples["holdfast_call_duration_seconds_count", (of_call,)] == 102
    assert samples["holdfast_calls_in_flight", (of_call,)] == 0
    assert samples["holdfast_attempts_in_flight", of_place] == 0
