"""A streamed answer holds its slot until it was read, closed, or lost."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import pytest

from holdfast import AsyncCluster, Breaker, Cluster, Ejection, Limit, Policy, Retry, errors
from holdfast.http.limits import Timeout
from holdfast.http.responses import Response
from tests.cluster.calls import Virtual
from tests.servers import Receive, ScriptedServer, Step, response

PIECES = [(1.0, b"one"), (1.0, b"two"), (1.0, b"three")]


def streaming(pieces: Any = PIECES, policy: Policy | None = None, **reply: Any) -> Virtual:
    """Return a cluster of one host that answers piece by piece."""
    policy = policy or Policy(limit=Limit(1), cluster_limit=Limit(1), breaker=Breaker(failures=1))
    cluster = Virtual(1, policy, ejection=Ejection())
    cluster.all_reply(pieces=pieces, **reply)
    return cluster


def opened(cluster: Virtual, **options: Any) -> Response:
    """Call, and leave the body to be read."""
    answer = cluster.call(stream=True, **options)
    assert answer.reader is not None
    return answer


def slots(cluster: Virtual) -> tuple[int, int]:
    """Return the slots in use, of the host and of the cluster."""
    limiter: Any = cluster.core.limiter
    return cluster.core.endpoints.all[0].in_flight, limiter.in_flight


def state(cluster: Virtual) -> str:
    """Return the state of the host's circuit."""
    breaker: Any = cluster.core.endpoints.all[0].breaker
    return str(breaker.state)


def test_reading_to_the_end_gives_all_back() -> None:
    """Slots are held while the body comes, and given back with its end, the connection too."""
    cluster = streaming()
    answer = opened(cluster)
    assert cluster.elapsed == 0
    assert slots(cluster) == (1, 1)
    read = cluster.world.run
    assert [read(answer.reader.read()) for _ in range(3)] == [b"one", b"two", b"three"]
    assert slots(cluster) == (1, 1)
    assert read(answer.reader.read()) == b""
    assert slots(cluster) == (0, 0)
    assert len(cluster.core.endpoints.all[0].pool) == 1
    answer.reader.close()
    assert slots(cluster) == (0, 0)
    assert read(answer.reader.read()) == b""
    assert cluster.idle()


@pytest.mark.parametrize("pieces", range(4))
def test_closing_early_gives_all_back(pieces: int) -> None:
    """Closed after any piece, the slots are free at once and the connection is not used again."""
    cluster = streaming()
    answer = opened(cluster)
    for _ in range(pieces):
        cluster.world.run(answer.reader.read())
    answer.reader.close()
    answer.reader.close()
    assert slots(cluster) == (0, 0)
    assert state(cluster) == "closed"
    assert cluster.idle()
    opened(cluster).reader.close()
    assert cluster.hosts[0].connects == (1 if pieces == 3 else 2)


def test_a_body_that_breaks_gives_all_back_and_counts() -> None:
    """A body that is cut off is an error, and the host's fault."""
    cluster = streaming(fate="cut")
    answer = opened(cluster)
    for _ in range(3):
        cluster.world.run(answer.reader.read())
    assert state(cluster) == "closed"
    with pytest.raises(errors.Truncated, match=r"10\.0\.0\.1:80: .*11 of 21 bytes"):
        cluster.world.run(answer.reader.read())
    assert slots(cluster) == (0, 0)
    assert state(cluster) == "open"
    assert cluster.idle()


def test_each_wait_for_a_piece_has_the_read_limit() -> None:
    """A body that stops is an error after the read limit, and the host's fault."""
    cluster = streaming([(1.0, b"one"), (inf, b"never")])
    answer = opened(cluster, timeout=Timeout(5, read=2))
    answer.reader.deadline = inf
    assert cluster.world.run(answer.reader.read()) == b"one"
    with pytest.raises(errors.ReadTimeout, match="silent for 2 s"):
        cluster.world.run(answer.reader.read())
    assert cluster.elapsed == 3
    assert slots(cluster) == (0, 0)
    assert state(cluster) == "open"


def test_the_next_call_waits_for_the_slot() -> None:
    """Who queues gets the slot when the stream is closed."""
    cluster = streaming()
    answer = opened(cluster)
    waiting = cluster.world.start(cluster.program())
    cluster.world.advance(1)
    assert not waiting.done
    answer.reader.close()
    cluster.world.advance(4)
    assert waiting.result().content == b"onetwothree"
    assert cluster.idle()


def test_only_the_head_is_tried_again() -> None:
    """Attempts before the one that is returned are closed, with all that they held."""
    policy = Policy(limit=Limit(1), cluster_limit=Limit(1), retry=Retry(base=1e-9))
    cluster = streaming(policy=policy, status=503)
    answer = opened(cluster)
    assert [attempt.status for attempt in answer.attempts] == [503] * 3
    assert slots(cluster) == (1, 1)
    assert cluster.world.run(answer.reader.read()) == b"one"
    answer.reader.close()
    assert cluster.idle()


def test_an_answer_that_was_given_up_is_not_returned() -> None:
    """When its retry finds no host any more, the error tells of the answer: it cannot be read."""
    policy = Policy(limit=Limit(1), cluster_limit=Limit(1), breaker=Breaker(failures=1))
    cluster = streaming(policy=policy, status=503)
    error = cluster.fail(stream=True)
    assert isinstance(error, errors.CircuitOpenError)
    assert [attempt.status for attempt in error.attempts] == [503]
    assert cluster.idle()


def test_an_empty_body_holds_its_slot_too() -> None:
    """The rule is the same when there is nothing to read."""
    cluster = streaming([])
    answer = opened(cluster)
    assert slots(cluster) == (1, 1)
    assert cluster.world.run(answer.reader.read()) == b""
    assert slots(cluster) == (0, 0)


def test_the_client_closes_at_the_end_of_the_block() -> None:
    """A with-block gives the connection back, read or not, also when it ends by an exception."""
    script: list[Step | bytes] = [Receive(), response(200, b"x" * 10)] * 3
    with ScriptedServer(script, script) as server, Cluster([f"127.0.0.1:{server.port}"]) as cluster:
        (endpoint,) = cluster.endpoints
        with cluster.stream("GET", "/") as answer:
            assert endpoint.in_flight == 1
            assert b"".join(answer.iter_bytes(3)) == b"x" * 10
        assert (endpoint.in_flight, len(endpoint.pool)) == (0, 1)
        with pytest.raises(KeyError), cluster.stream("GET", "/"):
            raise KeyError
        assert endpoint.in_flight == 0
        with cluster.stream("GET", "/") as answer:
            assert answer.read() == b"x" * 10
        assert endpoint.in_flight == 0


def test_the_asyncio_client_does_the_same() -> None:
    """An async with-block gives the connection back as well."""

    async def scenario(host: str) -> None:
        async with AsyncCluster([host]) as cluster:
            (endpoint,) = cluster.endpoints
            async with cluster.stream("GET", "/") as answer:
                assert endpoint.in_flight == 1
                assert [piece async for piece in answer.aiter_bytes(4)] == [b"xxxx", b"xxxx", b"xx"]
            assert (endpoint.in_flight, len(endpoint.pool)) == (0, 1)
            with pytest.raises(KeyError):
                async with cluster.stream("GET", "/"):
                    raise KeyError
            assert endpoint.in_flight == 0

    script: list[Step | bytes] = [Receive(), response(200, b"x" * 10)] * 2
    with ScriptedServer(script, script) as server:
        asyncio.run(scenario(f"127.0.0.1:{server.port}"))
