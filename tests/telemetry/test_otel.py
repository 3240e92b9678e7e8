"""Calls and attempts are spans and metrics of OpenTelemetry."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import time_ns
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.propagators.textmap import (
    CarrierT,
    Setter,
    TextMapPropagator,
    default_setter,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes import (
    code_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
)
from opentelemetry.semconv.metrics.http_metrics import HTTP_CLIENT_REQUEST_DURATION
from opentelemetry.trace import SpanKind, StatusCode
from twisted.internet.task import Clock, deferLater

from holdfast import (
    AsyncCluster,
    Breaker,
    Cluster,
    Coalesce,
    Ejection,
    Fallback,
    Hedge,
    Limit,
    Policy,
    Retry,
)
from holdfast.cluster.functions import FunctionCore
from holdfast.drivers.twisted import Driver
from holdfast.errors import Truncated
from holdfast.policy.events import Event
from holdfast.telemetry import OpenTelemetry
from tests.cluster.calls import Reply, Virtual
from tests.servers.echo import EchoServer
from tests.servers.fixtures import StartScripted
from tests.servers.scripted import Receive, Send

PLAIN: dict[str, Any] = {"retry": None, "budget": None, "breaker": None, "limit": None}
SECRET = "hunter2"


class Exported:
    """What an SDK exports."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader])
        self.otel = self.another(**options)

    def another(self, **options: Any) -> OpenTelemetry:
        """Return one more listener with the same providers."""
        return OpenTelemetry(self.tracers, self.meters, **options)

    def close(self) -> None:
        """Shut the SDK down."""
        self.tracers.shutdown()
        self.meters.shutdown()

    def watch(self, count: int = 1, ejection: Any = None, **parts: Any) -> Virtual:
        """Return a cluster that is watched."""
        cluster = Virtual(count, Policy(**{**PLAIN, **parts}), ejection=ejection)
        self.otel.watch(cluster.core)
        return cluster

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Return the spans that have ended, in that order."""
        return self._exporter.get_finished_spans()

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def exported() -> Iterator[Exported]:
    """Give an SDK that keeps what it exports, and a listener."""
    exported = Exported()
    yield exported
    exported.close()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    """Return the identity of a span's parent."""
    return span.parent.span_id if span.parent is not None else None


def identity(span: ReadableSpan) -> int:
    """Return the identity of a span."""
    assert span.context is not None
    return int(span.context.span_id)


def test_a_call_that_goes_well(exported: Exported) -> None:
    """A client's span of the call, and within it that of its attempt."""
    cluster = exported.watch()
    cluster.call("GET", f"/a/b?token={SECRET}")
    attempt, call = exported.spans()
    assert attempt.name == call.name == "GET"
    assert attempt.kind == call.kind == SpanKind.CLIENT
    assert parent(attempt) == identity(call)
    assert parent(call) is None
    assert attributes(attempt) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.full": "http://10.0.0.1/a/b?REDACTED",
        "server.address": "10.0.0.1",
        "server.port": 80,
        "holdfast.attempt": 1,
        "holdfast.outcome": "success",
    }
    assert attributes(call) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.path": "/a/b",
        "url.full": "http://10.0.0.1/a/b?REDACTED",
        "server.address": "10.0.0.1",
        "server.port": 80,
        "holdfast.attempts": 1,
        "holdfast.outcome": "success",
    }
    assert attempt.status.status_code == call.status.status_code == StatusCode.UNSET
    assert repr(exported.otel) == "<OpenTelemetry: 0 calls in progress>"


def test_the_names_are_those_of_the_conventions(exported: Exported) -> None:
    """All but our own."""
    known = {
        value
        for module in (
            code_attributes,
            error_attributes,
            http_attributes,
            network_attributes,
            server_attributes,
            url_attributes,
        )
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }
    cluster = exported.watch(2, retry=Retry(attempts=2, base=1e-9))
    cluster.all_reply(fate="reset")
    cluster.fail()
    cluster.all_reply(status=503)
    cluster.call("REPORT")
    used = {name for span in exported.spans() for name in attributes(span)}
    for point in exported.points(HTTP_CLIENT_REQUEST_DURATION):
        used |= set(point.attributes)
    assert {name for name in used if not name.startswith("holdfast.")} <= known


def test_retries(exported: Exported) -> None:
    """Each attempt says how often the request was sent before, and what became of it."""
    cluster = exported.watch(3, retry=Retry(attempts=3, base=1e-9))
    first, second, third = cluster.hosts
    first.behaviour = Reply(fate="reset")
    second.behaviour = Reply(status=503)
    third.behaviour = Reply(status=200)
    for _ in range(20):
        cluster.call()
        if len(exported.spans()) == 4:
            break
        exported._exporter.clear()
    *attempts, call = exported.spans()
    assert [attributes(span).get("http.request.resend_count") for span in attempts] == [None, 1, 2]
    assert {parent(span) for span in attempts} == {identity(call)}
    by_host = {attributes(span)["server.address"]: span for span in attempts}
    reset, busy, good = (by_host[f"10.0.0.{number}"] for number in (1, 2, 3))
    assert attributes(reset)["error.type"] == "holdfast.errors.NetworkError"
    assert reset.status.status_code == StatusCode.ERROR
    assert [event.name for event in reset.events] == ["exception"]
    assert attributes(busy)["error.type"] == "503"
    assert attributes(busy)["http.response.status_code"] == 503
    assert busy.status.status_code == StatusCode.ERROR
    assert good.status.status_code == call.status.status_code == StatusCode.UNSET
    assert attributes(call)["holdfast.attempts"] == 3
    assert [event.name for event in call.events] == ["retried", "retried"]
    assert attributes(call)["server.address"] == "10.0.0.3"


def test_a_call_that_fails(exported: Exported) -> None:
    """Its span is an error, with its type; no text gives away a secret."""
    cluster = exported.watch(timeout=0.5)
    cluster.all_reply(after=1)
    cluster.fail(path=f"/x?token={SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
    attempt, call = exported.spans()
    for span in (attempt, call):
        assert attributes(span)["error.type"] == "holdfast.errors.DeadlineExceeded"
        assert attributes(span)["holdfast.outcome"] == "timeout"
        assert span.status.status_code == StatusCode.ERROR
        assert SECRET not in span.to_json()


def test_an_answer_that_is_an_error(exported: Exported) -> None:
    """To a client, 404 is one."""
    cluster = exported.watch()
    cluster.all_reply(status=404)
    cluster.call()
    for span in exported.spans():
        assert attributes(span)["error.type"] == "404"
        assert span.status.status_code == StatusCode.ERROR
        assert attributes(span)["holdfast.outcome"] == "success"


def test_methods_are_bounded(exported: Exported) -> None:
    """One that is not known is told, but names no span."""
    cluster = exported.watch()
    cluster.call("REPORT")
    attempt, call = exported.spans()
    assert attempt.name == call.name == "HTTP"
    assert attributes(call)["http.request.method"] == "_OTHER"
    assert attributes(call)["http.request.method_original"] == "REPORT"
    (point,) = exported.points(HTTP_CLIENT_REQUEST_DURATION)
    assert point.attributes["http.request.method"] == "_OTHER"


def test_a_lost_hedge(exported: Exported) -> None:
    """Its span ends as cancelled, which is no error."""
    cluster = exported.watch(2, hedge=Hedge(after=0.1))
    cluster.all_reply(after=0.15)
    cluster.call()
    spans = exported.spans()
    assert len(spans) == 3
    (lost,) = [span for span in spans if attributes(span).get("error.type") == "cancelled"]
    assert lost.status.status_code == StatusCode.UNSET
    (call,) = [span for span in spans if parent(span) is None]
    assert [event.name for event in call.events] == ["hedged"]
    assert call.status.status_code == StatusCode.UNSET


def test_what_was_never_sent_has_no_span(exported: Exported) -> None:
    """A rejection is an event of the call, and a decision that is counted."""
    cluster = exported.watch(limit=Limit(1, queue=0), breaker=Breaker(failures=1))
    cluster.all_reply(after=1)
    cluster.world.start(cluster.program())
    cluster.world.advance(0)
    cluster.fail()
    (call,) = exported.spans()
    assert [event.name for event in call.events] == ["rejected", "exception"]
    assert attributes(call)["holdfast.outcome"] == "rejected"
    assert attributes(call)["error.type"] == "holdfast.errors.LimitExceeded"
    (point,) = exported.points("holdfast.decisions")
    assert point.attributes["holdfast.decision"] == "rejected"
    assert point.attributes["holdfast.policy"] == "limit"


def test_fallbacks_and_shared_calls(exported: Exported) -> None:
    """A call that fell back went well in the end, and says how."""
    cluster = exported.watch(coalesce=Coalesce(), fallback=Fallback(7))
    cluster.all_reply(fate="reset", after=1)
    for _ in range(2):
        cluster.world.start(cluster.program())
    cluster.world.advance(2)
    calls = [span for span in exported.spans() if parent(span) is None]
    assert len(calls) == 2
    for call in calls:
        assert attributes(call)["holdfast.outcome"] == "fallback"
        assert call.status.status_code == StatusCode.UNSET
        assert call.events[-1].name == "fell back"


def test_metrics(exported: Exported) -> None:
    """How long requests and calls took, how many are active, what was decided."""
    cluster = exported.watch(2, Ejection(failures=1), retry=Retry(attempts=2, base=1e-9))
    cluster.all_reply(after=0.2, status=503)
    running = cluster.world.start(cluster.program())
    cluster.world.advance(0.1)
    (active,) = exported.points("http.client.active_requests")
    assert active.value == 1
    cluster.world.advance(10)
    assert running.done
    assert {point.value for point in exported.points("http.client.active_requests")} == {0}
    points = exported.points(HTTP_CLIENT_REQUEST_DURATION)
    assert len(points) == 2
    for point in points:
        assert point.count == 1
        assert point.sum == pytest.approx(0.2)
        assert point.explicit_bounds[:2] == (0.005, 0.01)
        assert dict(point.attributes) == {
            "http.request.method": "GET",
            "http.response.status_code": 503,
            "error.type": "503",
            "server.address": point.attributes["server.address"],
            "server.port": 80,
            "url.scheme": "http",
        }
    (call,) = exported.points("holdfast.call.duration")
    assert call.sum == pytest.approx(0.4)
    assert dict(call.attributes) == {"http.request.method": "GET", "holdfast.outcome": "failure"}
    decisions = {
        point.attributes["holdfast.decision"] for point in exported.points("holdfast.decisions")
    }
    assert decisions == {"retried", "ejected"}


def test_functions(exported: Exported) -> None:
    """They are no clients, and have no HTTP about them; their results stay theirs."""

    @Policy(**{**PLAIN, "retry": Retry(attempts=2, base=1e-9, exceptions=(ValueError,))})
    async def work() -> str:
        raise ValueError(f"password={SECRET}")

    exported.otel.watch(work)
    with pytest.raises(ValueError, match=SECRET):
        asyncio.run(work())
    first, second, call = exported.spans()
    assert call.kind == first.kind == SpanKind.INTERNAL
    assert parent(first) == parent(second) == identity(call)
    assert call.name == first.name == attributes(call)["code.function.name"]
    assert call.name.endswith("work")
    for span in (first, second, call):
        assert attributes(span)["error.type"] == "ValueError"
        assert not any(name.startswith("http.") for name in attributes(span))
        assert SECRET not in span.to_json()
    assert exported.points(HTTP_CLIENT_REQUEST_DURATION) == []
    (point,) = exported.points("holdfast.call.duration")
    assert point.attributes["holdfast.outcome"] == "failure"


@pytest.mark.parametrize("kind", ["plain", "asynchronous", "twisted"])
def test_what_a_function_calls_is_within_its_attempt(exported: Exported, kind: str) -> None:
    """The span of an attempt is current in the function, and only there."""
    tracer = exported.tracers.get_tracer("test")
    policy = Policy(**{**PLAIN, "retry": Retry(attempts=2, base=1e-9, exceptions=(ValueError,))})
    outcomes: list[Any] = [ValueError(), 7]

    def inner() -> Any:
        tracer.start_span("inner").end()
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def inner_later() -> Any:
        await asyncio.sleep(0)
        return inner()

    with tracer.start_as_current_span("outer") as outer:
        if kind == "plain":
            work: Any = policy(inner)
            exported.otel.watch(work)
            assert work() == 7
        elif kind == "asynchronous":
            work = policy(inner_later)
            exported.otel.watch(work)
            assert asyncio.run(work()) == 7
        else:
            clock = Clock()
            core = FunctionCore(policy, "work", clock=clock.seconds)
            exported.otel.watch(core)
            reactor: Any = clock

            async def in_a_turn() -> Any:
                await deferLater(reactor, 0.0)
                return inner()

            found: list[Any] = []
            Driver(clock).run(core.call(in_a_turn, (), {})).addCallback(found.append)
            clock.pump([0.1] * 5)
            assert found == [7]
        assert trace.get_current_span() is outer
    first, attempt, second, other, call, _ = exported.spans()
    assert (first.name, second.name) == ("inner", "inner")
    assert (parent(first), parent(second)) == (identity(attempt), identity(other))
    assert parent(attempt) == parent(other) == identity(call)
    assert parent(call) == outer.get_span_context().span_id


def test_where_a_function_was_tried(exported: Exported) -> None:
    """An attempt has the function's name, and the place as an attribute."""
    listen = exported.otel
    listen(Event("call started", 0.0, cause="work", call=1))
    listen(Event("attempt started", 0.0, "10.0.0.1:80", 1, call=1))
    listen(Event("attempt succeeded", 1.0, "10.0.0.1:80", 1, call=1))
    listen(Event("call succeeded", 1.0, "", 1, call=1))
    attempt, call = exported.spans()
    assert attempt.name == call.name == "work"
    assert attributes(attempt)["holdfast.endpoint"] == "10.0.0.1:80"


class Unprintable(Exception):
    """What cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_that_cannot_be_shown(exported: Exported) -> None:
    """Its spans end all the same."""
    listen = exported.otel
    error = Unprintable()
    listen(Event("call started", 0.0, cause="work", call=1))
    listen(Event("attempt started", 0.0, "work", 1, call=1))
    listen(Event("attempt failed", 1.0, "work", 1, error, call=1))
    listen(Event("call failed", 1.0, "", 1, error, call=1))
    assert len(exported.spans()) == 2
    for span in exported.spans():
        assert attributes(span)["error.type"].endswith("Unprintable")
        assert span.status.status_code == StatusCode.ERROR


def test_a_redirect(exported: Exported, echo: EchoServer) -> None:
    """The call's span tells who has answered, and where."""
    with EchoServer() as other, Cluster([f"127.0.0.1:{echo.port}"]) as cluster:
        exported.otel.watch(cluster)
        there = f"http://127.0.0.1:{other.port}/bytes/3"
        cluster.get("/redirect/302", params={"to": there}, follow_redirects=True)
    attempt, call = exported.spans()
    assert attributes(call)["url.full"] == there
    assert attributes(call)["server.port"] == other.port
    assert attributes(attempt)["server.port"] == echo.port


def test_a_stream_ends_with_its_body(exported: Exported, echo: EchoServer) -> None:
    """Its spans, its time and its place among the active requests last that long."""
    with Cluster([f"127.0.0.1:{echo.port}"]) as cluster:
        exported.otel.watch(cluster)
        for read in (True, False):
            with cluster.stream("GET", "/bytes/1000000") as response:
                assert exported.spans() == ()
                (active,) = exported.points("http.client.active_requests")
                assert active.value == 1
                middle = time_ns()
                if read:
                    response.read()
            attempt, call = exported.spans()
            assert parent(attempt) == identity(call)
            assert (attempt.end_time or 0) > middle
            assert attributes(call)["holdfast.outcome"] == "success"
            assert attributes(call)["http.response.status_code"] == 200
            (active,) = exported.points("http.client.active_requests")
            assert active.value == 0
            exported._exporter.clear()
    (point,) = exported.points(HTTP_CLIENT_REQUEST_DURATION)
    assert point.count == 2


def test_a_stream_that_breaks(exported: Exported, scripted: StartScripted) -> None:
    """What ended the body is the error of both spans, beside the status of the head."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    server = scripted([Receive(), Send(head)])
    with Cluster([server.address]) as cluster:
        exported.otel.watch(cluster)
        with pytest.raises(Truncated), cluster.stream("GET", "/") as response:
            response.read()
    assert len(exported.spans()) == 2
    for span in exported.spans():
        assert attributes(span)["error.type"] == "holdfast.errors.Truncated"
        assert attributes(span)["http.response.status_code"] == 200
        assert attributes(span)["holdfast.outcome"] == "failure"
        assert span.status.status_code == StatusCode.ERROR
    (point,) = exported.points(HTTP_CLIENT_REQUEST_DURATION)
    assert point.attributes["error.type"] == "holdfast.errors.Truncated"
    assert point.attributes["http.response.status_code"] == 200


def test_a_stream_that_is_tried_again(exported: Exported, echo: EchoServer) -> None:
    """The answer that nobody sees ends where it is dropped."""
    policy = Policy(retry=Retry(attempts=2, base=1e-9), budget=None)
    with Cluster([f"127.0.0.1:{echo.port}"], policy=policy) as cluster:
        exported.otel.watch(cluster)
        with cluster.stream("GET", "/status/503") as response:
            assert response.status_code == 503
            assert len(exported.spans()) == 1
    first, second, call = exported.spans()
    assert attributes(first)["error.type"] == attributes(second)["error.type"] == "503"
    assert attributes(second)["http.request.resend_count"] == 1
    assert attributes(call)["holdfast.outcome"] == "failure"


def test_a_function_that_returns_a_stream_it_has_read(exported: Exported, echo: EchoServer) -> None:
    """Its spans end when it does."""
    with Cluster([f"127.0.0.1:{echo.port}"]) as cluster:

        @Policy(**PLAIN)
        def work() -> Any:
            with cluster.stream("GET", "/bytes/10") as response:
                response.read()
            return response

        exported.otel.watch(work)
        assert work().status_code == 200
    assert len(exported.spans()) == 2


def test_closing_ends_streams(exported: Exported, echo: EchoServer) -> None:
    """And what becomes of them later is nobody's business."""
    with Cluster([f"127.0.0.1:{echo.port}"]) as cluster:
        exported.otel.watch(cluster)
        with cluster.stream("GET", "/bytes/1000000"):
            exported.otel.close()
            assert len(exported.spans()) == 2
    assert len(exported.spans()) == 2
    (active,) = exported.points("http.client.active_requests")
    assert active.value == 0


def test_labels_are_bounded() -> None:
    """In metrics the endpoints beyond the bound are one; spans tell them all."""
    exported = Exported(max_endpoints=2)
    cluster = exported.watch(5, retry=Retry(attempts=2, base=1e-9))
    cluster.all_reply(status=503)
    for _ in range(20):
        cluster.call()
    for name in (HTTP_CLIENT_REQUEST_DURATION, "http.client.active_requests"):
        places = {point.attributes["server.address"] for point in exported.points(name)}
        assert len(places) == 3
        assert "other" in places
    decisions = exported.points("holdfast.decisions")
    assert len({point.attributes["holdfast.endpoint"] for point in decisions}) == 3
    told = {attributes(span).get("server.address") for span in exported.spans()}
    assert told == {f"10.0.0.{number}" for number in range(1, 6)}
    assert {point.value for point in exported.points("http.client.active_requests")} == {0}
    exported.close()


def test_the_current_span_is_the_parent(exported: Exported) -> None:
    """That of who makes the call, whatever runs beside it."""
    cluster = exported.watch()
    tracer = exported.tracers.get_tracer("test")
    with tracer.start_as_current_span("outer") as outer:
        cluster.call()
        assert trace.get_current_span() is outer
    _, call, ended = exported.spans()
    assert parent(call) == identity(ended) == outer.get_span_context().span_id


def test_headers_reach_the_server(exported: Exported, echo: EchoServer) -> None:
    """With the trace, the attempt's span, and the baggage."""
    with Cluster([f"127.0.0.1:{echo.port}"]) as cluster:
        exported.otel.watch(cluster)
        token = context.attach(baggage.set_baggage("tenant", "a b"))
        try:
            headers = cluster.get("/x").json()["headers"]
        finally:
            context.detach(token)
    attempt, call = exported.spans()
    assert call.context is not None
    version, trace_id, span_id, _ = headers["traceparent"].split("-")
    assert (version, trace_id) == ("00", f"{call.context.trace_id:032x}")
    assert span_id == f"{identity(attempt):016x}"
    assert headers["baggage"] == "tenant=a+b"


def test_concurrent_calls_on_one_loop(exported: Exported, echo: EchoServer) -> None:
    """Each call's span has the parent that was current in its own task."""

    async def main() -> list[tuple[int, str]]:
        tracer = exported.tracers.get_tracer("test")
        async with AsyncCluster([f"127.0.0.1:{echo.port}"]) as cluster:
            exported.otel.watch(cluster)

            async def one(number: int) -> tuple[int, str]:
                with tracer.start_as_current_span(f"task {number}") as span:
                    answer = (await cluster.get("/x")).json()
                return span.get_span_context().trace_id, answer["headers"]["traceparent"]

            return list(await asyncio.gather(*map(one, range(20))))

    results = asyncio.run(main())
    assert len({trace_id for trace_id, _ in results}) == 20
    for trace_id, header in results:
        assert header.startswith(f"00-{trace_id:032x}-")
    assert len(exported.spans()) == 60


def test_concurrent_calls_in_threads(exported: Exported, echo: EchoServer) -> None:
    """Nothing is lost or mixed up."""
    with Cluster([f"127.0.0.1:{echo.port}"]) as cluster:
        exported.otel.watch(cluster)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(cluster.get, ["/x"] * 100))
    assert {answer.status_code for answer in answers} == {200}
    spans = exported.spans()
    calls = {identity(span) for span in spans if parent(span) is None}
    attempts = [span for span in spans if parent(span) is not None]
    assert len(calls) == len(attempts) == 100
    assert {parent(span) for span in attempts} == calls
    (point,) = exported.points(HTTP_CLIENT_REQUEST_DURATION)
    assert point.count == 100
    (active,) = exported.points("http.client.active_requests")
    assert active.value == 0


def test_a_cancelled_call_as_it_is_told(exported: Exported) -> None:
    """Its span ends, with those of its attempts, and nothing is an error."""
    listen = exported.otel
    listen(Event("call started", 0.0, cause="work", call=1))
    listen(Event("attempt started", 0.0, "work", 1, call=1))
    listen(Event("call failed", 1.0, "", 1, asyncio.CancelledError(), seconds=1.0, call=1))
    attempt, call = exported.spans()
    assert attributes(attempt)["error.type"] == attributes(call)["error.type"] == "cancelled"
    assert attributes(call)["holdfast.outcome"] == "cancelled"
    assert call.status.status_code == StatusCode.UNSET


def test_a_cancelled_attempt(exported: Exported) -> None:
    """Its span ends at once."""
    cluster = exported.watch()
    cluster.all_reply(after=1)
    running = cluster.world.start(cluster.program())
    cluster.world.advance(0.5)
    running.cancel(asyncio.CancelledError())
    attempt = exported.spans()[0]
    assert parent(attempt) is not None
    assert attributes(attempt)["error.type"] == "cancelled"
    (active,) = exported.points("http.client.active_requests")
    assert active.value == 0


@pytest.mark.parametrize("at", [0.5, 1.5], ids=["in an attempt", "between attempts"])
def test_a_cancelled_call(exported: Exported, at: float) -> None:
    """Its span ends at once, too."""
    cluster = exported.watch(retry=Retry(attempts=2, base=50, cap=50))
    cluster.all_reply(after=1, status=503)
    running = cluster.world.start(cluster.program(timeout=1000))
    cluster.world.advance(at)
    assert not running.done
    running.cancel(asyncio.CancelledError())
    attempt, call = exported.spans()
    assert parent(attempt) == identity(call)
    assert attributes(call)["holdfast.outcome"] == "cancelled"


def test_closing_ends_what_is_open(exported: Exported) -> None:
    """Nothing is known of the end of these calls, and their spans say so."""
    cluster = exported.watch()
    cluster.all_reply(after=1)
    cluster.world.start(cluster.program())
    cluster.world.advance(0.5)
    exported.otel.close()
    attempt, call = exported.spans()
    assert attributes(attempt)["error.type"] == "cancelled"
    assert attributes(call)["holdfast.outcome"] == "unknown"
    cluster.world.advance(1)
    assert len(exported.spans()) == 2
    (active,) = exported.points("http.client.active_requests")
    assert active.value == 0


def test_memory_is_bounded() -> None:
    """Of too many calls in progress, the oldest one's span ends."""
    exported = Exported(max_calls=2)
    cluster = exported.watch()
    cluster.all_reply(after=1)
    for _ in range(3):
        cluster.world.start(cluster.program())
        cluster.world.advance(0.01)
    assert repr(exported.otel) == "<OpenTelemetry: 2 calls in progress>"
    (_, oldest) = exported.spans()
    assert attributes(oldest)["holdfast.outcome"] == "unknown"
    cluster.world.advance(2)
    assert len(exported.spans()) == 6
    exported.close()


def test_calls_that_began_before(exported: Exported) -> None:
    """Have no span, and harm nothing."""
    cluster = Virtual(1, Policy(**PLAIN))
    cluster.core.listen(lambda event: None)
    cluster.all_reply(after=1)
    running = cluster.world.start(cluster.program())
    cluster.world.advance(0.5)
    exported.otel.watch(cluster.core)
    cluster.world.advance(1)
    assert running.done
    assert exported.spans() == ()
    cluster.call()
    assert len(exported.spans()) == 2


def test_one_for_each_cluster(exported: Exported, caplog: pytest.LogCaptureFixture) -> None:
    """A second cluster is refused; where it was made to listen to one, there is a warning."""
    first, second = exported.watch(), Virtual(1)
    assert exported.otel.watch(first.core) is exported.otel
    assert first.core.listeners == (exported.otel,)
    with pytest.raises(ValueError, match="another one"):
        exported.otel.watch(second.core)
    assert exported.another().watch(second.core) is not exported.otel
    third = Virtual(1)
    third.core.listen(exported.otel)
    with caplog.at_level(logging.WARNING, "holdfast"):
        for cluster in (first, third):  # both number their calls from 1
            cluster.all_reply(after=1)
            cluster.world.start(cluster.program())
            cluster.world.advance(0.5)
    assert "each one needs its own" in caplog.text


def test_two_listeners_on_one_meter(exported: Exported) -> None:
    """Count together."""
    for otel in (exported.otel, exported.another()):
        cluster = Virtual(1)
        otel.watch(cluster.core)
        cluster.call()
    (point,) = exported.points("holdfast.call.duration")
    assert point.count == 2


def test_a_cluster_is_not_kept(exported: Exported) -> None:
    """When it is gone, another one may be watched."""
    exported.watch()
    gc.collect()
    exported.watch().call()
    assert len(exported.spans()) == 2


def test_headers_of_others_stay(exported: Exported) -> None:
    """Who adds headers already goes on to do so."""
    cluster = Virtual(1)
    cluster.core.inject = lambda call, attempt, endpoint: [("X-Mine", f"{call} {attempt}")]
    exported.otel.watch(cluster.core)
    cluster.call()
    names = {name.lower() for name in cluster.hosts[0].asked[0].headers}
    assert {"x-mine", "traceparent"} <= names


class Bad(TextMapPropagator):
    """A propagator that breaks requests, or fails."""

    def __init__(self, value: str | None) -> None:
        self.value = value

    def inject(
        self,
        carrier: CarrierT,
        context: context.Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        if self.value is None:
            raise RuntimeError("it fails")
        setter.set(carrier, "x-trace", self.value)

    def extract(self, *args: Any, **keywords: Any) -> context.Context:
        raise NotImplementedError

    @property
    def fields(self) -> set[str]:
        return {"x-trace"}


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "ü", "", None])
def test_a_bad_propagator_harms_no_call(value: str | None) -> None:
    """What cannot be sent is left out."""
    exported = Exported(propagator=Bad(value))
    cluster = exported.watch()
    assert cluster.call().status_code == 200
    assert not any(name.lower().startswith("x-") for name in cluster.hosts[0].asked[0].headers)
    exported.close()


def test_a_unix_socket(exported: Exported) -> None:
    """Is the server's address, without a port."""
    listen = exported.otel
    request = Virtual(1).call().request
    listen(Event("call started", 0.0, cause=request, call=1))
    listen(Event("attempt started", 0.0, "unix:/run/x.sock", 1, call=1))
    listen(Event("call failed", 0.0, cause=ValueError(), call=1))
    attempt, _ = exported.spans()
    assert attributes(attempt)["server.address"] == "/run/x.sock"
    assert attributes(attempt)["network.transport"] == "unix"
    assert "server.port" not in attributes(attempt)


@pytest.mark.parametrize(
    "target", [object(), len, "a:80"], ids=["an object", "a function", "a host"]
)
def test_what_cannot_be_watched(exported: Exported, target: Any) -> None:
    """Is refused."""
    with pytest.raises(TypeError, match="only clusters"):
        exported.otel.watch(target)


def test_wrong_arguments() -> None:
    """Are named."""
    with pytest.raises(ValueError, match="max_calls"):
        OpenTelemetry(max_calls=0)
    with pytest.raises(ValueError, match="max_endpoints"):
        OpenTelemetry(max_endpoints=-1)


def test_without_an_sdk() -> None:
    """Nothing is recorded, and calls go well."""
    cluster = Virtual(1)
    OpenTelemetry().watch(cluster.core)
    assert cluster.call().status_code == 200
