"""The simulated driver: virtual time, order, cancellation, and connections that suffer."""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import ops
from holdfast.drivers.simulated import Connection, EndlessWait, World
from holdfast.simulation import Exponential, Host, Network, Reply, Service

ADDRESS = (2, ("10.0.0.1", 80))
GET = b"GET /x HTTP/1.1\r\n\r\n"


class Echo:
    """A peer that sends back what it gets."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.got = b""
        self.over: list[OSError | None] = []

    def received(self, data: bytes) -> None:
        self.got += data
        self.connection.send(data)

    def ended(self, error: OSError | None) -> None:
        self.over.append(error)


class Echoes:
    """A world where one address echoes."""

    def __init__(self, **options: Any) -> None:
        self.world = World(**options)
        self.peers: list[Echo] = []
        self.world.listen("10.0.0.1:80", self._accept)

    def _accept(self, connection: Connection) -> Echo:
        self.peers.append(Echo(connection))
        return self.peers[-1]

    def connect(self) -> Any:
        return self.world.run(ask(ops.Connect(ADDRESS, inf)))


@pytest.fixture
def echoes() -> Echoes:
    """A world with an echo."""
    return Echoes()


def ask(operation: ops.Operation) -> ops.Program[Any]:
    """Ask for one operation."""
    return (yield operation)


def exchange(deadline: float) -> ops.Program[bytes]:
    """Ask the host and return what comes first."""
    stream = yield ops.Connect(ADDRESS, deadline)
    return (yield ops.RoundTrip(stream, GET, 1 << 16, deadline))  # type: ignore[no-any-return]


def nap(world: World, seconds: float, log: list[Any]) -> ops.Program[float]:
    """Sleep and note when; also when it was closed."""
    try:
        yield ops.Sleep(world.now + seconds)
    except GeneratorExit:
        log.append(("closed", seconds))
        raise
    log.append(seconds)
    return seconds


def test_time_passes_only_in_waits() -> None:
    """An answer after an hour takes an hour of virtual time, and no other."""
    world = World(start=5.0)
    host = Host(world, "10.0.0.1:80", Reply(body=b"hello", after=3600), record=True)
    assert world.run(exchange(inf)).endswith(b"\r\n\r\nhello")
    assert world.now == world.clock() == 3605
    assert host.asked[0].target == "/x"


def test_a_wait_ends_at_its_deadline() -> None:
    """Every operation that waits raises TimeoutError at its deadline, not before or after."""
    world = World()
    host = Host(world, "10.0.0.1:80", Reply(after=2))
    with pytest.raises(TimeoutError):
        world.run(exchange(1.5))
    assert world.now == 1.5
    host.connect_after = 9
    with pytest.raises(TimeoutError):
        world.run(exchange(4))
    assert world.now == 4
    with pytest.raises(TimeoutError):
        world.run(ask(ops.Wait(ops.Signal(), 5)))
    assert world.now == 5
    for late in (exchange(5), ask(ops.Wait(ops.Signal(), 4))):
        with pytest.raises(TimeoutError):
            world.run(late)
    assert world.now == 5


def test_what_comes_at_the_deadline_is_in_time() -> None:
    """An event at the very time of the deadline is not too late."""
    world = World()
    Host(world, "10.0.0.1:80", Reply(after=2))
    assert world.run(exchange(2))
    signal = ops.Signal()
    waiting = world.start(ask(ops.Wait(signal, 3)))
    world.at(2.5, lambda: world.at(3, signal.fire))  # asked for after the wait had begun
    world.advance(9)
    assert waiting.result() is None


def test_endless_waits_are_found() -> None:
    """What nothing will ever end is an error that says what waits, and the program is closed."""
    world = World()
    Host(world, "10.0.0.1:80", Reply(after=inf))
    closed: list[Any] = []

    def program() -> ops.Program[Any]:
        try:
            return (yield ops.All([exchange(inf), nap(world, 1, [])]))
        finally:
            closed.append(world.now)

    with pytest.raises(EndlessWait, match=r"program waits in All of \[exchange waits in RoundT"):
        world.run(program())
    assert closed == [1]
    with pytest.raises(EndlessWait, match="waits in Wait"):
        world.run(ask(ops.Wait(ops.Signal(), inf)))
    with pytest.raises(EndlessWait, match="waits in Sleep"):
        world.run(ask(ops.Sleep(inf)))


def test_events_of_one_time_happen_in_the_order_of_asking() -> None:
    """Programs that run at the same time take turns at every operation."""
    world = World()
    log: list[Any] = []

    def busy(name: str) -> ops.Program[None]:
        for number in range(3):
            yield ops.Invoke(log.append, f"{name}{number}")

    world.run(ask(ops.All([busy("a"), busy("b"), busy("c")])))
    assert log == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]
    log.clear()
    for number in range(5):
        world.at(1, log.append, number)
    world.run_until(1)
    assert log == [0, 1, 2, 3, 4]
    assert world.now == 1


def test_a_time_that_has_passed_is_now() -> None:
    """Nothing happens in the past."""
    world = World(start=10)
    times: list[float] = []
    world.at(3, lambda: times.append(world.now))
    world.run(ask(ops.Sleep(-inf)))
    world.run(ask(ops.Sleep(3)))
    assert times == [10]
    world.run_until(4)
    assert world.now == 10


def test_all_and_first_nest_and_close_losers() -> None:
    """The winner's moment closes all others, down to the innermost, in order."""
    world = World()
    log: list[Any] = []
    inner = ask(ops.All([nap(world, 5, log), ask(ops.First([nap(world, 7, log)]))]))
    first = ask(ops.First([inner, nap(world, 1, log), nap(world, 1, log)]))
    assert world.run(ask(ops.All([first, nap(world, 2, log)]))) == [(1, 1), 2]
    assert log == [1, ("closed", 5), ("closed", 7), ("closed", 1), 2]


def test_an_interrupt_inside_stops_everything() -> None:
    """KeyboardInterrupt in one of several programs closes the others and reaches the caller."""
    world = World()
    log: list[Any] = []

    def interrupt() -> ops.Program[None]:
        yield ops.Sleep(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.run(ask(ops.All([nap(world, 5, log), interrupt()])))
    assert log == [("closed", 5)]
    world.start(interrupt())
    with pytest.raises(KeyboardInterrupt):
        world.advance(5)


def test_an_error_of_a_plain_event_reaches_the_caller() -> None:
    """What a fault or a host's behaviour raises is not lost, and the program is closed."""
    world = World()
    log: list[Any] = []

    def wrong() -> None:
        raise ValueError("wrong")

    world.at(1, wrong)
    with pytest.raises(ValueError, match="wrong"):
        world.run(nap(world, 5, log))
    assert log == [("closed", 5)]


def test_a_task_tells_how_it_ended() -> None:
    """Result, error, cancellation and progress are told apart; ``done`` is called at the end."""
    world = World()
    over: list[Any] = []

    def fails() -> ops.Program[None]:
        yield ops.Sleep(1)
        raise LookupError("nothing")

    good, bad = world.start(nap(world, 1, []), over.append), world.start(fails(), over.append)
    long = world.start(nap(world, 9, []), over.append)
    assert "has not begun" in repr(good)
    world.advance(2)
    assert over == [good, bad]
    assert good.result() == 1
    with pytest.raises(LookupError, match="nothing"):
        bad.result()
    with pytest.raises(RuntimeError, match="still runs: nap waits in Sleep"):
        long.result()
    long.cancel()
    long.cancel()
    assert over == [good, bad, long]
    assert long.cancelled
    with pytest.raises(RuntimeError, match="was cancelled"):
        long.result()


def test_a_program_may_cancel_itself() -> None:
    """A task that is cancelled by what it does ends at its next operation."""
    world = World()
    log: list[Any] = []

    def itself(how: str) -> ops.Program[None]:
        try:
            if how == "runs":
                task.cancel()
                log.append("goes on")
                yield ops.Sleep(9)
            else:
                yield ops.Invoke(task.cancel)
            log.append("never")
        finally:
            log.append("tidy")

    for how, expected in (("runs", ["goes on", "tidy"]), ("invokes", ["tidy"])):
        log.clear()
        task = world.start(itself(how))
        world.advance(1)
        assert log == expected
        assert task.cancelled


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_task_can_be_cancelled_at_every_event(error: BaseException | None) -> None:
    """Wherever it is cancelled, it ends, its stream is closed, and no late event disturbs."""

    def program(world: World, signal: ops.Signal) -> ops.Program[None]:
        (address,) = yield ops.Resolve("10.0.0.1", 80, inf)
        stream = yield ops.Connect(address, world.now + 5)
        try:
            yield ops.Send(stream, b"one", world.now + 5)
            yield ops.Receive(stream, 2, world.now + 5)
            yield ops.ReceiveInto(stream, memoryview(bytearray(5)), world.now + 5)
            yield ops.RoundTrip(stream, bytes(600_000), 1000, world.now + 5)
            yield ops.All([ask(ops.Sleep(world.now + 1)), ask(ops.Wait(signal, inf))])
            yield ops.First([ask(ops.Sleep(world.now + 1)), ask(ops.Sleep(inf))])
            yield ops.Invoke(int)
        finally:
            stream.close()

    for point in range(200):
        echoes = Echoes()
        world, signal = echoes.world, ops.Signal()
        Network(world, 0.1)
        world.names["10.0.0.1"] = ["10.0.0.1"]
        world.at(3, signal.fire)
        task = world.start(program(world, signal))
        for _ in range(point):
            if not task.done:
                world.happen()
        finished = task.done
        task.cancel(error)
        assert task.done
        world.advance(100)
        assert all(peer.over == [None] for peer in echoes.peers)
        assert signal._listener is None
        if finished:
            assert task.result() is None
            assert point > 20
            return
        assert task.cancelled == (error is None)
        assert task.error is error
    raise AssertionError("it never ended")


def test_bytes_arrive_in_order_and_late(echoes: Echoes) -> None:
    """Each way takes its delay; later and faster bytes do not overtake."""
    world = echoes.world
    delays = iter([0.5, 0.1, 0.0, *[0.2] * 20])

    class Uneven:
        bandwidth = inf

        def delay(self, source: str, target: str, size: int, again: float) -> float:
            return next(delays) if size else 0.0

        def refuses(self, source: str, target: str) -> bool:
            return False

    world.network = Uneven()
    stream = echoes.connect()

    def program() -> ops.Program[bytes]:
        for piece in (b"a", b"b", b"c"):
            yield ops.Send(stream, piece, inf)
        got = b""
        while len(got) < 3:
            got += yield ops.Receive(stream, 10, inf)
        return got

    assert world.run(program()) == b"abc"
    assert echoes.peers[0].got == b"abc"
    assert world.now == pytest.approx(0.7)


def test_a_peer_that_does_not_read_holds_the_program_back(echoes: Echoes) -> None:
    """Send waits once so much is unread, and goes on when the peer reads again."""
    world = echoes.world
    stream = echoes.connect()
    echoes.peers[0].connection.pause()
    sending = world.start(ask(ops.Send(stream, bytes(1_000_000), inf)))
    world.advance(1)
    assert not sending.done
    assert echoes.peers[0].got == b""
    echoes.peers[0].connection.resume()
    world.advance(1)
    assert sending.result() is None
    assert len(echoes.peers[0].got) == 1_000_000


def test_both_ends_hear_of_a_close(echoes: Echoes) -> None:
    """A close is the end of the stream there, after what was sent; sending then is a reset."""
    world = echoes.world
    stream = echoes.connect()
    peer = echoes.peers[0]
    peer.connection.send(b"last")
    peer.connection.close()
    assert stream.usable(inf)
    world.advance(0)
    assert not stream.usable(0)
    assert world.run(ask(ops.Receive(stream, 2, inf))) == b"la"
    assert world.run(ask(ops.Receive(stream, 9, inf))) == b"st"
    assert world.run(ask(ops.Receive(stream, 9, inf))) == b""
    world.run(ask(ops.Send(stream, b"x", inf)))
    world.advance(0)
    for operation in (ops.Send(stream, b"x", inf), ops.Receive(stream, 9, inf)):
        with pytest.raises(ConnectionResetError):
            world.run(ask(operation))
    stream.close()
    with pytest.raises(OSError, match="Bad file"):
        world.run(ask(ops.Send(stream, b"x", inf)))
    other = echoes.connect()
    other.close()
    other.close()
    world.advance(0)
    assert echoes.peers[1].over == [None]


def test_a_waiting_program_hears_of_a_reset(echoes: Echoes) -> None:
    """A reset ends a wait, to receive and to send, at once."""
    world = echoes.world
    for operation in (ops.Receive, ops.Send):
        stream = echoes.connect()
        connection = echoes.peers[-1].connection
        connection.pause()
        asked = ops.Send(stream, bytes(1 << 20), inf)
        task = world.start(ask(asked if operation is ops.Send else ops.Receive(stream, 1, inf)))
        world.advance(1)
        connection.reset()
        world.advance(0)
        with pytest.raises(ConnectionResetError):
            task.result()


def test_a_partition_is_silence_and_heals(echoes: Echoes) -> None:
    """What was sent meanwhile arrives when TCP repeats it; nothing is lost or doubled."""
    world = echoes.world
    network = Network(world, 0.01)
    stream = echoes.connect()
    network.partition(["10.0.0.1:80"])
    with pytest.raises(TimeoutError):
        world.run(ask(ops.RoundTrip(stream, b"one", 10, world.now + 2)))
    waiting = world.start(ask(ops.Receive(stream, 10, inf)))
    world.run(ask(ops.Send(stream, b"two", inf)))
    assert echoes.peers[0].got == b""
    world.run_until(10)
    network.heal()
    world.run_until(20)
    assert waiting.result() == b"one"
    assert echoes.peers[0].got == b"onetwo"


def test_a_partition_that_stays_breaks_the_connection(echoes: Echoes) -> None:
    """TCP gives up after about a quarter of an hour, and so does a connect after two minutes."""
    world = echoes.world
    network = Network(world)
    stream = echoes.connect()
    network.partition(["client"])
    with pytest.raises(TimeoutError) as caught:
        world.run(ask(ops.RoundTrip(stream, b"one", 10, inf)))
    assert caught.value.errno == errno.ETIMEDOUT
    assert 900 < world.now < 1000
    began = world.now
    with pytest.raises(TimeoutError) as caught:
        world.run(ask(ops.Connect(ADDRESS, inf)))
    assert caught.value.errno == errno.ETIMEDOUT
    assert world.now - began == pytest.approx(127)


def test_a_connect_is_repeated_until_it_is_heard(echoes: Echoes) -> None:
    """A SYN that is lost is sent again after 1, 3, 7 … seconds."""
    world = echoes.world
    network = Network(world)
    network.partition(["client"])
    world.at(2.5, network.heal)
    world.run(ask(ops.Connect(ADDRESS, inf)))
    assert world.now == 3


@pytest.mark.parametrize("silent", [False, True])
def test_a_crash_is_seen_as_it_is_in_life(silent: bool) -> None:
    """A process that dies resets and refuses; a machine that dies is silent until it is back."""
    world = World()
    host = Host(world, "10.0.0.1:80", Reply(after=5))
    task = world.start(exchange(inf))
    world.advance(1)
    stream: Any = task.operation.stream
    host.crash(silent)
    world.advance(10)
    assert task.done == (not silent)
    fresh = world.start(exchange(world.now + 1))
    world.advance(2)
    with pytest.raises(TimeoutError if silent else ConnectionRefusedError):
        fresh.result()
    if silent:
        task.cancel()
        sending = world.start(ask(ops.RoundTrip(stream, GET, 10, inf)))
        world.advance(1)
        assert not sending.done
        host.restart()
        world.advance(5)
        with pytest.raises(ConnectionResetError):  # the machine knows nothing of the connection
            sending.result()
    else:
        with pytest.raises(ConnectionResetError):
            task.result()
        host.restart()
    assert world.run(exchange(inf))


def test_names_are_looked_up(echoes: Echoes) -> None:
    """A name has the addresses that the world says, or is one itself when it listens."""
    world = echoes.world
    world.names["db"] = ["10.0.0.7", "::1"]
    found = world.run(ask(ops.Resolve("db", 5432, inf)))
    assert found == [(2, ("10.0.0.7", 5432)), (10, ("::1", 5432))]
    Host(world, "web:80")
    Host(world, "[::1]:80")
    Host(world, "unix:/run/web")
    (address,) = world.run(ask(ops.Resolve("web", 80, inf)))
    for place in (address, (10, ("::1", 80)), (1, "/run/web")):
        assert world.run(ask(ops.Connect(place, inf))).usable(0)
    with pytest.raises(OSError, match="not known"):
        world.run(ask(ops.Resolve("nobody", 80, inf)))
    with pytest.raises(FileNotFoundError):
        world.run(ask(ops.Connect((1, "/run/none"), inf)))
    with pytest.raises(OSError, match="in use"):
        world.listen("web:80", Echo)


def history(seed: int) -> list[str]:
    """Return everything that happens in a small world of misfortune."""
    lines: list[str] = []
    world = World(seed, history=lines.append)
    network = Network(world, Exponential(0.01), loss=0.1)
    names = [f"10.0.0.{number}:80" for number in range(1, 4)]
    hosts = [Host(world, name, Service(Exponential(0.05), 1, 1, errors=0.2)) for name in names]

    def call() -> ops.Program[None]:
        place = ("10.0.0." + str(1 + int(world.random() * 3)), 80)
        stream = yield ops.Connect((2, place), world.now + 0.5)
        try:
            yield ops.First(
                [
                    ask(ops.RoundTrip(stream, GET, 1 << 16, world.now + 0.2)),
                    ask(ops.Sleep(world.now + 0.1 + world.random() / 10)),
                ]
            )
        finally:
            stream.close()

    for number in range(100):
        world.at(number / 50, world.start, call())
    world.at(0.5, hosts[0].crash, True)
    world.at(0.7, network.partition, [names[1]])
    world.at(1, hosts[0].restart)
    world.at(1.1, network.heal)
    world.run_until(60)
    assert sum(host.requests for host in hosts) > 30
    return lines


@given(seed=st.integers(0, 5))
def test_the_same_seed_gives_the_same_history(seed: int) -> None:
    """Byte for byte, and another seed another one."""
    lines = history(seed)
    assert history(seed) == lines
    assert history(seed + 1) != lines
    assert not any(" at 0x" in line for line in lines)


def test_awaited_programs_share_one_time() -> None:
    """Programs awaited at the same time run at the same time, and time waits for the loop."""
    world = World()

    async def steps() -> list[float]:
        times = []
        for _ in range(3):
            await world.arun(ask(ops.Sleep(world.now + 1)))
            times.append(world.now)
            await asyncio.sleep(0)
        return times

    async def main() -> None:
        assert list(await asyncio.gather(steps(), steps())) == [[1, 2, 3]] * 2

    asyncio.run(main())
    asyncio.run(main2(world))


async def main2(world: World) -> None:
    """A world outlives an event loop."""
    began = world.now
    await world.arun(ask(ops.Sleep(world.now + 10)))
    assert world.now == began + 10


def test_an_awaited_program_can_be_cancelled() -> None:
    """Cancelling the task closes the program and leaves the others alone."""
    world = World()
    log: list[Any] = []

    async def main() -> None:
        long = asyncio.ensure_future(world.arun(nap(world, 100, log)))
        assert await world.arun(nap(world, 1, log)) == 1
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        assert world.now == 1
        with pytest.raises(EndlessWait, match="waits in Wait"):
            await world.arun(ask(ops.Wait(ops.Signal(), inf)))

    asyncio.run(main())
    assert log == [1]


@pytest.mark.parametrize("wrong", [False, True])
def test_what_a_function_returns_is_awaited(wrong: bool) -> None:
    """A coroutine may itself await the world, or the event loop; its error is the program's."""
    world = World()

    async def half(number: int) -> int:
        await asyncio.sleep(0.003)
        await world.arun(ask(ops.Sleep(world.now + 5)))
        if wrong:
            raise ValueError("odd")
        return number // 2

    async def main() -> None:
        if wrong:
            with pytest.raises(ValueError, match="odd"):
                await world.arun(ask(ops.Invoke(half, 4)))
        else:
            assert await world.arun(ask(ops.Invoke(half, 4))) == 2
        assert world.now == 5
        with pytest.raises(TimeoutError):
            await world.arun(ask(ops.Invoke(half, 4, deadline=world.now + 1)))

    asyncio.run(main())


def test_other_parts_draw_their_own_numbers() -> None:
    """What one part of a world draws changes nothing for another."""
    one, other = World(3), World(3)
    one.randomness("a").random()
    assert one.random() == other.random()
    assert one.randomness("b").random() == other.randomness("b").random()
    assert World(4).random() != World(3).random()


def test_what_is_sent_at_once_shares_the_bandwidth() -> None:
    """A piece goes when those before it have gone: five of a second each take five seconds."""
    world = World()
    Network(world, latency=0.25, bandwidth=1000)
    pieces = [(0.0, b"x" * 1000)] * 5
    Host(world, "10.0.0.1:80", Reply(pieces=pieces))

    def program() -> ops.Program[int]:
        stream = yield ops.Connect(ADDRESS, inf)
        yield ops.Send(stream, GET, inf)
        got = 0
        while got < 5000:
            data: bytes = yield ops.Receive(stream, 1 << 16, inf)
            got += data.count(b"x")
        return got

    assert world.run(program()) == 5000
    assert world.now == pytest.approx(5.0 + 4 * 0.25, abs=0.1)


def test_a_lost_syn_is_repeated_after_a_second() -> None:
    """As Linux does it: who connects knows no round trip yet, and waits longer."""
    world = World(seed=1)
    Network(world, latency=0.01, loss=0.5)
    Host(world, "10.0.0.1:80")
    took = set()
    for _ in range(50):
        began = world.now
        world.run(connect()).close()
        took.add(round(world.now - began, 2))
    assert {0.02, 1.02} <= took
    assert all(seconds % 1 == pytest.approx(0.02) for seconds in took)


def connect() -> ops.Program[Any]:
    """Connect and return the stream."""
    return (yield ops.Connect(ADDRESS, inf))


def test_ended_programs_are_not_kept_until_their_deadline() -> None:
    """However far away deadlines are, a long run needs no more memory than a short one."""
    world = World()
    host = Host(world, "10.0.0.1:80")

    def call() -> ops.Program[None]:
        stream = yield ops.Connect(ADDRESS, inf)
        yield ops.RoundTrip(stream, GET, 1 << 16, 1e9)
        stream.close()

    for _ in range(10_000):
        world.run(call())
    assert host.served == 10_000
    assert int(repr(world).split()[4]) < 3000


def test_time_does_not_go_back() -> None:
    """To advance by less than nothing is refused."""
    with pytest.raises(ValueError, match="seconds must be 0 or more, not -1"):
        World().advance(-1)


def test_programs_of_several_threads_follow_each_other() -> None:
    """Threads that run programs in one world get the answers that are theirs."""
    world = World()
    Host(world, "10.0.0.1:80", lambda asked: Reply(body=asked.target.encode(), after=1.0))

    def call(number: int) -> ops.Program[bytes]:
        stream = yield ops.Connect(ADDRESS, inf)
        answer: bytes = yield ops.RoundTrip(stream, b"GET /%d HTTP/1.1\r\n\r\n" % number, 999, inf)
        stream.close()
        return answer.partition(b"\r\n\r\n")[2]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: world.run(call(number)), range(400)))
    assert answers == [b"/%d" % number for number in range(400)]
    assert world.now == 400
