"""Load balancers, and what is asked of those of the user's."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection
from typing import Any

import pytest

from holdfast import Cluster
from holdfast.calls import Call, LeastLoaded, LoadBalancer, fault_tolerant
from holdfast.calls.balancers import balancer_of
from holdfast.errors import CircuitOpenError

A, B = ("http", "a"), ("http", "b")


def test_least_loaded_counts_what_was_chosen() -> None:
    """Whoever chooses next sees those that were chosen, though their attempts have not begun."""
    balancer = LeastLoaded(["a", "b", "c"], random=lambda: 0.0)
    chosen = [balancer.choose(()) for _ in range(3)]
    assert {netloc for _, netloc in chosen} == {"a", "b", "c"}
    for place in chosen:
        balancer.began(place)
    balancer.ended(B)
    assert balancer.choose(()) == B
    balancer.declined(B)
    assert balancer.choose(()) == B


def test_least_loaded_as_a_function() -> None:
    """Called as a function it names the place with the least load, and holds nothing."""
    balancer = LeastLoaded(["a", "b"], random=lambda: 0.0)
    assert [balancer() for _ in range(4)] == [A] * 4


def test_least_loaded_among_threads() -> None:
    """Threads that begin at the same time go to different places."""
    names = [f"s{number}" for number in range(8)]
    balancer = LeastLoaded(names)
    at: Counter[str] = Counter()
    together = threading.Barrier(8)
    started = threading.Barrier(8)

    @fault_tolerant(load_balancer=balancer)
    def work(call: Call) -> None:
        at[call.netloc] += 1
        together.wait(10)

    def run() -> None:
        started.wait(10)
        work()

    threads = [threading.Thread(target=run) for _ in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at == dict.fromkeys(names, 1)
    assert not any(balancer._loads.values())
    assert not any(balancer._chosen.values())


class Told(LoadBalancer):
    """One place, and what was told of it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def choose(self, avoid: Collection[tuple[str, str]]) -> tuple[str, str]:
        self.told.append("choose")
        return A

    def declined(self, place: tuple[str, str]) -> None:
        self.told.append("declined")

    def began(self, place: tuple[str, str]) -> None:
        self.told.append("began")

    def ended(self, place: tuple[str, str]) -> None:
        self.told.append("ended")


def test_a_balancer_is_told_of_each_choice() -> None:
    """Each choice is declined, or has begun and ended."""
    balancer = Told()

    @fault_tolerant(load_balancer=balancer, retry_attempts=1)
    def work() -> None:
        raise ConnectionError("no")

    with pytest.raises(ConnectionError):
        work()
    first, again = ["choose", "began", "ended"], ["choose", "declined", "began", "ended"]
    assert balancer.told == first + again
    core: Any = work.core  # type: ignore[attr-defined]
    core.endpoints.all[0].breaker.force("open", core.clock())
    balancer.told.clear()
    with pytest.raises(CircuitOpenError):
        work()
    assert balancer.told == ["choose", "declined"] * 2


def test_a_host_that_goes_and_comes_back() -> None:
    """An attempt gives back the slot that it has taken, though its host was replaced since."""
    with Cluster(["a"]) as cluster:
        balancer: Any = balancer_of(cluster)
        endpoints = cluster._core.endpoints
        place = balancer.choose(())
        balancer.began(place)
        (before,) = endpoints.all
        endpoints.update(["b"], 0.0)
        endpoints.update(["a"], 1.0)
        (after,) = endpoints.all
        assert after is not before
        assert balancer.choose(()) == place
        balancer.ended(place)
        assert (before.in_flight, after.in_flight) == (0, 0)


def test_hosts_that_have_gone_are_forgotten() -> None:
    """Hosts that come and go leave nothing behind."""
    with Cluster(["a"]) as cluster:
        balancer: Any = balancer_of(cluster)
        for number in range(20):
            cluster._core.endpoints.update([f"h{number}"], float(number))
            place = balancer.choose(())
            balancer.began(place)
            balancer.ended(place)
        assert len(balancer._endpoints) <= 3
        assert not balancer._held


@pytest.mark.parametrize(
    "place", [("http://", "a"), ("http", "http://a"), ("http:", "a"), ("ht tp", "a")]
)
def test_protocols_are_words(place: tuple[str, str]) -> None:
    """What is a URL in part is refused, with words that help."""

    @fault_tolerant(load_balancer=lambda: place)
    def work() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="without '://'"):
        work()
