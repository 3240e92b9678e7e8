"""Whatever a dispatcher or a host answers, the client has a result or an exception of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from holdfast import Policy
from holdfast.jobs import HarpException
from holdfast.testing import instant
from tests.jobs.client.faces import Face, scripted
from tests.jobs.client.scripts import LineServer, hear_line
from tests.servers.certificates import Certificates
from tests.servers.connection import Connection

POLICY = Policy(timeout=None, limit=None, breaker=None, retry=None)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
FIELDS = [
    *("harpcaller", "harp", "job_id", "cancelled", "result", "exception", "error", "no_result"),
    *("call", "time", "info", "packet", "data", "continue", "hosts", "stream", "stream_result"),
]
TOLD = st.fixed_dictionaries(
    {"type": st.text(max_size=5) | SCALARS, "message": st.text(max_size=5) | SCALARS},
    optional={"data": VALUES, "more": VALUES},
)
MESSAGES = (
    st.dictionaries(st.sampled_from(FIELDS), VALUES | TOLD, max_size=4)
    | st.builds(lambda told, name: {name: told}, TOLD, st.sampled_from(["error", "exception"]))
    | st.builds(lambda n, data: {"packet": n, "data": data}, st.integers(-1, 3), VALUES)
    | st.sampled_from([{"harp": 1, "stream_result": True}, {"harp": 1, "stream_result": False}])
    | VALUES
)
LINES = st.one_of(
    MESSAGES.map(lambda message: json.dumps(message).encode()),
    st.binary(max_size=30).map(lambda line: line.replace(b"\n", b" ")),
)
ANSWERS = st.lists(LINES, max_size=4).map(b"\n".join) | st.lists(LINES, max_size=4).map(
    lambda lines: b"".join(line + b"\n" for line in lines)
)


class Parrot(LineServer):
    """Answers each request with the same bytes, and closes."""

    answer = b""

    def serve(self, connection: Connection) -> None:
        """Answer one request."""
        hear_line(connection)
        connection.send(self.answer)


REQUESTS: dict[str, Any] = {
    "call": lambda rpc: rpc.web01.restart(1),
    "cancel": lambda rpc: rpc.job("x").cancel(),
    "get": lambda rpc: rpc.job("x").get(wait=False),
    "wait": lambda rpc: rpc.job("x").get(),
    "result": lambda rpc: rpc.job("x").result(),
    "host": lambda rpc: rpc.job("x").host(),
    "start_time": lambda rpc: rpc.job("x").start_time(),
    "request": lambda rpc: rpc.request({"harpcaller": 1, "x": 1}),
    "follow": lambda rpc: rpc.job("x").follow(since=0).all(),
    "recent": lambda rpc: rpc.job("x").follow(recent=0),
    "stream": lambda rpc: rpc.job("x").stream().all(),
    "group": lambda rpc: rpc.group("*").restart().all(),
}

QUIET = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def parrot() -> Iterator[Parrot]:
    """Run a server that says anything."""
    with Parrot(()) as server:
        yield server


@pytest.fixture(scope="module")
def tls_parrot(certificates: Certificates) -> Iterator[Parrot]:
    """Run a host that says anything."""
    with Parrot((), tls=certificates.server_context()) as server:
        yield server


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
@pytest.mark.parametrize("request_", REQUESTS)
@QUIET
@given(answer=ANSWERS)
@example(b'{"error":{"type":"invalid_jobid","message":"\\ud800"}}\n')
@example(b'{"harpcaller":1,"job_id":"\\u0000"}\n{"cancelled":true}\n')
@example(b'{"cancelled":1}\n')
@example(b"[" * 10_000)
def test_any_answer_of_a_dispatcher(
    kind: str, request_: str, parrot: Parrot, answer: bytes
) -> None:
    """Any bytes at all become a value, or a HarpException."""
    parrot.answer = answer

    @scripted
    async def test(face: Face) -> None:
        rpc = face.caller(parrot, policy=POLICY, reconnect=0.001, max_line=2000)
        try:
            found = await face.got(REQUESTS[request_](rpc))
            if request_ == "recent":
                await face.all(found)
        except HarpException as error:
            repr(error)

    with instant():
        test(face=Face(kind))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
@QUIET
@given(answer=ANSWERS)
def test_any_answer_of_a_host(kind: str, tls_parrot: Parrot, answer: bytes) -> None:
    """Any bytes at all become a value, packets, or a HarpException."""
    tls_parrot.answer = answer

    @scripted
    async def test(face: Face) -> None:
        host = face.server(tls_parrot, max_line=2000)
        try:
            found = await face.got(host.restart())
            if type(found).__name__.endswith("HarpStreamIterator"):
                await face.all(found)
        except HarpException as error:
            repr(error)

    test(face=Face(kind))


def test_no_thread_is_left() -> None:
    """Groups whose dispatcher talks nonsense leave no thread behind."""
    assert not [
        one for one in threading.enumerate() if one.name == "holdfast group" and one.is_alive()
    ]
