"""Identical calls at the same time are one request."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import Cluster, Limit, Policy, Retry, errors, ops
from holdfast.policy import Coalesce, Event
from tests.cluster.calls import Reply, Virtual, request
from tests.servers import EchoServer

POLICY = Policy(
    coalesce=Coalesce(), retry=Retry(base=1e-9), budget=None, breaker=None, limit=Limit(9)
)


def asked(cluster: Virtual) -> int:
    """Return how many requests all hosts received."""
    return sum(len(host.asked) for host in cluster.hosts)


def outcomes(cluster: Virtual, *programs: ops.Program[Any]) -> list[Any]:
    """Run programs at the same time and return their results or errors."""
    return cluster.world.run(_all(programs))


def _all(programs: Any) -> ops.Program[list[Any]]:
    results: list[Any] = yield ops.All(programs)
    return results


def test_identical_calls_are_one_request() -> None:
    """All get its answer, when it comes."""
    cluster = Virtual(3, POLICY)
    events: list[Event] = []
    cluster.core.listen(events.append)
    cluster.all_reply(after=1, body=b"x")
    responses = outcomes(cluster, *[cluster.program() for _ in range(5)])
    assert [response.content for response in responses] == [b"x"] * 5
    assert asked(cluster) == 1
    assert cluster.elapsed == 1
    assert [event.kind for event in events].count("coalesced") == 4
    assert len(cluster.core.flights or ()) == 0
    assert cluster.idle()


def test_answers_are_separate_objects() -> None:
    """What one caller does to its answer is nobody else's business."""
    cluster = Virtual(3, POLICY)
    cluster.all_reply(after=1, body=b"x", headers={"A": "b"})
    one, two, three = outcomes(cluster, *[cluster.program() for _ in range(3)])
    assert len({id(one), id(two), id(three)}) == 3
    one.content = b"spoilt"
    one.seconds = 99.0
    assert two.content == three.content == b"x"
    assert two.elapsed.total_seconds() == 1
    assert two.headers["a"] == "b"


def test_calls_one_after_the_other_are_two() -> None:
    """Nothing is remembered: that would be a cache."""
    cluster = Virtual(3, POLICY)
    cluster.call()
    cluster.call()
    assert asked(cluster) == 2


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("GET", {"path": "/other"}),
        ("GET", {"params": {"a": 1}}),
        ("GET", {"headers": {"Authorization": "Bearer somebody"}}),
        ("GET", {"key": "other"}),
        ("HEAD", {}),
        ("POST", {}),
        ("PUT", {}),
        ("GET", {"stream": True}),
        ("GET", {"into": bytearray(10)}),
        ("GET", {"content": b"x"}),
        ("GET", {"max_body": 10}),
    ],
    ids=str,
)
def test_what_differs_is_not_coalesced(method: str, options: dict[str, Any]) -> None:
    """Neither with another call, nor, where it cannot be shared, with its like."""
    cluster = Virtual(1, POLICY)
    cluster.all_reply(after=1)
    path = options.pop("path", "/")
    programs = [cluster.program(), cluster.program(method, path, **options)]
    for response in outcomes(cluster, *programs):
        if response.reader is not None:
            response.reader.close()
    assert asked(cluster) == 2
    assert cluster.idle()


def test_a_broadcast_asks_every_host() -> None:
    """Requests to hosts that were named are not identical, though they look so."""
    cluster = Virtual(3, POLICY)
    for number, host in enumerate(cluster.hosts):
        host.behaviour = Reply(after=1, body=b"%d" % number)
    requests = [(endpoint, request(cluster.core)) for endpoint in cluster.core.endpoints.all]
    answers = cluster.world.run(cluster.core.broadcast(requests))
    assert [getattr(answer, "content", answer) for answer in answers] == [b"0", b"1", b"2"]


def test_calls_with_a_say_in_what_is_good_are_their_own() -> None:
    """Who judges answers in its own way needs attempts of its own."""
    cluster = Virtual(1, POLICY)
    cluster.all_reply(after=1, status=404)
    picky = cluster.core.call(request(cluster.core), again=lambda response: True)
    outcomes(cluster, cluster.program(), picky)
    assert asked(cluster) == 1 + 3


def test_an_error_is_shared() -> None:
    """All calls of a flight fail with it, after its attempts."""
    cluster = Virtual(3, POLICY)
    cluster.all_reply(after=1, fate="reset")
    results = outcomes(cluster, *[cluster.program() for _ in range(3)])
    assert {type(result) for result in results} == {errors.NetworkError}
    assert {len(result.attempts) for result in results} == {3}
    assert asked(cluster) == 3
    assert cluster.idle()


def test_when_the_leader_is_cancelled_a_follower_takes_over() -> None:
    """One of them makes the request anew, for all who still wait."""
    cluster = Virtual(1, POLICY)
    cluster.all_reply(after=1, body=b"x")
    leader = cluster.world.start(cluster.program())
    followers = [cluster.world.start(cluster.program()) for _ in range(3)]
    cluster.world.advance(0.5)
    leader.cancel()
    cluster.world.advance(0.9)
    assert not followers[0].done
    cluster.world.advance(0.1)
    assert [follower.result().content for follower in followers] == [b"x"] * 3
    assert asked(cluster) == 2
    assert cluster.idle()


def test_when_all_leaders_are_cancelled_nobody_waits_for_ever() -> None:
    """Each in turn takes over, down to the last."""
    cluster = Virtual(1, POLICY)
    cluster.all_reply(after=1)
    tasks = [cluster.world.start(cluster.program()) for _ in range(5)]
    for task in tasks[:-1]:
        cluster.world.advance(0.1)
        task.cancel()
    cluster.world.advance(1)
    assert tasks[-1].result().status_code == 200
    assert asked(cluster) == 5
    assert cluster.idle()


def test_a_follower_that_is_cancelled_leaves_the_others_alone() -> None:
    """It only ceases to wait."""
    cluster = Virtual(1, POLICY)
    cluster.all_reply(after=1)
    leader, one, other = [cluster.world.start(cluster.program()) for _ in range(3)]
    cluster.world.advance(0.5)
    one.cancel()
    cluster.world.advance(0.5)
    assert leader.result().status_code == other.result().status_code == 200
    assert asked(cluster) == 1


def test_the_leaders_deadline_is_its_own() -> None:
    """Who has more time goes on without it."""
    cluster = Virtual(1, POLICY)
    cluster.all_reply(after=1)
    leader = cluster.world.start(cluster.program(timeout=0.4))
    follower = cluster.world.start(cluster.program(timeout=3))
    cluster.world.advance(0.4)
    assert isinstance(leader.error, errors.DeadlineExceeded)
    cluster.world.advance(1)
    assert follower.result().status_code == 200
    assert asked(cluster) == 2


def test_a_followers_deadline_is_its_own() -> None:
    """Who has less time ends before the answer comes."""
    cluster = Virtual(1, POLICY)
    cluster.all_reply(after=1)
    leader = cluster.world.start(cluster.program(timeout=3))
    follower = cluster.world.start(cluster.program(timeout=0.4))
    cluster.world.advance(0.4)
    assert isinstance(follower.error, errors.DeadlineExceeded)
    cluster.world.advance(1)
    assert leader.result().status_code == 200
    assert asked(cluster) == 1


def test_all_deadlines_hold_when_leaders_fail_one_after_the_other() -> None:
    """Nobody waits longer than its own time, however often the leader changes."""
    cluster = Virtual(1, POLICY)
    cluster.all_reply(after=60)
    ends: list[tuple[float, float]] = []

    def timed(seconds: float) -> ops.Program[None]:
        try:
            yield from cluster.program(timeout=seconds)
        except errors.DeadlineExceeded:
            ends.append((seconds, cluster.elapsed))

    for number in range(1, 6):
        cluster.world.start(timed(number / 2))
    cluster.world.advance(60)
    assert ends == [(number / 2, number / 2) for number in range(1, 6)]
    assert cluster.idle()


def test_threads_share_a_request() -> None:
    """Calls from threads wait for the one that is under way."""
    count = 8
    with EchoServer() as server, Cluster([server.address], policy=POLICY) as cluster:
        waiting = threading.Semaphore(0)
        flights = cluster._core.flights
        assert flights is not None
        with ThreadPoolExecutor(count) as threads:
            futures = [threads.submit(cluster.get, "/slow") for _ in range(count)]
            while sum(len(f.waiting or ()) for f in list(flights._flights.values())) < count - 1:
                waiting.acquire(timeout=0.001)
            server.gate.set()
            responses = [future.result(30) for future in futures]
        assert {response.status_code for response in responses} == {200}
        assert len({id(response) for response in responses}) == count
        assert len({response.json()["connection"] for response in responses}) == 1
        assert len({response.content for response in responses}) == 1
        assert len(flights) == 0
        assert all(endpoint.in_flight == 0 for endpoint in cluster.endpoints)


def test_threads_hammer_few_targets() -> None:
    """Every call gets the answer to its own request, and no flight is left."""
    with EchoServer() as server, Cluster([server.address], policy=POLICY) as cluster:

        def work(number: int) -> bool:
            path = f"/{number % 3}"
            return bool(cluster.get(path).json()["path"] == path)

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(work, range(400)))
        assert len(cluster._core.flights or ()) == 0


def test_a_functions_identical_calls_are_one() -> None:
    """With the same arguments, however they were given by name."""
    made: list[Any] = []

    async def main() -> None:
        gate = asyncio.Event()

        @Policy(coalesce=Coalesce())
        async def work(*args: Any, **keywords: Any) -> Any:
            made.append((args, keywords))
            await gate.wait()
            return object()

        calls = [
            work(1, a=2, b=3),
            work(1, b=3, a=2),
            work(2),
            work([1]),  # cannot be compared quickly: each is its own
            work([1]),
        ]
        tasks = [asyncio.ensure_future(call) for call in calls]
        for _ in range(5):
            await asyncio.sleep(0)
        gate.set()
        one, same, *others = await asyncio.gather(*tasks)
        assert one is same
        assert len({id(other) for other in others}) == 3
        assert len(work.core.flights) == 0  # type: ignore[attr-defined]

    asyncio.run(main())
    assert len(made) == 4


def test_a_functions_error_is_shared_as_it_is() -> None:
    """Every caller gets the exception that was raised once."""

    async def main() -> None:
        @Policy(coalesce=Coalesce(), retry=None)
        async def work() -> None:
            await asyncio.sleep(0)
            raise LookupError("no such thing")

        results = await asyncio.gather(work(), work(), work(), return_exceptions=True)
        assert {type(result) for result in results} == {LookupError}

    asyncio.run(main())
