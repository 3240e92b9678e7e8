"""What a call returns when it failed for good."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import AsyncCluster, Limit, Policy, Retry, errors
from holdfast.policy import Event, Fallback
from holdfast.testing import scripted
from tests.cluster.calls import Reply, Virtual, request


def falling(fallback: Fallback, count: int = 2, **parts: Any) -> Virtual:
    """Return a cluster with a fallback."""
    parts = {"retry": Retry(attempts=2, base=1e-9), "budget": None, "breaker": None, **parts}
    return Virtual(count, Policy(fallback=fallback, **parts))


def outcome(cluster: Virtual, **options: Any) -> Any:
    """Make a call and return whatever comes of it."""
    return cluster.call(**options)


def test_a_value_stands_in_for_an_error() -> None:
    """When no attempt is left, the value is what the call returns, as it is."""
    value = {"of": "last resort"}
    cluster = falling(Fallback(value))
    cluster.all_reply(fate="reset")
    assert outcome(cluster) is value
    assert sum(len(host.asked) for host in cluster.hosts) == 2  # not before the retries
    cluster.all_reply()
    assert cluster.call().status_code == 200


def test_none_is_a_value() -> None:
    """A fallback of None returns None."""
    cluster = falling(Fallback(None))
    cluster.all_reply(fate="reset")
    assert outcome(cluster) is None


@pytest.mark.parametrize("status", [500, 502, 503, 599, 429])
def test_it_stands_in_for_answers_of_hosts_that_failed(status: int) -> None:
    """Statuses from 500 on, and 429, are failures."""
    cluster = falling(Fallback("instead"))
    cluster.all_reply(status=status)
    assert outcome(cluster) == "instead"
    assert cluster.idle()


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 422])
def test_other_answers_stay(status: int) -> None:
    """Whatever the host decided is the answer."""
    cluster = falling(Fallback("instead"))
    cluster.all_reply(status=status)
    assert cluster.call().status_code == status


def test_a_function_is_called_with_the_error() -> None:
    """With what the call would have raised, its attempts included, or with the status's error."""
    seen: list[Any] = []

    def function(error: Exception) -> str:
        seen.append(error)
        return "made"

    cluster = falling(Fallback(function=function))
    cluster.all_reply(fate="reset")
    assert outcome(cluster) == "made"
    assert isinstance(seen[0], errors.NetworkError)
    assert len(seen[0].attempts) == 2
    cluster.all_reply(status=503, body=b"busy")
    assert outcome(cluster) == "made"
    assert isinstance(seen[1], errors.StatusError)
    assert seen[1].response.content == b"busy"


def test_what_a_function_raises_is_the_calls_error() -> None:
    """And nothing of the answer that was no good stays open."""

    def function(error: Exception) -> Any:
        raise LookupError("nothing remembered")

    cluster = falling(Fallback(function=function), limit=Limit(1))
    for reply in ({"fate": "reset"}, {"status": 503, "body": b"busy"}):
        cluster.all_reply(**reply)
        with pytest.raises(LookupError, match="nothing remembered"):
            outcome(cluster)
        assert cluster.idle()


def test_nothing_stands_in_for_a_stream() -> None:
    """What is to be read piece by piece is a response, or an error."""
    cluster = falling(Fallback(value="instead"), limit=Limit(1))
    cluster.all_reply(fate="reset")
    with pytest.raises(errors.NetworkError):
        outcome(cluster, stream=True)
    assert cluster.idle()


def test_a_function_may_be_asynchronous() -> None:
    """In asyncio its result is awaited."""

    async def function(error: Exception) -> str:
        await asyncio.sleep(0)
        return type(error).__name__

    async def main() -> Any:
        world = scripted({"a:80": Reply(fate="reset")})
        policy = Policy(fallback=Fallback(function=function), retry=None)
        async with AsyncCluster(world.addresses, driver=world, policy=policy) as cluster:
            return await cluster.get("/")

    assert asyncio.run(main()) == "NetworkError"


def test_the_order_is_stale_function_value() -> None:
    """The first of them that has something counts."""
    fallback = Fallback("value", function=lambda error: "function", stale=10)
    cluster = falling(fallback)
    cluster.all_reply(body=b"fresh")
    assert cluster.call(path="/known").content == b"fresh"
    cluster.all_reply(fate="reset")
    assert outcome(cluster, path="/known").content == b"fresh"
    assert outcome(cluster, path="/unknown") == "function"


def test_stale_answers_are_of_the_same_target() -> None:
    """An answer stands in for the same call only: path, query, headers, method."""
    cluster = falling(Fallback(stale=60))
    for body, options in enumerate(CALLS):
        cluster.all_reply(body=b"%d" % body)
        cluster.call(**options)
    cluster.all_reply(status=503)
    for body, options in enumerate(CALLS):
        assert cluster.call(**options).content == (b"%d" % body if options != HEAD else b"")
    assert cluster.call(path="/other").status_code == 503
    cluster.all_reply(fate="reset")
    assert isinstance(cluster.fail(path="/other"), errors.NetworkError)


HEAD: dict[str, Any] = {"method": "HEAD", "path": "/a"}
CALLS: list[dict[str, Any]] = [
    {"path": "/a"},
    {"path": "/b"},
    {"path": "/a?x=1"},
    {"path": "/a", "headers": {"Authorization": "Bearer of another user"}},
    HEAD,
]


def test_stale_answers_grow_too_old() -> None:
    """After so many seconds no answer is better."""
    cluster = falling(Fallback(stale=60))
    cluster.all_reply(body=b"good")
    cluster.call()
    cluster.all_reply(fate="reset")
    cluster.world.advance(59.9)
    assert cluster.call().content == b"good"
    cluster.world.advance(0.1)
    assert isinstance(cluster.fail(), errors.NetworkError)


def test_stale_answers_are_separate_objects() -> None:
    """What one caller does to its answer is nobody else's business."""
    cluster = falling(Fallback(stale=60))
    cluster.all_reply(body=b"good")
    fresh = cluster.call()
    fresh.content = b"spoilt"
    cluster.all_reply(fate="reset")
    one, other = cluster.call(), cluster.call()
    assert one is not other
    assert one.content == other.content == b"good"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_changes_something_has_no_stale_answer(method: str) -> None:
    """That it was done before is no answer to whether it is done now."""
    cluster = falling(Fallback(stale=60))
    cluster.call(method)
    cluster.all_reply(fate="reset")
    assert isinstance(cluster.fail(method), errors.NetworkError)


def test_one_hosts_answer_is_not_anothers() -> None:
    """Where a host was named, as by a broadcast, the answer of another is not the same."""
    cluster = falling(Fallback(stale=60))
    for number, host in enumerate(cluster.hosts):
        host.behaviour = Reply(body=b"%d" % number)
    endpoints = cluster.core.endpoints.all

    def ask() -> list[Any]:
        asked = [(endpoint, request(cluster.core)) for endpoint in endpoints]
        return cluster.world.run(cluster.core.broadcast(asked))

    assert [answer.content for answer in ask()] == [b"0", b"1"]
    cluster.hosts[0].behaviour = Reply(fate="reset")
    failed, good = ask()
    assert isinstance(failed, errors.NetworkError)
    assert good.content == b"1"


def test_it_is_for_the_errors_that_it_names() -> None:
    """Others, and statuses unless they are meant, are raised and returned as they are."""
    cluster = falling(Fallback("late", on=(TimeoutError,)), timeout=1)
    cluster.all_reply(fate="reset")
    assert isinstance(cluster.fail(), errors.NetworkError)
    cluster.all_reply(status=503)
    assert cluster.call().status_code == 503
    cluster.all_reply(after=9)
    assert outcome(cluster) == "late"
    statuses = falling(Fallback("status", on=(errors.StatusError,)))
    statuses.all_reply(status=503)
    assert outcome(statuses) == "status"


def test_it_is_not_for_errors_in_the_arguments() -> None:
    """A call that cannot be made is a mistake, which a fallback would hide."""
    cluster = falling(Fallback("instead"))
    with pytest.raises(errors.InvalidRequest):
        outcome(cluster, path="http://elsewhere/")
    with pytest.raises(errors.InvalidRequest, match="bytes"):
        outcome(cluster, method="PUT", content=[3])
    assert cluster.idle()


def test_a_call_that_nobody_may_answer_falls_back() -> None:
    """Also when nothing was sent: the queue was full, or every circuit is open."""
    cluster = falling(Fallback("instead"), limit=Limit(1, queue=0), retry=None)
    cluster.all_reply(after=1)
    tasks = [cluster.world.start(cluster.program()) for _ in range(3)]
    cluster.world.advance(2)
    results: list[Any] = [task.result() for task in tasks]
    assert "instead" in results
    assert cluster.idle()


def test_a_cluster_whose_hosts_are_gone_falls_back() -> None:
    """A discovery that finds nobody is an outage, no mistake in the arguments."""
    cluster = falling(Fallback("instead"))
    cluster.core.endpoints.update([], cluster.world.now)
    assert outcome(cluster) == "instead"


def test_it_is_told() -> None:
    """Listeners hear of it, with the cause."""
    cluster = falling(Fallback("instead"))
    events: list[Event] = []
    cluster.core.listen(events.append)
    cluster.all_reply(fate="reset")
    outcome(cluster)
    fell = [event for event in events if event.kind == "fell back"]
    assert [type(event.cause) for event in fell] == [errors.NetworkError]
    assert [event.policy for event in fell] == ["fallback"]
    assert events[-1].kind == "call succeeded"


def test_a_function_falls_back() -> None:
    """A decorated function as well: to a value, a function, or its last good result."""
    fails = False

    def work(number: int) -> int:
        if fails:
            raise ConnectionError("lost")
        return number * 2

    policy = Policy(retry=None, breaker=None)
    valued = Policy(retry=None, fallback=Fallback(0))(work)
    made = Policy(retry=None, fallback=Fallback(function=lambda error: -1))(work)
    stale = Policy(retry=None, fallback=Fallback(stale=60))(work)
    assert (valued(2), made(2), stale(2)) == (4, 4, 4)
    fails = True
    assert (valued(2), made(2), stale(2)) == (0, -1, 4)
    with pytest.raises(ConnectionError, match="lost"):
        stale(3)
    with pytest.raises(ConnectionError, match="lost"):
        policy(work)(2)


def test_a_functions_own_value_error_falls_back() -> None:
    """Only our own errors about arguments are mistakes in the call."""

    @Policy(retry=None, fallback=Fallback(7))
    def work() -> int:
        raise ValueError("what it was asked for is not there")

    assert work() == 7


def test_an_asynchronous_function_falls_back() -> None:
    """With a deadline that it exceeds, too, to what an asynchronous function returns."""

    async def instead(error: Exception) -> str:
        await asyncio.sleep(0)
        return type(error).__name__

    @Policy(timeout=0.01, retry=None, fallback=Fallback(function=instead))
    async def work() -> str:
        await asyncio.get_running_loop().create_future()
        return "never"

    assert asyncio.run(work()) == "DeadlineExceeded"
