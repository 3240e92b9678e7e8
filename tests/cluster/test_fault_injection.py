"""Faults that are injected: calls meet them as they would meet real ones."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import Breaker, Ejection, Limit, Policy, Retry, errors
from holdfast.cluster.functions import FunctionCore
from holdfast.policy import Event, Fault, Hedge
from holdfast.simulation import World
from tests.cluster.calls import Virtual, attempts, tried

ONCE = Retry(attempts=1)


def faulty(*faults: Fault, ejection: Ejection | None = None, **parts: Any) -> Virtual:
    """Return a cluster whose attempts meet faults."""
    parts = {"retry": ONCE, "budget": None, "breaker": None, "limit": Limit(5), **parts}
    return Virtual(3, Policy(faults=faults, **parts), ejection=ejection)


def asked(cluster: Virtual) -> int:
    """Return how many requests all hosts received."""
    return sum(len(host.asked) for host in cluster.hosts)


def test_a_delay_comes_before_the_attempt() -> None:
    """The request is sent that much later, and answered as ever."""
    cluster = faulty(Fault(1, delay=0.5))
    assert cluster.call().status_code == 200
    assert cluster.elapsed == 0.5
    assert asked(cluster) == 1
    assert cluster.idle()


def test_a_delay_ends_with_the_deadline() -> None:
    """It is a slow host, and no reason to be late."""
    cluster = faulty(Fault(1, delay=60))
    error = cluster.fail(timeout=2)
    assert isinstance(error, errors.DeadlineExceeded)
    assert cluster.elapsed == 2
    assert asked(cluster) == 0
    assert cluster.idle()


def test_a_delay_ends_with_the_attempts_time() -> None:
    """And then leads to another attempt."""
    cluster = faulty(
        Fault(1, delay=60, endpoint="10.0.0.1:80"),
        retry=Retry(attempts=3, base=1e-9, attempt_timeout=0.5),
    )
    for _ in range(6):
        response = cluster.call()
        assert response.status_code == 200
        assert tried(response)[-1] != "10.0.0.1:80"
        for attempt in attempts(response)[:-1]:
            assert isinstance(attempt.error, errors.AttemptTimeout)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 404, 418, 503, 599])
def test_a_status_is_answered_by_nobody(status: int, stream: bool) -> None:
    """The answer looks like a host's, and nothing was sent."""
    cluster = faulty(Fault(1, status=status))
    response = cluster.call(stream=stream)
    assert response.status_code == status
    assert attempts(response)[-1].status == status
    if stream:
        assert cluster.world.run(response.reader.read_all()) == b""
        response.reader.close()
    else:
        assert (response.content, response.text) == (b"", "")
    assert dict(response.headers) == {}
    assert response.url.startswith("http://10.0.0.")
    assert asked(cluster) == 0
    assert cluster.idle()


def test_an_injected_status_is_retried_like_a_real_one() -> None:
    """And counts against the host, as far as the status says so."""
    cluster = faulty(
        Fault(1, status=503, endpoint="10.0.0.1:80"),
        retry=Retry(attempts=3, base=1e-9),
        breaker=Breaker(failures=2),
    )
    for _ in range(10):
        assert cluster.call().status_code == 200
    first = cluster.core.endpoints.all[0]
    assert first.breaker is not None
    assert first.breaker.state == "open"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (ConnectionResetError, errors.NetworkError),
        (ConnectionRefusedError("no"), errors.NetworkError),
        (errors.ConnectError, errors.ConnectError),
        (errors.ProtocolError("nonsense"), errors.ProtocolError),
        (TimeoutError, errors.ReadTimeout),
    ],
    ids=str,
)
def test_an_error_takes_the_place_of_the_attempt(fault: Any, kind: type[Exception]) -> None:
    """Classes and objects are raised; nothing was sent."""
    cluster = faulty(Fault(1, error=fault), retry=Retry(attempts=2, base=1e-9))
    error = cluster.fail()
    assert type(error) is kind
    assert len(error.attempts) == 2
    assert asked(cluster) == 0
    assert cluster.idle()


def test_an_error_object_is_not_changed() -> None:
    """It belongs to the policy, which all calls share."""
    mine = errors.ConnectError("broken on purpose")
    cluster = faulty(Fault(1, error=mine), retry=Retry(attempts=3, base=1e-9))
    for _ in range(3):
        assert "broken on purpose" in str(cluster.fail())
    assert str(mine) == "broken on purpose"
    assert mine.__traceback__ is None
    assert mine.__cause__ is None
    assert mine.attempts == ()


def test_an_error_that_is_no_network_error_is_the_callers() -> None:
    """It ends the call, and leaves nothing behind."""
    cluster = faulty(Fault(1, error=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        cluster.call()
    assert cluster.idle()


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_comes_after_the_request_was_carried_out(stream: bool) -> None:
    """So what is not idempotent is not repeated, and the connection is not used again."""
    cluster = faulty(Fault(1, cut=True), retry=Retry(attempts=2, base=1e-9))
    cluster.all_reply(body=b"x", pieces=[(0.1, b"y")])
    error = cluster.fail("POST", stream=stream)
    assert isinstance(error, errors.NetworkError)
    assert "may have been carried out" in str(error)
    assert asked(cluster) == 1
    assert cluster.idle()
    cluster.fail(stream=stream)
    assert asked(cluster) == 1 + 2
    assert cluster.idle()


def test_a_share_of_the_attempts_meets_it() -> None:
    """By chance, from the cluster's own randomness."""
    cluster = faulty(Fault(0.25, status=418))
    statuses = [cluster.call().status_code for _ in range(2000)]
    assert 0.2 < statuses.count(418) / 2000 < 0.3
    again = faulty(Fault(0.25, status=418))
    assert [again.call().status_code for _ in range(2000)] == statuses


def test_it_holds_for_what_matches() -> None:
    """By method, path (without its query) and endpoint; the first that is met counts."""
    cluster = faulty(
        Fault(1, status=418, method="GET", path="/tea/*"),
        Fault(1, status=429, path="/tea/*"),
        Fault(1, status=502, endpoint="nobody"),
    )
    assert cluster.call(path="/tea/green?sugar=1").status_code == 418
    assert cluster.call("PUT", path="/tea/black").status_code == 429
    assert cluster.call(path="/coffee").status_code == 200
    assert cluster.call(path="/?x=/tea/").status_code == 200


def test_faults_eject() -> None:
    """What does as a broken host does is treated as one."""
    cluster = faulty(
        Fault(1, error=ConnectionError, endpoint="10.0.0.2:80"),
        retry=Retry(attempts=2, base=1e-9),
        ejection=Ejection(failures=2, base=30),
    )
    for _ in range(20):
        assert cluster.call().status_code == 200
    assert len(cluster.core.endpoints.ready) == 2


def test_a_delay_is_hedged() -> None:
    """A slow attempt is overtaken, whatever makes it slow."""
    cluster = faulty(Fault(1, delay=2, endpoint="10.0.0.1:80"), hedge=Hedge(after=0.1))
    for _ in range(10):
        began = cluster.elapsed
        assert cluster.call().status_code == 200
        assert cluster.elapsed - began <= 0.1 + 1e-9
        assert cluster.idle()


def test_it_is_told() -> None:
    """With the fault, the endpoint and the attempt."""
    fault = Fault(1, status=503)
    cluster = faulty(fault, retry=Retry(attempts=2, base=1e-9))
    events: list[Event] = []
    cluster.core.listen(events.append)
    cluster.call()
    told = [event for event in events if event.kind == "fault injected"]
    assert [event.attempt for event in told] == [1, 2]
    assert {event.cause for event in told} == {fault}
    assert {event.policy for event in told} == {"faults"}
    assert {event.endpoint for event in told} <= set(cluster.names)


def test_a_delay_past_the_deadline_calls_no_function() -> None:
    """The time is over before its work would begin."""
    made: list[int] = []
    world = World()
    policy = Policy(timeout=2, faults=(Fault(1, delay=60),))
    core = FunctionCore(policy, "work", clock=world.clock, random=world.random)
    with pytest.raises(errors.DeadlineExceeded):
        world.run(core.call(made.append, (1,), {}))
    assert world.now == 2
    assert made == []


def test_a_function_meets_faults() -> None:
    """Its name is the endpoint; errors are raised as they are, and worth what they are worth."""
    made: list[int] = []

    def work(number: int) -> int:
        made.append(number)
        return number

    retry = Retry(attempts=3, base=1e-9)
    by_name = Fault(1, error=ConnectionError("injected"), endpoint="*.work")
    with pytest.raises(ConnectionError, match="injected") as caught:
        Policy(faults=(by_name,), retry=retry)(work)(1)
    assert len(caught.value.__notes__) == 1
    assert "3 attempts" in caught.value.__notes__[0]
    assert made == []
    other = Fault(1, error=ConnectionError, endpoint="other")
    assert Policy(faults=(other,), retry=retry)(work)(2) == 2
    with pytest.raises(KeyError):
        Policy(faults=(Fault(1, error=KeyError),), retry=retry)(work)(3)
    with pytest.raises(errors.NetworkError, match="status 503"):
        Policy(faults=(Fault(1, status=503),), retry=ONCE)(work)(4)
    assert made == [2]
    with pytest.raises(errors.NetworkError, match="cut"):
        Policy(faults=(Fault(1, cut=True),), retry=ONCE)(work)(5)
    assert made == [2, 5]
