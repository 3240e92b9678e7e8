"""Which failures are worth another attempt, when, and where."""

from __future__ import annotations

import time
from email.utils import formatdate
from itertools import pairwise
from math import inf
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Breaker, Limit, Policy, Retry, errors
from holdfast.cluster.retry_after import retry_after
from holdfast.http.headers import Headers
from holdfast.http.limits import Timeout
from holdfast.http.responses import Response
from tests.cluster.calls import EAGER, Asked, Reply, Virtual, attempts, tried

METHODS = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "PATCH"]
IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}


def flaky(cluster: Virtual, failures: int, **reply: Any) -> None:
    """Have the first answers of all hosts together be failures."""
    left = [failures]

    def behave(asked: Asked) -> Reply:
        left[0] -= 1
        return Reply(**reply) if left[0] >= 0 else Reply()

    for host in cluster.hosts:
        host.behaviour = behave


def asked(cluster: Virtual) -> int:
    """Return how many requests all hosts received."""
    return sum(len(host.asked) for host in cluster.hosts)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_overloaded_host_is_not_the_last_word(status: int) -> None:
    """The statuses of the policy lead to another attempt, on another host."""
    cluster = Virtual()
    flaky(cluster, 2, status=status)
    response = cluster.call()
    assert response.status_code == 200
    assert len(set(tried(response))) == 3
    assert [attempt.status for attempt in attempts(response)] == [status, status, 200]
    assert [attempt.number for attempt in attempts(response)] == [1, 2, 3]


@pytest.mark.parametrize("status", [200, 304, 400, 404, 408, 500, 501])
def test_other_statuses_are_answers(status: int) -> None:
    """Whatever else comes is what the caller asked for."""
    cluster = Virtual()
    cluster.all_reply(status=status)
    response = cluster.call()
    assert response.status_code == status
    assert len(response.attempts) == 1


def test_the_last_answer_is_returned_when_no_attempt_is_left() -> None:
    """An error status is no exception, however often it was tried."""
    cluster = Virtual()
    cluster.all_reply(status=503, body=b"busy")
    response = cluster.call()
    assert (response.status_code, response.content) == (503, b"busy")
    assert len(response.attempts) == 3
    assert cluster.idle()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_there_are_as_many_attempts_as_the_policy_says(count: int) -> None:
    """Attempts count the first one; without a Retry there is one."""
    policy = Policy(retry=Retry(attempts=count, base=1e-9), budget=None, breaker=None)
    cluster = Virtual(2, policy)
    cluster.all_reply(status=503)
    assert len(cluster.call().attempts) == count
    cluster = Virtual(2, Policy(retry=None))
    cluster.all_reply(fate="reset")
    assert len(cluster.fail().attempts) == 1


@pytest.mark.parametrize("idempotent", [None, True, False])
@pytest.mark.parametrize(
    ("method", "fate"),
    [
        (method, fate)
        for method in METHODS
        for fate in ("reset", "close", "cut", "503", "silence")
        if (method, fate) != ("HEAD", "cut")  # no body that could be cut
    ],
)
def test_what_may_have_been_done_is_repeated_only_when_it_may_be(
    method: str, idempotent: bool | None, fate: str
) -> None:
    """After the request was sent, its method or the caller decides whether it is repeated."""
    policy = Policy(
        retry=Retry(base=1e-9, attempt_timeout=0.5), budget=None, breaker=None, limit=None
    )
    cluster = Virtual(3, policy)
    if fate == "503":
        flaky(cluster, 1, status=503)
    elif fate == "silence":
        flaky(cluster, 1, after=inf)
    else:
        flaky(cluster, 1, fate=fate)
    may = method in IDEMPOTENT if idempotent is None else idempotent
    if may:
        response = cluster.call(method, idempotent=idempotent)
        assert response.status_code == 200
        assert len(response.attempts) == 2
    elif fate == "503":
        assert cluster.call(method, idempotent=idempotent).status_code == 503
        assert asked(cluster) == 1
    else:
        error = cluster.fail(method, idempotent=idempotent)
        assert isinstance(error, OSError)
        assert f"{method} may have been carried out, and is not repeated" in str(error)
        assert asked(cluster) == 1
    assert cluster.idle()


@pytest.mark.parametrize("method", METHODS)
def test_what_was_never_sent_is_always_repeated(method: str) -> None:
    """A refused connection has carried nothing out."""
    cluster = Virtual()
    cluster.hosts[0].accepts = cluster.hosts[1].accepts = False
    for _ in range(10):
        assert cluster.call(method, content=b"x", idempotent=False).status_code == 200
    assert asked(cluster) == 10


def test_a_connect_limit_is_a_reason_to_go_elsewhere() -> None:
    """Who does not take connections in time has carried nothing out either."""
    cluster = Virtual(2, EAGER, seed=3)
    cluster.hosts[0].connect_after = inf
    for _ in range(10):
        response = cluster.call("POST", timeout=Timeout(5, connect=1))
        assert tried(response)[-1] == cluster.names[1]
    errors_seen = {
        type(attempt.error)
        for _ in range(20)
        for attempt in attempts(cluster.call("POST", timeout=Timeout(5, connect=1)))
    }
    assert errors_seen == {type(None), errors.ConnectTimeout}


def test_an_attempt_that_never_connected_is_repeated() -> None:
    """An attempt's time limit that ends before anything was sent says nothing about the method."""
    policy = Policy(retry=Retry(base=1e-9, attempt_timeout=0.5), budget=None, breaker=None)
    cluster = Virtual(2, policy)
    cluster.hosts[0].connect_after = inf
    for _ in range(10):
        assert cluster.call("POST").status_code == 200


def test_an_attempt_that_only_queued_is_repeated() -> None:
    """An attempt's time limit that ends in the queue for a slot sent nothing either."""
    policy = Policy(
        retry=Retry(base=1e-9, attempt_timeout=0.5), budget=None, breaker=None, limit=Limit(1)
    )
    cluster = Virtual(2, policy, balancer="round-robin")
    first = cluster.core.endpoints.all[0]
    assert first.try_acquire()
    for _ in range(4):
        assert cluster.call("POST").status_code == 200
    assert first.waiting == 0


@pytest.mark.parametrize("method", METHODS)
def test_too_many_requests_was_not_carried_out(method: str) -> None:
    """A 429 says that nothing was done, so every method may go elsewhere."""
    cluster = Virtual()
    flaky(cluster, 1, status=429)
    assert cluster.call(method).status_code == 200


def test_a_body_that_ran_out_is_not_sent_again() -> None:
    """An iterator can be sent once: before it was begun all is well, afterwards the call ends."""
    cluster = Virtual()
    cluster.hosts[0].accepts = cluster.hosts[1].accepts = False
    for _ in range(5):
        response = cluster.call("PUT", content=iter([b"a", b"b"]))
        assert response.status_code == 200
    assert cluster.hosts[2].asked[-1].body == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
    cluster = Virtual()
    cluster.all_reply(fate="reset")
    error = cluster.fail("PUT", content=iter([b"a"]))
    assert "the body cannot be sent again" in str(error)
    cluster.all_reply(status=503)
    assert len(cluster.call("PUT", content=iter([b"a"])).attempts) == 1
    assert len(cluster.call("PUT", content=[b"a"]).attempts) == 3


def test_another_host_is_tried_before_the_same() -> None:
    """Each attempt goes to a host that this call has not tried, as long as there is one."""
    for seed in range(30):
        for balancer in ("p2c", "peak-ewma", "round-robin"):
            policy = Policy(retry=Retry(attempts=7, base=1e-9), budget=None, breaker=None)
            cluster = Virtual(4, policy, seed=seed, balancer=balancer)
            cluster.all_reply(status=503)
            names = tried(cluster.call())
            assert len(set(names[:4])) == 4
            assert len(names) == 7


def test_one_host_is_tried_again() -> None:
    """Where there is only one, it gets the retries too."""
    cluster = Virtual(1)
    flaky(cluster, 2, fate="reset")
    assert cluster.call().status_code == 200
    assert asked(cluster) == 3


def test_retries_wait_longer_and_longer() -> None:
    """Between attempts there is a pause, random up to a bound that doubles."""
    retry = Retry(attempts=5, base=0.1, factor=2, cap=0.35)
    pauses: list[float] = []
    for seed in range(20):
        cluster = Virtual(1, Policy(retry=retry, budget=None, breaker=None), seed=seed)
        cluster.all_reply(status=503)
        starts = [attempt.started for attempt in attempts(cluster.call())]
        pauses = [later - sooner for sooner, later in pairwise(starts)]
        for pause, bound in zip(pauses, (0.1, 0.2, 0.35, 0.35), strict=True):
            assert 0 <= pause <= bound + 1e-9
    assert len(set(pauses)) == 4


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_says_when_to_come_back(status: int) -> None:
    """Retry-After in seconds is waited for."""
    cluster = Virtual()
    flaky(cluster, 1, status=status, headers={"Retry-After": "2"})
    response = cluster.call()
    assert response.status_code == 200
    assert attempts(response)[1].started == pytest.approx(2)


def test_a_host_says_at_which_time_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After as a date is waited for."""
    monkeypatch.setattr(time, "time", lambda: 784111777.0)  # the date of RFC 9110's examples
    cluster = Virtual()
    date = formatdate(784111780, usegmt=True)
    assert date == "Sun, 06 Nov 1994 08:49:40 GMT"
    flaky(cluster, 1, status=503, headers={"Retry-After": date})
    assert attempts(cluster.call())[1].started == pytest.approx(3)


@pytest.mark.parametrize("value", ["5", "3600", "99999999999999999999", "date"])
def test_nobody_waits_past_the_deadline(value: str) -> None:
    """A host that wants to be asked later than the call may last is not asked again."""
    cluster = Virtual()
    if value == "date":
        value = formatdate(time.time() + 3600, usegmt=True)
    cluster.all_reply(status=503, headers={"Retry-After": value})
    response = cluster.call(timeout=5)
    assert response.status_code == 503
    assert len(response.attempts) == 1
    assert cluster.elapsed == 0


def answered(value: str) -> Response:
    """Return a response with a Retry-After."""
    return cast("Response", SimpleNamespace(headers=Headers({"Retry-After": value})))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",  # RFC 850's form
        "Sun Nov  6 08:49:37 1994",  # asctime's form
        "Sun, 06 Nov 1994 08:49:37 -0000",
    ],
)
def test_every_form_of_a_date_is_utc(date: str, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three forms of RFC 9110 5.6.7 mean the same wherever the client is."""
    monkeypatch.setattr(time, "time", lambda: 784111770.0)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retry_after(answered(date)) == 7
    finally:
        monkeypatch.undo()
        time.tzset()


@given(value=st.text(st.characters(max_codepoint=255)) | st.from_regex(r"\A[-+\d:., \w]*\Z"))
def test_no_retry_after_does_harm(value: str) -> None:
    """Whatever stands there, the wait is a number of seconds, not below 0."""
    assert 0 <= retry_after(answered(value)) < inf


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "²", "5, 10", "0", "Sun, 99 Nov 1"])
def test_what_is_no_retry_after_is_ignored(value: str) -> None:
    """Nonsense, the past, and nothing mean no wait."""
    assert retry_after(answered(value)) == 0


def test_an_attempt_has_a_limit_of_its_own() -> None:
    """An attempt that takes too long is given up for another one within the same call."""
    policy = Policy(retry=Retry(attempt_timeout=0.5, base=1e-9), budget=None, breaker=None)
    cluster = Virtual(3, policy)
    flaky(cluster, 2, after=30)
    response = cluster.call()
    assert response.status_code == 200
    assert cluster.elapsed == pytest.approx(1.0)
    for attempt in attempts(response)[:2]:
        assert isinstance(attempt.error, errors.AttemptTimeout)
        assert attempt.elapsed == 0.5
        assert "the attempt's time limit" in str(attempt)
    cluster.all_reply(after=30)
    error = cluster.fail()
    assert isinstance(error, errors.AttemptTimeout)
    assert isinstance(error, TimeoutError)
    assert "no attempt is left" in str(error)


def test_an_attempt_never_outlasts_the_call() -> None:
    """A long limit for attempts leaves the call's own as it is."""
    policy = Policy(timeout=1, retry=Retry(attempt_timeout=9), budget=None, breaker=None)
    cluster = Virtual(3, policy)
    cluster.all_reply(after=30)
    error = cluster.fail()
    assert isinstance(error, errors.DeadlineExceeded)
    assert len(error.attempts) == 1
    assert cluster.elapsed == 1


def test_errors_of_the_arguments_are_not_repeated() -> None:
    """What no host can make better ends the call, and is no host's fault."""
    cluster = Virtual()
    cluster.all_reply(body=b"x" * 100)
    error = cluster.fail(max_body=10)
    assert isinstance(error, errors.TooLarge)
    assert asked(cluster) == 1
    assert cluster.idle()


def test_a_call_that_waited_is_not_sent_into_an_open_circuit() -> None:
    """A circuit that opens while calls queue for their slots stops them as well."""
    policy = Policy(retry=None, breaker=Breaker(failures=1), limit=Limit(1), timeout=10.0)
    cluster = Virtual(1, policy)
    cluster.all_reply(status=500, after=1.0)
    tasks = [cluster.world.start(cluster.program()) for _ in range(3)]
    cluster.world.advance(5.0)
    assert tasks[0].result().status_code == 500
    for task in tasks[1:]:
        with pytest.raises(errors.CircuitOpenError, match="opened while the call was waiting"):
            task.result()
    assert len(cluster.hosts[0].asked) == 1
    assert cluster.idle()
