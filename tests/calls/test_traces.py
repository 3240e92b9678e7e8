"""Requests of `call.http` carry the trace of their attempt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context

from holdfast.calls import Call, RoundRobin
from tests.calls.modes import Script
from tests.calls.test_behaviour import OK, unavailable
from tests.servers import EchoServer, Receive, response
from tests.servers.fixtures import StartScripted
from tests.telemetry.test_otel import Exported, identity


@pytest.fixture
def exported() -> Iterator[Exported]:
    """Give an SDK that keeps what it exports."""
    exported = Exported()
    yield exported
    exported.close()


@pytest.fixture
def tenant() -> Iterator[None]:
    """Have something in the baggage."""
    token = context.attach(baggage.set_baggage("tenant", "a"))
    yield
    context.detach(token)


def get(call: Call, **options: Any) -> Script:
    """Send a request."""
    answer = yield call.http.request("GET", "/x", **options)
    if hasattr(answer, "deliverBody"):
        yield answer.content()
    return answer


def test_requests_carry_the_trace(
    mode: Any, scripted: StartScripted, exported: Exported, tenant: None
) -> None:
    """Each attempt sends the span of its own, and the baggage of who made the call."""
    server = scripted(unavailable(), OK)

    def script() -> Script:
        function = mode.make(get, load_balancer=RoundRobin([server.address]))
        exported.otel.watch(function)
        yield function(headers={"Traceparent": "mine", "X-Other": "kept"})

    mode.run(script)
    first, second, call = exported.spans()
    assert call.context is not None
    for request, span in zip(server.requests, (first, second), strict=True):
        trace = f"00-{call.context.trace_id:032x}-{identity(span):016x}-"
        assert request.header("traceparent").startswith(trace)
        assert request.header("baggage") == "tenant=a"
        assert request.header("x-other") == "kept"


def test_the_agent_carries_it_too(mode: Any, echo: EchoServer, exported: Exported) -> None:
    """As does the service below."""

    def fetch(call: Call) -> Script:
        if mode.name == "twisted":
            answer = yield call.agent.request(b"GET", echo.url.encode() + b"/x")
            from treq import json_content

            return (yield json_content(answer))
        return (yield call.agent.request("GET", "/x")).json()

    told: list[Any] = []

    def script() -> Script:
        function = mode.make(fetch, load_balancer=RoundRobin([echo.address]))
        exported.otel.watch(function)
        told.append((yield function()))

    mode.run(script)
    assert "traceparent" in told[0]["headers"]


@pytest.mark.parametrize("idempotent", [None, True])
def test_another_origin_gets_no_baggage(
    mode: Any,
    echo: EchoServer,
    scripted: StartScripted,
    exported: Exported,
    tenant: None,
    idempotent: bool | None,
) -> None:
    """A redirect elsewhere takes the trace along, and leaves the baggage."""
    server = scripted(
        [
            Receive(),
            response(302, b"", [("Location", f"http://{echo.address}/y")]),
        ]
    )
    told: list[Any] = []

    def fetch(call: Call) -> Script:
        answer = yield call.http.request("GET", "/x", idempotent=idempotent)
        body = answer.json()
        return (yield body) if hasattr(answer, "deliverBody") else body

    def script() -> Script:
        function = mode.make(fetch, load_balancer=RoundRobin([server.address]))
        exported.otel.watch(function)
        told.append((yield function())["headers"])

    mode.run(script)
    assert server.requests[0].header("baggage") == "tenant=a"
    assert told[0]["traceparent"] == server.requests[0].header("traceparent")
    assert "baggage" not in told[0]


def test_without_a_trace_nothing_is_added(mode: Any, echo: EchoServer) -> None:
    """A function that nobody watches sends what it was given."""

    def fetch(call: Call) -> Script:
        answer = yield call.http.request("GET", "/x")
        body = answer.json()
        return (yield body) if hasattr(answer, "deliverBody") else body

    told: list[Any] = []

    def script() -> Script:
        told.append((yield mode.make(fetch, load_balancer=RoundRobin([echo.address]))()))

    mode.run(script)
    assert "traceparent" not in told[0]["headers"]
