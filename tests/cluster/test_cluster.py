"""A cluster's arguments, what its errors tell, and what a call remembers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import AsyncCluster, Breaker, Cluster, HoldfastError, Policy, Retry, errors
from holdfast.cluster import ClusterCore
from holdfast.cluster.endpoints import Endpoint
from holdfast.drivers.simulated import Connection
from holdfast.http.limits import Timeout
from tests.cluster.calls import EAGER, Asked, Reply, Virtual, attempts, request, tried

SECRET = "hunter2"


def test_a_cluster_needs_a_host() -> None:
    """No hosts at all are a ValueError of ours."""
    empty: list[Any] = [[], (), iter(())]
    for hosts in empty:
        with pytest.raises(errors.NoEndpointError, match="at least one host"):
            Cluster(hosts)
    assert issubclass(errors.NoEndpointError, (HoldfastError, ValueError))


def test_one_host_needs_no_list() -> None:
    """A string is one host."""
    assert [endpoint.name for endpoint in Cluster("10.0.0.1:80").endpoints] == ["10.0.0.1:80"]


@pytest.mark.parametrize(
    "hosts",
    [
        ["h:1", "h:2", "h:1"],
        ["h:80", "http://h"],
        ["H:1", "h:1"],
        ["http://h:1", "http://h:1/"],
        ["http://me:x@h:1", "http://you:y@h:1"],
    ],
)
def test_a_host_is_named_once(hosts: list[str]) -> None:
    """Two names of the same place are refused: it would get twice its share."""
    with pytest.raises(errors.NoEndpointError, match="is named twice"):
        Cluster(hosts)


def test_places_on_one_host_differ() -> None:
    """Another port, scheme or path is another endpoint."""
    hosts = ["h:1", "h:2", "https://h:1", "http://h:1/a", "http://h:1/b", "unix:/h"]
    assert [endpoint.name for endpoint in Cluster(hosts).endpoints] == hosts


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        "h:x",
        "h:0",
        "h:99999",
        "ftp://h",
        "h\r\n",
        "[::1",
        "http://",
        "h?q",
        5,
        None,
    ],
)
def test_what_is_no_host_is_refused(host: Any) -> None:
    """A malformed host is an InvalidRequest, before anything is called."""
    with pytest.raises(errors.InvalidRequest):
        Cluster(["h:1", host])


@pytest.mark.parametrize(
    "hosts",
    [
        [f"http://me:{SECRET}@h:1"] * 2,
        [f"http://me:{SECRET}@h:0"],
        [f"http://me:{SECRET}@h h"],
        [f"http://me:{SECRET}@h:1?q=1"],
        [f"http://me:a#{SECRET}@h:1"],
        [f"ftp://me:{SECRET}@h"],
        [f"me:{SECRET}@h:0"],
        [f"me:{SECRET}@h h"],
        [f"http://me:{SECRET}"],
        [f"http://me:{SECRET}/@h:1"],
        [f"http://me:a/{SECRET}@h:1"],
        [f"http://me:a@{SECRET}@h:0"],
    ],
)
def test_messages_about_hosts_hide_credentials(hosts: list[str]) -> None:
    """No error about a host shows its password, nor does the traceback."""
    with pytest.raises(ValueError, match=r".") as caught:
        Cluster(hosts)
    shown = str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        shown += str(error)
        error = None if error.__suppress_context__ else error.__context__
    assert SECRET not in shown


def test_credentials_show_nowhere() -> None:
    """Names, attempts, errors and reprs of a host with a password are without it."""
    cluster = Virtual(1)
    core = ClusterCore(
        [f"http://me:{SECRET}@10.0.0.1:80"],
        policy=EAGER,
        clock=cluster.world.clock,
        random=cluster.world.random,
    )
    cluster.core = core
    assert core.endpoints.all[0].name == "http://10.0.0.1:80"
    response = cluster.call()
    assert "authorization: basic" in cluster.hosts[0].asked[0].head.lower()
    cluster.all_reply(fate="reset")
    error = cluster.fail("GET", "/x?key=hunter2")
    endpoint = core.endpoints.all[0]
    shown = [response, *response.attempts, response.url, error, *error.attempts, error.attempts]
    shown += [core, core.endpoints, endpoint, endpoint.pool, endpoint.pool.origin]
    for thing in shown:
        assert SECRET not in f"{thing} {thing!r}"


def test_unknown_keywords_are_refused() -> None:
    """A misspelt option is a TypeError that names it, of the cluster and of a call."""
    with pytest.raises(TypeError, match="pollicy"):
        Cluster(["h:1"], pollicy=Policy())  # type: ignore[call-arg, unused-ignore]
    with Cluster(["h:1"]) as cluster, pytest.raises(TypeError, match=r"unknown option.*: jsn, x"):
        cluster.post("/", jsn={}, x=1)  # type: ignore[call-arg]
    call: Any = AsyncCluster(["h:1"]).get
    with pytest.raises(TypeError, match="unknown option of a call: verify"):
        call("/", verify=False)


@pytest.mark.parametrize("options", [{"json": {}, "content": b""}, {"data": {}, "json": {}}])
def test_a_call_has_one_body(options: Any) -> None:
    """Two bodies are an InvalidRequest, and nothing is sent."""
    with Cluster(["h:1"]) as cluster, pytest.raises(errors.InvalidRequest, match="one body"):
        cluster.post("/", **options)


def test_an_unknown_balancer_is_refused() -> None:
    """A wrong name is a ValueError that tells the right ones."""
    with pytest.raises(ValueError, match="there are p2c, peak-ewma, least-loaded, round-robin"):
        Cluster(["h:1"], balancer="fastest")


def test_an_attempt_tells_what_happened() -> None:
    """One line: number, host, outcome and time, without the host's name twice."""
    cluster = Virtual(3, balancer="round-robin")
    cluster.hosts[0].accepts = False
    cluster.hosts[1].behaviour = lambda asked: Reply(status=503, after=0.25)
    response = cluster.call()
    assert [str(attempt) for attempt in attempts(response)] == [
        "1. 10.0.0.1:80: connection refused (0.0 ms)",
        "2. 10.0.0.2:80: 503 (250.0 ms)",
        "3. 10.0.0.3:80: 200 (0.0 ms)",
    ]
    assert repr(response.attempts[2]) == "<Attempt 3. 10.0.0.3:80: 200 (0.0 ms)>"
    first, second, third = attempts(response)
    assert (first.status, second.status, third.status) == (None, 503, 200)
    assert isinstance(first.error, errors.ConnectError)
    assert second.error is third.error is None
    assert (first.started, second.elapsed) == (0, 0.25)
    assert third.started == pytest.approx(0.25)
    assert response.elapsed.total_seconds() == pytest.approx(0.25)


def test_an_error_tells_what_was_tried() -> None:
    """Its text names method, path, last failure, why it ended, and every attempt."""
    cluster = Virtual(2, EAGER, balancer="round-robin")
    for host in cluster.hosts:
        host.accepts = False
    error = cluster.fail("PUT", "/a/b?c=d")
    assert str(error) == (
        "PUT /a/b: 10.0.0.1:80: connection refused (no attempt is left) "
        "[3 attempts: 1. 10.0.0.1:80: connection refused (0.0 ms); "
        "2. 10.0.0.2:80: connection refused (0.0 ms); "
        "3. 10.0.0.1:80: connection refused (0.0 ms)]"
    )
    assert isinstance(error, errors.ConnectError)
    assert isinstance(error, ConnectionError)
    assert isinstance(error.__cause__, errors.ConnectError)
    # The errors of the attempts stay as they were.
    assert str(error.attempts[0].error) == "10.0.0.1:80: connection refused"
    assert tried(error) == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80"]


def test_one_attempt_needs_no_reason() -> None:
    """Without retries the error does not excuse itself."""
    cluster = Virtual(1, Policy(retry=None))
    cluster.all_reply(fate="close")
    assert str(cluster.fail()) == (
        "GET /: 10.0.0.1:80: it closed the connection without an answer "
        "[1 attempt: 1. 10.0.0.1:80: it closed the connection without an answer (0.0 ms)]"
    )


@given(status=st.integers(100, 599).filter(lambda code: code >= 200))
def test_an_error_status_has_the_attempts_too(status: int) -> None:
    """What raise_for_status raises knows the attempts of its response."""
    cluster = Virtual(2)
    cluster.all_reply(status=status)
    response = cluster.call()
    if status < 400:
        assert response.raise_for_status() is response
        return
    with pytest.raises(errors.StatusError, match=f"^{status} ") as caught:
        response.raise_for_status()
    assert caught.value.attempts == response.attempts


@pytest.mark.parametrize("connect", [2.0, None])
def test_the_systems_own_time_limit_is_an_error_of_ours(connect: float | None) -> None:
    """ETIMEDOUT of the system, before any limit of the caller's, is a failure like others."""
    cluster = Virtual(2, balancer="round-robin")

    def time_out(connection: Connection) -> None:
        raise TimeoutError(110, "Connection timed out")

    for name in cluster.names:
        cluster.world.unlisten(name)
        cluster.world.listen(name, time_out).after = 1
    error = cluster.fail(timeout=Timeout(60, connect=connect))
    assert isinstance(error, OSError)
    assert len(error.attempts) == 3


@pytest.mark.parametrize("read", [2.0, None])
def test_the_systems_time_limit_of_a_connection_is_too(read: float | None) -> None:
    """ETIMEDOUT of a connection that broke is a failure like others."""
    cluster = Virtual(1, Policy(retry=None))

    cluster.all_reply(after=1, fate=TimeoutError(110, "Connection timed out"))
    error = cluster.fail(timeout=Timeout(60, read=read))
    assert isinstance(error, OSError)
    assert cluster.elapsed == 1


def first_two(core: ClusterCore) -> list[Endpoint]:
    """Return the second and the first endpoint."""
    return [core.endpoints.all[1], core.endpoints.all[0]]


def test_a_preference_comes_before_the_balancer() -> None:
    """Preferred endpoints are tried in their order, those that are out last, no others."""
    cluster = Virtual(3, Policy(breaker=Breaker(failures=1), retry=Retry(base=1e-9)))
    core = cluster.core

    def call() -> Any:
        return cluster.world.run(core.call(request(core), prefer=lambda: first_two(core)))

    for _ in range(5):
        assert tried(call()) == ["10.0.0.2:80"]
    cluster.hosts[1].behaviour = lambda asked: Reply(status=503)
    assert tried(call()) == ["10.0.0.2:80", "10.0.0.1:80"]
    assert tried(call()) == ["10.0.0.1:80"]  # the second one's circuit is open now
    assert cluster.hosts[2].asked == []


def test_when_no_preferred_host_may_be_called_it_is_their_circuits() -> None:
    """Open circuits are the reason that is given, not a lack of hosts."""
    cluster = Virtual(3, Policy(breaker=Breaker(failures=1, open_for=10), retry=Retry(base=1e-9)))
    cluster.all_reply(fate="reset")
    core = cluster.core
    for _ in range(3):
        with pytest.raises(HoldfastError):
            cluster.world.run(core.call(request(core), prefer=lambda: first_two(core)))
    with pytest.raises(errors.CircuitOpenError):
        cluster.world.run(core.call(request(core), prefer=lambda: first_two(core)))


def test_calls_do_not_share_what_they_remember() -> None:
    """Each response has its own attempts, also when calls run at the same time."""
    cluster = Virtual(3, EAGER)
    count = [0]

    def behave(asked: Asked) -> Reply:
        count[0] += 1
        return Reply(status=503 if count[0] % 2 else 200, after=0.1)

    for host in cluster.hosts:
        host.behaviour = behave
    tasks = [cluster.world.start(cluster.program()) for _ in range(6)]
    cluster.world.advance(5)
    lists = [attempts(task.result()) for task in tasks]
    assert len({id(attempt) for made in lists for attempt in made}) == sum(map(len, lists))
    for made in lists:
        assert [attempt.number for attempt in made] == list(range(1, len(made) + 1))
        assert {attempt.status for attempt in made[:-1]} <= {503}
