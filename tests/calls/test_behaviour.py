"""What `fault_tolerant` promises, in every mode, against real servers."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.calls import Call, LeastLoaded, Retryable, RoundRobin
from holdfast.errors import CircuitOpenError, HoldfastError, ReadTimeout, StatusError
from tests.calls.conftest import Recorder
from tests.calls.modes import Script
from tests.faults.proxy import Fault
from tests.servers import Close, EchoServer, Hold, Receive, Reset, json_response, response
from tests.servers import Script as Steps
from tests.servers.fixtures import StartFaultProxy, StartScripted

OK: Steps = [Receive(), response(200, b"good", [("Connection", "close")])]


def get(call: Call, path: str = "/x", **options: Any) -> Script:
    """Send a GET."""
    return (yield from read((yield call.http.request("GET", path, **options))))


def read(answer: Any) -> Script:
    """Read the body of a response of Twisted's, as its users have to."""
    if hasattr(answer, "deliverBody"):
        yield answer.content()
    return answer


def post(call: Call, path: str = "/x", **options: Any) -> Script:
    """Send a POST."""
    return (yield from read((yield call.http.request("POST", path, data=b"x", **options))))


def status(answer: Any) -> int:
    """Return the status of a response of ours, or of Twisted's."""
    return int(getattr(answer, "status_code", None) or answer.code)


def unavailable(code: int = 503) -> Steps:
    """Return a script that answers with an error."""
    return [Receive(), response(code, b"", [("Connection", "close")])]


@pytest.mark.parametrize("code", [502, 503, 504])
def test_answers_that_are_retried(mode: Any, scripted: StartScripted, code: int) -> None:
    """A gateway's errors are worth another attempt."""
    server = scripted(unavailable(code), unavailable(code), OK)

    def script() -> Script:
        fetch = mode.make(get, load_balancer=lambda: ("http", server.address))
        assert status((yield fetch())) == 200

    mode.run(script)
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", [400, 404, 409, 429, 500, 501])
def test_answers_that_are_not_retried(mode: Any, echo: EchoServer, code: int) -> None:
    """Every other answer is the result at once, as it is."""

    def script() -> Script:
        fetch = mode.make(get, load_balancer=lambda: ("http", echo.address))
        assert status((yield fetch(f"/status/{code}"))) == code

    mode.run(script)
    assert echo.request_count == 1


def test_the_last_answer_is_the_result(mode: Any, echo: EchoServer) -> None:
    """When all attempts were answered with 503, so is the call."""

    def script() -> Script:
        fetch = mode.make(get, load_balancer=lambda: ("http", echo.address), retry_attempts=2)
        assert status((yield fetch("/status/503"))) == 503

    mode.run(script)
    assert echo.request_count == 3


def test_raised_statuses(mode: Any, echo: EchoServer) -> None:
    """What raise_for_status raises is retried for the same statuses, and raised as it is."""
    if mode.name == "twisted":
        pytest.skip("treq's responses raise nothing")

    def strict(call: Call, path: str) -> Script:
        return (yield call.http.request("GET", path)).raise_for_status()

    def script() -> Script:
        fetch = mode.make(strict, load_balancer=lambda: ("http", echo.address), retry_attempts=1)
        with pytest.raises(StatusError):
            yield fetch("/status/404")
        assert echo.request_count == 1
        with pytest.raises(StatusError) as caught:
            yield fetch("/status/503")
        assert echo.request_count == 3
        assert [attempt.number for attempt in caught.value.attempts] == [1, 2]

    mode.run(script)


def test_refused_connections_are_retried_elsewhere(
    mode: Any, echo: EchoServer, refusing: tuple[str, int]
) -> None:
    """A retry goes to another netloc than the one that failed, also after a POST."""
    dead = "{}:{}".format(*refusing)

    def script() -> Script:
        balancer = RoundRobin([dead, echo.address])
        fetch = mode.make(post, load_balancer=balancer, retry_attempts=1)
        assert status((yield fetch())) == 200
        assert status((yield fetch())) == 200

    mode.run(script)
    assert echo.request_count == 2


def test_a_function_is_asked_again_for_another_netloc(
    mode: Any, echo: EchoServer, refusing: tuple[str, int]
) -> None:
    """A load balancer that keeps naming the netloc that failed is asked again."""
    dead = "{}:{}".format(*refusing)
    places = [("http", dead)] * 5 + [("http", echo.address)]

    def script() -> Script:
        fetch = mode.make(get, load_balancer=lambda: places.pop(0), retry_attempts=1)
        assert status((yield fetch())) == 200

    mode.run(script)
    assert not places


def test_connections_that_break_are_retried(mode: Any, scripted: StartScripted) -> None:
    """A GET is repeated when the connection breaks before the answer."""
    server = scripted([Receive(), Reset()], [Receive(), Close()], OK)

    def script() -> Script:
        fetch = mode.make(get, load_balancer=lambda: ("http", server.address))
        assert status((yield fetch())) == 200

    mode.run(script)


def test_what_may_have_been_carried_out_is_not_repeated(mode: Any, scripted: StartScripted) -> None:
    """A POST whose connection breaks is not sent again, nor one that was answered with 503."""
    server = scripted([Receive(), Reset()], unavailable(), OK)

    def script() -> Script:
        send = mode.make(post, load_balancer=lambda: ("http", server.address))
        with pytest.raises(Exception) as caught:  # noqa: PT011  each mode has its own
            yield send()
        assert len(caught.value.attempts) == 1  # type: ignore[attr-defined]
        assert status((yield send())) == 503

    mode.run(script)
    assert len(server.requests) == 2


def test_what_the_caller_allows_is_repeated(mode: Any, scripted: StartScripted) -> None:
    """A POST that its caller calls idempotent is sent again."""
    server = scripted([Receive(), Reset()], unavailable(), OK)

    def script() -> Script:
        send = mode.make(post, load_balancer=lambda: ("http", server.address))
        assert status((yield send("/x", idempotent=True))) == 200

    mode.run(script)


def test_a_post_before_what_failed_is_not_repeated(mode: Any, echo: EchoServer) -> None:
    """Nothing is repeated after a POST that went well, whatever failed later."""

    def both(call: Call) -> Script:
        yield from post(call)
        return (yield from get(call, "/status/503"))

    def script() -> Script:
        work = mode.make(both, load_balancer=lambda: ("http", echo.address))
        assert status((yield work())) == 503

    mode.run(script)
    assert echo.request_count == 2


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), ValueError("x")])
def test_programming_errors_are_not_retried(mode: Any, error: Exception) -> None:
    """What a second try cannot mend is raised at once, as it is."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise error

    def script() -> Script:
        work = mode.make(fail)
        with pytest.raises(type(error)) as caught:
            yield work()
        assert caught.value is error

    mode.run(script)
    assert len(calls) == 1


class Busy(Retryable):
    pass


@pytest.mark.parametrize("how", ["retryable", "retry_on", "connection"])
def test_errors_that_are_retried(mode: Any, how: str) -> None:
    """Retryable, what the caller names, and failures to connect are worth another attempt."""
    error = {"retryable": Busy("x"), "retry_on": KeyError("x"), "connection": ConnectionError("x")}
    failures = [error[how]] * 3

    def fail() -> str:
        if failures:
            raise failures.pop()
        return "good"

    def script() -> Script:
        work = mode.make(fail, retry_on=KeyError)
        assert (yield work()) == "good"

    mode.run(script)


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_retry_attempts(mode: Any, attempts: int) -> None:
    """So many retries are made after the first attempt; the error tells of all."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ConnectionRefusedError("no")

    def script() -> Script:
        work = mode.make(fail, retry_attempts=attempts)
        with pytest.raises(ConnectionRefusedError) as caught:
            yield work()
        assert len(caught.value.attempts) == attempts + 1  # type: ignore[attr-defined]
        if attempts:
            assert f"{attempts + 1} attempts" in caught.value.__notes__[0]

    mode.run(script)
    assert len(calls) == attempts + 1


def test_timeouts_are_not_retried(mode: Any, echo: EchoServer) -> None:
    """A request that takes too long is given up, and with it the call."""

    def script() -> Script:
        fetch = mode.make(get, load_balancer=lambda: ("http", echo.address))
        with pytest.raises(ReadTimeout) as caught:
            yield fetch("/slow", timeout=0.05)
        assert isinstance(caught.value, TimeoutError)

    mode.run(script)
    assert echo.request_count == 1


def test_retry_on_timeout(mode: Any, scripted: StartScripted) -> None:
    """Timeouts are retried when that is asked for."""
    server = scripted([Receive(), Hold()], OK)

    def script() -> Script:
        fetch = mode.make(
            get, load_balancer=lambda: ("http", server.address), retry_on_timeout=True
        )
        assert status((yield fetch("/x", timeout=0.05))) == 200

    mode.run(script)


def test_total_timeout(mode: Any, echo: EchoServer, recorder: Recorder) -> None:
    """The total time covers all: a call ends with a TimeoutError, and counts as timeout."""

    def script() -> Script:
        fetch = mode.make(
            get,
            dependency_id="slow",
            load_balancer=lambda: ("http", echo.address),
            timeout=0.1,
            retry_on_timeout=True,
            statsd=recorder,
        )
        with pytest.raises(TimeoutError) as caught:
            yield fetch("/slow")
        if mode.name == "twisted":
            from twisted.internet.defer import CancelledError

            assert isinstance(caught.value, CancelledError)
        assert fetch.core.endpoints.all[0].in_flight == 0

    mode.run(script)
    assert recorder.counts == {"slow.timeout": 1}


def test_connect_timeout(mode: Any, echo: EchoServer, unanswering: tuple[str, int]) -> None:
    """A connection that is not made in time is a failure to connect: the next netloc is tried."""
    silent = "{}:{}".format(*unanswering)

    def script() -> Script:
        fetch = mode.make(
            post, load_balancer=RoundRobin([silent, echo.address]), connect_timeout=0.1
        )
        assert status((yield fetch())) == 200

    mode.run(script)


def test_broken_answers_and_the_fault_proxy(
    mode: Any, echo: EchoServer, fault_proxy: StartFaultProxy
) -> None:
    """Connections that are dropped and answers that are cut are tried again."""
    proxy = fault_proxy(echo, [Fault(drop=True), Fault(cut_after=0)])

    def script() -> Script:
        fetch = mode.make(get, load_balancer=lambda: ("http", proxy.address))
        assert status((yield fetch())) == 200

    mode.run(script)


def test_round_robin(mode: Any, servers: list[EchoServer]) -> None:
    """Each call goes to the next server."""

    def script() -> Script:
        fetch = mode.make(get, load_balancer=RoundRobin([one.address for one in servers]))
        for _ in range(6):
            yield fetch()

    mode.run(script)
    assert [one.request_count for one in servers] == [2, 2, 2]


def test_least_loaded(mode: Any, servers: list[EchoServer]) -> None:
    """Calls go where the fewest are in progress."""

    def script() -> Script:
        fetch = mode.make(get, load_balancer=LeastLoaded([one.address for one in servers]))
        started = []
        for number in range(3):
            started.append(mode.start(fetch, "/slow"))
            yield from mode.until(
                lambda number=number: sum(one.waiting for one in servers) == number + 1
            )
        assert [one.waiting for one in servers] == [1, 1, 1]
        for one in servers:
            one.gate.set()
        for call in started:
            assert status((yield call)) == 200

    mode.run(script)


def test_a_cluster_balances(mode: Any, servers: list[EchoServer]) -> None:
    """Any cluster is a load balancer, with its hosts, its balancer and its knowledge."""
    from holdfast import Cluster

    with Cluster([one.address for one in servers], balancer="round-robin") as cluster:

        def script() -> Script:
            fetch = mode.make(get, load_balancer=cluster)
            for _ in range(6):
                yield fetch()
            assert all(endpoint.in_flight == 0 for endpoint in cluster.endpoints)

        mode.run(script)
    assert [one.request_count for one in servers] == [2, 2, 2]


def test_circuit_opens_and_is_reset(mode: Any, echo: EchoServer, recorder: Recorder) -> None:
    """After failures the netloc is left alone, at once; after the reset timeout one probe goes."""
    now = [0.0]

    def script() -> Script:
        fetch = mode.make(
            get,
            dependency_id="c",
            load_balancer=lambda: ("http", echo.address),
            retry_attempts=0,
            circuit_reset_timeout=30,
            statsd=recorder,
        )
        clock = fetch.core.clock
        fetch.core.clock = lambda: clock() + now[0]
        for _ in range(5):
            yield fetch("/status/500")
        for _ in range(3):
            with pytest.raises(CircuitOpenError):
                yield fetch()
        assert echo.request_count == 5
        now[0] = 31
        assert status((yield fetch("/status/500"))) == 500  # the probe, which fails
        with pytest.raises(CircuitOpenError):
            yield fetch()
        now[0] = 62  # the same time again
        assert status((yield fetch())) == 200
        assert status((yield fetch())) == 200

    mode.run(script)
    assert recorder.counts == {
        "c.failure": 10,
        "c.rejected": 4,
        "c.success": 2,
        "c.circuit.open": 2,
        "c.circuit.close": 1,
    }


def test_an_open_circuit_is_avoided(mode: Any, servers: list[EchoServer]) -> None:
    """A netloc whose circuit is open gets no call while there is another one."""
    bad, good, _ = servers

    def script() -> Script:
        places = RoundRobin([bad.address, good.address])
        fetch = mode.make(get, load_balancer=lambda: places(), retry_attempts=0)
        yield fetch()
        for endpoint in fetch.core.endpoints.all:
            if endpoint.name == bad.address:
                endpoint.breaker.force("open", 0.0)
        for _ in range(6):
            yield fetch()

    mode.run(script)
    assert good.request_count >= 6
    assert bad.request_count <= 1


def test_expected_in(mode: Any) -> None:
    """Calls that take longer than expected, too often, open the circuit though they succeed."""
    now = [0.0]

    def slow(seconds: float) -> float:
        now[0] += seconds
        return seconds

    def script() -> Script:
        work = mode.make(slow, expected_in=1, load_balancer=lambda: ("tcp", "x:1"))
        clock = work.core.clock
        work.core.clock = lambda: clock() + now[0]
        for _ in range(10):
            assert (yield work(0.5)) == 0.5
        for _ in range(10):
            assert (yield work(1.5)) == 1.5
        with pytest.raises(CircuitOpenError):
            yield work(0.5)
        now[0] += 10
        assert (yield work(0.5)) == 0.5

    mode.run(script)


def test_limit_lets_calls_wait_in_order(mode: Any, echo: EchoServer) -> None:
    """Calls above the limit wait, and go on in the order of their arrival."""

    def script() -> Script:
        fetch = mode.make(get, load_balancer=lambda: ("http", echo.address), max_open_per_netloc=1)
        started = [mode.start(fetch, "/slow")]
        yield from mode.until(lambda: echo.waiting == 1)
        endpoint = fetch.core.endpoints.all[0]
        for number in range(3):
            started.append(mode.start(fetch, f"/{number}"))
            yield from mode.until(lambda number=number: endpoint.waiting == number + 1)
        assert echo.request_count == 1
        echo.gate.set()
        for call in started:  # noqa: UP028  it is sent what comes of them, as no list is
            yield call
        assert endpoint.in_flight == endpoint.waiting == 0

    seen: list[str] = []
    note = echo.note
    echo.note = lambda request: (seen.append(request.path), note(request))[1]  # type: ignore[method-assign, func-returns-value]
    mode.run(script)
    assert seen == ["/slow", "/0", "/1", "/2"]


def test_waiting_is_part_of_the_total_time(mode: Any, echo: EchoServer) -> None:
    """A call that gets no slot in time fails with a TimeoutError, and leaves the queue."""

    def script() -> Script:
        fetch = mode.make(
            get, load_balancer=lambda: ("http", echo.address), max_open_per_netloc=1, timeout=0.5
        )
        yield fetch()
        endpoint = fetch.core.endpoints.all[0]
        assert endpoint.try_acquire()
        with pytest.raises(TimeoutError):
            yield fetch("/never")
        assert endpoint.waiting == 0
        endpoint.release()
        assert endpoint.in_flight == 0
        yield fetch()

    mode.run(script)
    assert echo.request_count == 2


@pytest.mark.parametrize("kind", ["plain", "own"])
def test_fallback(mode: Any, kind: str, recorder: Recorder) -> None:
    """A fallback of any kind gets the same arguments, and the error when it asks for it."""
    error = ValueError("no")

    def fail(a: int, *, b: int) -> None:
        raise error

    def instead(a: int, *, b: int, error: Exception) -> Any:
        return a, b, error

    def script() -> Script:
        fallback = instead if kind == "plain" else mode.plain(instead)
        work = mode.make(fail, dependency_id="f", fallback=fallback, statsd=recorder)
        assert (yield work(1, b=2)) == (1, 2, error)

    mode.run(script)
    assert recorder.counts == {"f.failure": 1, "f.fallback": 1}
    assert [name for name, _ in recorder.timings] == ["f.duration"]


def test_fallback_for_bad_answers(mode: Any, echo: EchoServer) -> None:
    """A fallback stands in when the last answer is an error of the server's."""

    def script() -> Script:
        fetch = mode.make(
            get,
            load_balancer=lambda: ("http", echo.address),
            fallback=lambda path, error: str(error),
            retry_attempts=1,
        )
        assert "503" in (yield fetch("/status/503"))
        assert status((yield fetch("/status/404"))) == 404

    mode.run(script)


def test_a_fallback_that_fails(mode: Any) -> None:
    """What a fallback raises goes on, with the original as its cause."""
    original = ConnectionError("no")

    def fail() -> None:
        raise original

    def worse() -> None:
        raise KeyError("worse")

    def script() -> Script:
        work = mode.make(fail, fallback=worse, retry_attempts=0)
        with pytest.raises(KeyError) as caught:
            yield work()
        assert caught.value.__cause__ is original

    mode.run(script)


def test_statistics(mode: Any, recorder: Recorder) -> None:
    """Each call counts once, retries for themselves; durations are in milliseconds."""
    failures = [ConnectionError("x"), ConnectionError("x")]

    def flaky() -> str:
        if failures:
            raise failures.pop()
        return "good"

    def script() -> Script:
        work = mode.make(flaky, dependency_id="users.v1", statsd=recorder)
        assert (yield work()) == "good"
        assert (yield work()) == "good"

    mode.run(script)
    assert recorder.counts == {"users.v1.success": 2, "users.v1.retry": 2}
    assert [name for name, _ in recorder.timings] == ["users.v1.duration"] * 2
    assert all(0 <= milliseconds < 5000 for _, milliseconds in recorder.timings)


def test_arguments_and_results_pass_untouched(mode: Any) -> None:
    """What is given and what comes back are the same objects."""
    given, named, result = object(), object(), object()
    seen: list[Any] = []

    def work(first: Any, /, call: Call, *rest: Any, key: Any = None, **more: Any) -> Any:
        seen.append((first, rest, key, more))
        assert isinstance(call, Call)
        return result

    def script() -> Script:
        function = mode.make(work)
        assert (yield function(given, 2, 3, key=named, error=4)) is result

    mode.run(script)
    assert seen == [(given, (2, 3), named, {"error": 4})]


def test_each_attempt_has_a_call_of_its_own(mode: Any, servers: list[EchoServer]) -> None:
    """A call tells where its attempt goes, and how much time is left."""
    places: list[tuple[int, str, str]] = []

    def work(call: Call) -> None:
        places.append((call.attempt, call.protocol, call.netloc))
        assert call.dependency == "d"
        assert call.retry_attempts == 2
        raise ConnectionError("no")

    def script() -> Script:
        names = [one.address for one in servers]
        function = mode.make(
            work, dependency_id="d", load_balancer=RoundRobin(names), retry_attempts=2
        )
        with pytest.raises(ConnectionError):
            yield function()

    mode.run(script)
    assert places == [(n, "http", one.address) for n, one in enumerate(servers, 1)]


def test_cancelling_gives_everything_back(later: Any, echo: EchoServer) -> None:
    """A call that is cancelled ends its attempt; slot and connection are free at once."""

    def script() -> Script:
        fetch = later.make(get, load_balancer=lambda: ("http", echo.address), max_open_per_netloc=1)
        call = later.start(fetch, "/slow")
        yield from later.until(lambda: echo.waiting == 1)
        endpoint = fetch.core.endpoints.all[0]
        waiting = later.start(fetch, "/next")
        yield from later.until(lambda: endpoint.waiting == 1)
        call.cancel()
        with pytest.raises(BaseException) as caught:  # noqa: PT011  each mode has its own
            yield call
        assert type(caught.value).__name__ == "CancelledError"
        assert status((yield waiting)) == 200
        assert endpoint.in_flight == endpoint.waiting == 0
        yield from later.until(lambda: echo.waiting == 0)

    later.run(script)


def test_http_options(mode: Any, echo: EchoServer) -> None:
    """A request has headers, a query, a body and credentials, and follows redirects."""

    def work(call: Call) -> Script:
        answer = yield call.http.request(
            "PUT",
            "/a?x=1",
            headers={"X-Mine": "yes"},
            params={"y": ["2", "3"]},
            data="text",
            auth=("user", "secret"),
        )
        first = answer.json()
        first = (yield first) if mode.name == "twisted" else first
        moved = yield call.http.request("GET", f"{echo.url}/redirect/302?to=/there")
        second = moved.json()
        second = (yield second) if mode.name == "twisted" else second
        stays = yield from get(call, "/redirect/302", allow_redirects=False)
        single = yield call.http.request("GET", "/", persistent=False)
        third = single.json()
        third = (yield third) if mode.name == "twisted" else third
        return first, second, status(stays), third

    def script() -> Script:
        function = mode.make(work, load_balancer=lambda: ("http", echo.address))
        first, second, stays, third = yield function()
        assert first["method"] == "PUT"
        assert first["query"] == {"x": ["1"], "y": ["2", "3"]}
        assert first["headers"]["x-mine"] == "yes"
        assert first["headers"]["authorization"] == "Basic dXNlcjpzZWNyZXQ="
        assert first["body"] == "text"
        assert second["path"] == "/there"
        assert stays == 302
        assert third["headers"]["connection"] == "close"

    mode.run(script)


@pytest.mark.parametrize("url", ["/relative", "relative?x=1"])
def test_relative_urls_need_a_netloc(mode: Any, url: str) -> None:
    """Without a load balancer a relative URL is refused, with words that help."""

    def script() -> Script:
        fetch = mode.make(get)
        with pytest.raises(HoldfastError, match="load_balancer"):
            yield fetch(url)

    mode.run(script)


def test_retry_after_is_followed(mode: Any, scripted: StartScripted) -> None:
    """An answer that asks for more patience than there is time is the last one."""
    patient: Steps = [
        Receive(),
        json_response({}, 503, [("Retry-After", "60"), ("Connection", "close")]),
    ]
    server = scripted(patient, OK)

    def script() -> Script:
        fetch = mode.make(get, load_balancer=lambda: ("http", server.address))
        assert status((yield fetch())) == 503

    mode.run(script)
    assert len(server.requests) == 1
