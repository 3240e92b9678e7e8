"""What users have for their own tests."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any

import pytest

from holdfast import AsyncCluster, Cluster, HoldfastError, Policy, Retry, errors, ops
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from holdfast.testing import Reply, Script, VirtualClock, World, instant, scripted

POLICY = Policy(retry=Retry(attempts=3, base=10.0, cap=60.0), budget=None, timeout=3600)


def test_a_cluster_calls_scripted_hosts() -> None:
    """Answers come in order, in virtual time, and what was asked is known."""
    world = scripted({"a:80": [ConnectionResetError, 503, {"ok": True}], "b": []})
    began = monotonic()
    with Cluster(["a:80"], policy=POLICY, driver=world) as cluster:
        response = cluster.get("/x")
    assert response.json() == {"ok": True}
    assert [(a.status, type(a.error)) for a in response.attempts] == [
        (None, errors.NetworkError),
        (503, type(None)),
        (200, type(None)),
    ]
    assert 0 < world.now < 40
    assert monotonic() - began < 5
    assert [asked.target for asked in world.hosts["a:80"].asked] == ["/x"] * 3
    assert len(world.asked) == 3
    assert world.addresses == ["a:80", "b"]


def test_an_async_cluster_calls_them_too() -> None:
    """Calls made at the same time run at the same virtual time."""
    world = scripted({"a:80": Reply(after=100), "b:80": itertools.repeat("text")}, latency=1)

    async def main() -> None:
        async with AsyncCluster(world.addresses, balancer="round-robin", driver=world) as cluster:
            one, other = await asyncio.gather(
                cluster.get("/1", timeout=600), cluster.get("/2", timeout=600)
            )
            assert (one.text, other.text) == ("", "text")
            assert [asked.target for asked in world.asked] == ["/1", "/2"]
            assert world.now == 104

    asyncio.run(main())


def ask(world: World, times: int = 1) -> list[bytes]:
    """Ask the host a:80 for its answers, on connections of their own."""

    def program() -> ops.Program[bytes]:
        ((family, address),) = yield ops.Resolve("a", 80, inf)
        stream = yield ops.Connect((family, address), world.now + 10)
        try:
            data: bytes = yield ops.RoundTrip(
                stream, b"GET /x HTTP/1.1\r\n\r\n", 1 << 16, world.now + 10
            )
            return data.partition(b"\r\n\r\n")[2]
        finally:
            stream.close()

    return [world.run(program()) for _ in range(times)]


@pytest.mark.parametrize(
    ("script", "bodies"),
    [
        ([b"one", "two", [3], {"four": 4}, 200], [b"one", b"two", b"[3]", b'{"four":4}', b""]),
        (Reply(body=b"same"), [b"same", b"same"]),
        (lambda asked: asked.target, [b"/x", b"/x"]),
        (itertools.cycle([b"a", b"b"]), [b"a", b"b", b"a"]),
    ],
)
def test_scripts_have_many_forms(script: Script, bodies: list[bytes]) -> None:
    """Bytes, text, JSON, statuses, replies and functions are answers."""
    assert ask(scripted({"a": script}), len(bodies)) == bodies


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (ConnectionRefusedError, ConnectionRefusedError),
        (ConnectionResetError("boom"), ConnectionResetError),
        (BrokenPipeError, ConnectionResetError),
        (TimeoutError, TimeoutError),
    ],
)
def test_scripts_fail_as_told(failure: Any, raised: type[Exception]) -> None:
    """An exception is what happens to one request, or to one connection; then comes the next."""
    world = scripted({"a": [failure, b"fine"]})
    with pytest.raises(raised):
        ask(world)
    assert ask(world) == [b"fine"]
    assert ask(scripted({"a": [EOFError]})) == [b""]


def test_an_answer_too_many_is_an_assertion_error() -> None:
    """A script that is over says who asked for more."""
    world = scripted({"a": [200]})
    ask(world)
    with pytest.raises(AssertionError, match="a:80: the script has no answer left for GET /x"):
        ask(world)


@pytest.mark.parametrize("script", ["text", b"x", {"a": 1}, 200])
def test_a_script_is_a_list(script: Any) -> None:
    """One answer alone is refused: it could mean once, or always."""
    with pytest.raises(TypeError, match="a:80: a script is a list of answers"):
        scripted({"a": script})
    with pytest.raises(TypeError, match="no answer of a script: None"):
        ask(scripted({"a": [None]}))  # type: ignore[list-item]


def test_a_virtual_clock_shows_what_it_is_told() -> None:
    """Time passes when the test says so, and only forwards."""
    clock = VirtualClock(5)
    clock.advance(2.5)
    assert clock() == clock.now == 7.5
    assert repr(clock) == "<VirtualClock at 7.5 s>"
    with pytest.raises(ValueError, match="seconds must be 0 or more, not -1"):
        clock.advance(-1)


def sleep(clock: Callable[[], float]) -> ops.Program[str]:
    """Sleep for an hour, thrice: alone, among others, and as the first."""
    yield ops.Sleep(clock() + 3600)
    yield ops.All([_nap(clock), _nap(clock)])
    index, _ = yield ops.First([_forever(), _nap(clock)])
    return "awake" if index == 1 else "asleep"


def _nap(clock: Callable[[], float]) -> ops.Program[None]:
    yield ops.Sleep(clock() + 3600)


def _forever() -> ops.Program[None]:
    yield ops.Sleep(inf)


@pytest.mark.parametrize("driver", ["blocking", "asyncio", "simulated"])
def test_instant_ends_every_sleep(driver: str) -> None:
    """In each driver sleeps that have an end are over at once, until the outermost block ends."""
    world = World(start=monotonic())
    run: dict[str, Callable[[], str]] = {
        "blocking": lambda: blocking.run(sleep(monotonic)),
        "asyncio": lambda: asyncio.run(asyncio_driver.run(sleep(monotonic))),
        "simulated": lambda: world.run(sleep(world.clock)),
    }
    began = world.now
    with instant():
        with instant():
            assert run[driver]() == "awake"
        assert run[driver]() == "awake"
    assert world.now == began
    assert not ops.instant
    world.run(sleep(world.clock))
    assert world.now == began + 3 * 3600


def test_retries_are_instant() -> None:
    """Backoff of a cluster takes no time, in real time, either."""
    policy = Policy(retry=Retry(attempts=3, base=50, cap=50), timeout=10_000, budget=None)
    began = monotonic()
    with (
        instant(),
        Cluster(["127.0.0.1:1"], policy=policy) as cluster,
        pytest.raises(HoldfastError) as caught,
    ):
        cluster.get("/")
    assert len(caught.value.attempts) == 3
    assert monotonic() - began < 10


def test_everything_public_is_documented() -> None:
    """What the module offers has a docstring."""
    from holdfast import testing

    for name in testing.__all__:
        thing = getattr(testing, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refusal_after_an_answer(method: str) -> None:
    """No connection is kept when the next one is to be refused: nothing is sent into the void."""
    world = scripted({"a:80": [200, ConnectionRefusedError, 201]})
    with Cluster(world.addresses, driver=world) as cluster:
        assert cluster.request(method, "/1").status_code == 200
        response = cluster.request(method, "/2")
    assert [type(a.error) for a in response.attempts] == [errors.ConnectError, type(None)]
    assert [asked.target for asked in world.asked] == ["/1", "/2"]


@pytest.mark.parametrize("address", ["a", "a:81", "http://a:81", "[::1]", "[::1]:81", "unix:/x"])
def test_addresses(address: str) -> None:
    """A scripted host has any address that a cluster takes."""
    world = scripted({address: [200]})
    with Cluster(world.addresses, driver=world) as cluster:
        assert cluster.get("/").status_code == 200
    assert len(world.hosts[address].asked) == 1


def test_no_scripted_host_speaks_tls() -> None:
    """An address that cannot be simulated is refused, not unknown to the call."""
    with pytest.raises(ValueError, match="https://a: a scripted host speaks plain http"):
        scripted({"https://a": [200]})
