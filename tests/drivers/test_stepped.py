"""The stepped driver: turns, time that is given, and nothing that waits."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from math import inf
from typing import Any

import pytest

from holdfast import AsyncCluster, Cluster, Policy, ops
from holdfast.drivers.stepped import Stepper, Task
from tests.conformance.peers import Listening, between, in_thread, left_open, sockets_open
from tests.conformance.test_interruption import OPTIONS, Counted, calls, is_idle, kept
from tests.conformance.test_together import Diary, ask, at_once
from tests.drivers.patience import impatient
from tests.servers import EchoServer
from tests.servers.ports import unanswering_address


class Time:
    """A time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    """A time that stands at 0."""
    return Time()


@pytest.fixture
def stepper(time: Time) -> Iterator[Stepper]:
    """A stepper in that time."""
    with Stepper(time) as stepper:
        yield stepper


@pytest.fixture
def listening() -> Iterator[Listening]:
    """A listening TCP socket."""
    with Listening(socket.AF_INET, ("127.0.0.1", 0)) as listening:
        yield listening


def serviced(stepper: Stepper, until: Callable[[], Any]) -> None:
    """Service until something is so; what comes from outside may take its time."""
    for _ in range(1_000_000):
        if until():
            return
        stepper.service()
        select.select((), (), (), 0)  # lets other threads run
    raise AssertionError("it never came")


def over(stepper: Stepper, task: Task[Any]) -> Any:
    """Service until a task is over, and return its result."""
    serviced(stepper, lambda: task.done)
    return task.result()


# Turns.


def test_a_program_runs_in_turns_only(stepper: Stepper) -> None:
    """Nothing of a program happens at its start, nor further than to where it waits."""
    done: list[int] = []
    signals = [ops.Signal() for _ in range(3)]

    def program() -> ops.Program[str]:
        for number, signal in enumerate(signals):
            done.append(number)
            yield ops.Wait(signal, inf)
        return "over"

    task = stepper.start(program())
    assert done == []
    for number, signal in enumerate(signals):
        stepper.service()
        stepper.service()
        assert done == list(range(number + 1))
        assert not task.done
        signal.fire()
    stepper.service()
    assert task.done
    assert task.result() == "over"
    assert len(stepper) == 0


def test_a_result_is_not_there_before_its_time(stepper: Stepper) -> None:
    """Asking a task for its result too early is an error, which leaves it as it is."""
    task = stepper.start(at_once(5))
    with pytest.raises(RuntimeError, match="not over"):
        task.result()
    stepper.service()
    assert task.result() == 5
    assert task.result() == 5


def test_a_greedy_program_has_its_share_and_no_more(stepper: Stepper) -> None:
    """A program that never waits does some operations a turn, and others get theirs."""
    greedy: list[int] = []
    modest: list[int] = []

    def grabs() -> ops.Program[None]:
        while True:
            yield ops.Invoke(greedy.append, 1)

    def naps() -> ops.Program[None]:
        while True:
            yield ops.Sleep(-inf)
            modest.append(1)

    stepper.start(grabs())
    stepper.start(naps())
    for turn in range(1, 11):
        stepper.service()
        assert 0 < len(greedy) <= 100 * turn
    assert len(modest) == 9


def test_a_greedy_receiver_has_its_share_and_no_more(
    stepper: Stepper, listening: Listening
) -> None:
    """Bytes that come faster than they are taken do not hold up a turn."""
    received: list[int] = []
    enough = threading.Event()

    def floods(peer: socket.socket) -> None:
        try:
            while not enough.is_set():
                peer.sendall(bytes(1 << 16))
        except OSError:
            pass

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        in_thread(lambda: floods(peer))
        while True:
            received.append(len((yield ops.Receive(stream, 1 << 16, inf))))

    task = stepper.start(between(listening, talk))
    before = 0
    for _ in range(200):
        stepper.service()
        assert len(received) - before <= 100
        before = len(received)
    enough.set()
    task.cancel()


def test_a_program_that_starts_another_has_it_run_from_the_next_turn(stepper: Stepper) -> None:
    """A turn does not grow while it is taken."""
    order: list[int] = []

    def begets(number: int) -> ops.Program[None]:
        order.append(number)
        stepper.start(begets(number + 1))
        yield ops.Sleep(inf)

    stepper.start(begets(0))
    for turn in range(5):
        stepper.service()
        assert order == list(range(turn + 1))


def test_a_turn_has_no_turns_of_its_own(stepper: Stepper) -> None:
    """A program that services who runs it is told so."""

    def program() -> ops.Program[None]:
        yield ops.Invoke(stepper.service)

    task = stepper.start(program())
    stepper.service()
    with pytest.raises(RuntimeError, match="program that it is running"):
        task.result()


def test_what_a_function_returns_is_not_awaited(stepper: Stepper) -> None:
    """As in the blocking driver, a coroutine is a result like any other."""

    async def nobody() -> None: ...

    def program() -> ops.Program[Any]:
        return (yield ops.Invoke(nobody))

    task = stepper.start(program())
    stepper.service()
    coroutine = task.result()
    assert coroutine.cr_frame is not None
    coroutine.close()


# Time.


def test_time_is_what_the_clock_says(stepper: Stepper, time: Time) -> None:
    """A sleep ends when the clock is there, in however many turns."""
    task = stepper.start(ask(ops.Sleep(3600.0)))
    for _ in range(100):
        stepper.service()
    assert not task.done
    time.now = 3599.9
    stepper.service()
    assert not task.done
    time.now = 3600.0
    stepper.service()
    assert task.done


def test_a_deadline_is_one_of_the_clock(stepper: Stepper, time: Time, listening: Listening) -> None:
    """A wait for a socket, and one for a signal, end when the clock is at their deadline."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        yield ops.Receive(stream, 1, 100.0)

    never = ops.Signal()
    tasks = [
        stepper.start(between(listening, talk)),
        stepper.start(ask(ops.Wait(never, 100.0))),
        stepper.start(ask(ops.Resolve("hangs.invalid", 80, 0.0))),
    ]
    serviced(stepper, lambda: stepper.due == 100.0)
    assert [task.done for task in tasks] == [False, False, True]
    time.now = 100.0
    serviced(stepper, lambda: all(task.done for task in tasks))
    for task in tasks[:2]:
        with pytest.raises(TimeoutError):
            task.result()
    assert never._listener is None


def test_a_long_time_takes_a_short_one(stepper: Stepper, time: Time) -> None:
    """A clock that jumps to when something is due runs a day of sleeps at once."""
    woken: list[float] = []

    def program(every: float) -> ops.Program[None]:
        while time.now < 86400.0:
            yield ops.Sleep(time.now + every)
            woken.append(time.now)

    tasks = [stepper.start(program(every)) for every in (60.0, 3600.0)]
    while not all(task.done for task in tasks):
        time.now = max(time.now, stepper.due)
        stepper.service()
    assert len(woken) == 1440 + 24
    assert woken == sorted(woken)
    assert stepper.due == inf


def test_what_is_due_at_once_is_due_before_any_time(stepper: Stepper) -> None:
    """A program that can go on, or whose signal was fired, is due now."""
    assert stepper.due == inf
    signal = ops.Signal()
    stepper.start(ask(ops.Wait(signal, 10.0)))
    assert stepper.due == -inf
    stepper.service()
    assert stepper.due == 10.0
    signal.fire()
    assert stepper.due == -inf


def test_deadlines_that_were_met_are_forgotten(stepper: Stepper) -> None:
    """A program that waits again and again does not fill the memory with its deadlines."""

    def program() -> ops.Program[None]:
        for _ in range(5000):
            signal = ops.Signal()
            yield ops.Invoke(fired.append, signal)
            yield ops.Wait(signal, 1e9)

    fired: list[ops.Signal] = []
    task = stepper.start(program())
    while not task.done:
        stepper.service()
        for signal in fired:
            signal.fire()
        fired.clear()
    assert len(stepper._turns._deadlines) < 200


# What waits.


def test_nothing_waits(time: Time, listening: Listening) -> None:
    """Whatever programs wait for, a turn does not."""
    with unanswering_address() as nobody, impatient() as patience, Stepper(time) as stepper:

        def sends(stream: Any, peer: Any) -> ops.Program[None]:
            yield ops.Send(stream, bytes(16 << 20), 50.0)

        def receives(stream: Any, peer: Any) -> ops.Program[None]:
            yield ops.Receive(stream, 10, 50.0)

        def fills(stream: Any, peer: Any) -> ops.Program[None]:
            yield ops.ReceiveInto(stream, memoryview(bytearray(10)), 50.0)

        def asks(stream: Any, peer: Any) -> ops.Program[None]:
            yield ops.RoundTrip(stream, b"question", 10, 50.0)

        def uses(stream: Any, peer: Any) -> ops.Program[bool]:
            yield ops.Send(stream, b"x", 50.0)
            assert stream.usable(inf)
            raise TimeoutError

        def with_stream(talk: Any) -> ops.Program[Any]:
            stream = yield ops.Connect(listening.address, 50.0)
            try:
                return (yield from talk(stream, None))
            finally:
                stream.close()

        programs = [with_stream(talk) for talk in (sends, receives, fills, asks, uses)]
        programs += [
            ask(ops.Connect((socket.AF_INET, nobody), 50.0)),
            ask(ops.Wait(ops.Signal(), 50.0)),
            ask(ops.All([ask(ops.Wait(ops.Signal(), 50.0))])),
        ]
        asleep = stepper.start(ask(ops.Sleep(inf)))
        tasks = [stepper.start(program) for program in programs]
        for _ in range(1000):
            stepper.service()
        waiting = [task for task in tasks if not task.done]
        assert len(waiting) == 7
        time.now = 50.0
        for _ in range(10):
            stepper.service()
        assert all(task.done for task in tasks)
        assert not asleep.done
        assert patience.counts["select"] <= 1010
        assert patience.counts["recv"] < 100


def test_a_turn_looks_at_all_sockets_at_once(time: Time, listening: Listening) -> None:
    """Many streams cost a turn one system call, and no stream none."""

    def program() -> ops.Program[None]:
        stream = yield ops.Connect(listening.address, inf)
        try:
            yield ops.Receive(stream, 1, inf)
        finally:
            stream.close()

    with impatient() as patience, Stepper(time) as stepper:
        stepper.start(ask(ops.Sleep(inf)))
        stepper.start(ask(ops.Wait(ops.Signal(), inf)))
        for _ in range(10):
            stepper.service()
        assert not patience.counts
        for _ in range(50):
            stepper.start(program())
        for _ in range(10):
            stepper.service()
        patience.counts.clear()
        for _ in range(10):
            stepper.service()
        assert patience.counts == {"select": 10}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "::1", "192.0.2.1"])
def test_known_hosts_need_no_look_up(stepper: Stepper, host: str) -> None:
    """An address, or this machine, is found without a thread and without a wait."""
    before = threading.active_count()
    with impatient():
        task = stepper.start(ask(ops.Resolve(host, 80, 1.0)))
        stepper.service()
        found: list[Any] = task.result()
    assert threading.active_count() == before
    assert all(address[1] == 80 for _, address in found)
    if "localhost" in host.lower():
        host = "127.0.0.1"
    assert found[0][1][0] == host


def test_a_host_that_has_to_be_looked_up_does_not_hold_up_a_turn(
    stepper: Stepper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that takes its time takes it elsewhere."""
    gate = threading.Event()

    def slow(*arguments: Any, **keywords: Any) -> list[Any]:
        gate.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.7", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    task = stepper.start(ask(ops.Resolve("slow.invalid", 80, inf)))
    for _ in range(10):
        stepper.service()
    assert not task.done
    gate.set()
    assert over(stepper, task) == [(socket.AF_INET, ("192.0.2.7", 80))]


def test_signals_of_other_threads_are_heard_without_a_socket(stepper: Stepper) -> None:
    """A signal that another thread fires is seen in the next turn."""
    before = sockets_open()
    signals = [ops.Signal() for _ in range(20)]
    tasks = [stepper.start(ask(ops.Wait(signal, inf))) for signal in signals]
    stepper.service()
    assert not left_open(before)
    for signal in signals:
        in_thread(signal.fire).join(10)
    stepper.service()
    assert all(task.done for task in tasks)


# The end.


def endless(kind: str, listening: Listening, nobody: Any) -> ops.Program[Any]:
    """Return a program that waits for ever in one way."""
    never = ops.Signal()

    def sends(stream: Any, peer: Any) -> ops.Program[None]:
        yield ops.Send(stream, bytes(16 << 20), inf)

    def receives(stream: Any, peer: Any) -> ops.Program[None]:
        yield ops.Receive(stream, 10, inf)

    def asks(stream: Any, peer: Any) -> ops.Program[None]:
        yield ops.RoundTrip(stream, b"question", 10, inf)

    def busy() -> ops.Program[None]:
        while True:
            yield ops.Invoke(int)

    ways: dict[str, Callable[[], ops.Program[Any]]] = {
        "connect": lambda: ask(ops.Connect((socket.AF_INET, nobody), inf)),
        "send": lambda: between(listening, sends),
        "receive": lambda: between(listening, receives),
        "round trip": lambda: between(listening, asks),
        "sleep": lambda: ask(ops.Sleep(inf)),
        "wait": lambda: ask(ops.Wait(never, inf)),
        "busy": busy,
        "all": lambda: ask(
            ops.All([between(listening, sends), ask(ops.First([between(listening, receives)]))])
        ),
    }
    return ways[kind]()


KINDS = ["connect", "send", "receive", "round trip", "sleep", "wait", "busy", "all"]


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_program_gives_everything_back(
    kind: str, turns: int, listening: Listening, time: Time
) -> None:
    """Whenever a program is cancelled, nothing of it is left when that returns."""
    tidy: list[bool] = []

    def program() -> ops.Program[Any]:
        try:
            return (yield from endless(kind, listening, nobody))
        finally:
            tidy.append(True)

    with unanswering_address() as nobody, Stepper(time) as stepper:
        other = stepper.start(ask(ops.Wait(ops.Signal(), inf)))
        before = sockets_open()
        task = stepper.start(program())
        for _ in range(turns):
            stepper.service()
        task.cancel()
        assert task.done
        assert task.cancelled
        assert tidy == [True] * (turns > 0)
        listening.close_accepted()
        assert not left_open(before)
        with pytest.raises(CancelledError):
            task.result()
        task.cancel()
        stepper.service()
        assert len(stepper) == 1
        assert not other.done


@pytest.mark.parametrize("kind", KINDS)
def test_closing_gives_everything_back(kind: str, listening: Listening) -> None:
    """A stepper that is closed has ended its programs, and holds no descriptor."""
    with unanswering_address() as nobody:
        before = len(os.listdir("/proc/self/fd"))
        stepper = Stepper()
        tasks = [stepper.start(endless(kind, listening, nobody)) for _ in range(3)]
        for _ in range(5):
            stepper.service()
        stepper.close()
        assert all(task.cancelled for task in tasks)
        listening.close_accepted()
        assert len(os.listdir("/proc/self/fd")) == before
        stepper.close()
        stepper.service()
        assert over(stepper, stepper.start(at_once("again"))) == "again"


def test_a_program_that_is_over_stays_so(stepper: Stepper) -> None:
    """Cancelling what returned or raised changes nothing."""
    tasks = [stepper.start(at_once("result")), stepper.start(at_once(ValueError("raised")))]
    stepper.service()
    for task in tasks:
        task.cancel()
        assert not task.cancelled
    assert tasks[0].result() == "result"
    with pytest.raises(ValueError, match="raised"):
        tasks[1].result()


def test_a_program_may_cancel_itself(stepper: Stepper) -> None:
    """A program that cancels its own task is closed where it next waits."""
    entries: list[str] = []

    def program() -> ops.Program[None]:
        try:
            yield ops.Invoke(task.cancel)
            entries.append("goes on")
            yield ops.Sleep(inf)
            entries.append("never")
        finally:
            entries.append("tidy")

    task = stepper.start(ask(ops.All([program()])))
    stepper.service()
    stepper.service()
    assert entries == ["goes on", "tidy"]
    assert task.cancelled


def test_a_program_may_cancel_another(stepper: Stepper, diary: Diary) -> None:
    """Another program is closed at once, also one that is ready."""
    sleeper = stepper.start(diary.sleeper("sleeper", inf))
    stepper.service()

    def program() -> ops.Program[list[str]]:
        ready = stepper.start(diary.sleeper("ready", inf))
        yield ops.Invoke(ready.cancel)
        yield ops.Invoke(sleeper.cancel)
        return list(diary.entries)

    task = stepper.start(program())
    stepper.service()
    assert task.result() == ["sleeper closed", "sleeper tidy"]


def test_a_program_may_close_the_stepper(time: Time) -> None:
    """Closing from within ends the others at once, and this one where it next waits."""
    before = len(os.listdir("/proc/self/fd"))
    stepper = Stepper(time)
    other = stepper.start(ask(ops.Sleep(inf)))

    def program() -> ops.Program[None]:
        yield ops.Invoke(stepper.close)
        assert other.cancelled
        yield ops.Wait(ops.Signal(), inf)

    task = stepper.start(program())
    stepper.service()
    assert task.cancelled
    assert len(stepper) == 0
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def diary() -> Diary:
    """An empty diary."""
    return Diary()


# Errors.


def test_what_a_program_raises_is_its_own(stepper: Stepper) -> None:
    """An error is in its task; the loop and the other programs go on."""
    bad = stepper.start(at_once(ValueError("bad")))
    signal = ops.Signal()
    good = stepper.start(ask(ops.Wait(signal, inf)))
    stepper.service()
    with pytest.raises(ValueError, match="bad"):
        bad.result()
    signal.fire()
    stepper.service()
    assert good.result() is None


@pytest.mark.parametrize("together", [False, True])
def test_an_interrupt_reaches_the_caller(stepper: Stepper, together: bool) -> None:
    """KeyboardInterrupt ends the program that it meets, leaves `service`, and harms no other."""
    tidy: list[int] = []

    def interrupts() -> None:
        raise KeyboardInterrupt

    def program(number: int) -> ops.Program[None]:
        try:
            yield ops.Sleep(-inf)
            yield ops.Invoke(interrupts) if number == 1 else ops.Sleep(inf)
        finally:
            tidy.append(number)

    programs = [program(number) for number in range(3)]
    task = stepper.start(ask(ops.All(programs)) if together else programs[1])
    signal = ops.Signal()
    other = stepper.start(ask(ops.Wait(signal, inf)))
    with pytest.raises(KeyboardInterrupt):
        serviced(stepper, lambda: False)
    assert sorted(tidy) == ([0, 1, 2] if together else [1])
    assert task.done
    with pytest.raises(KeyboardInterrupt):
        task.result()
    signal.fire()
    stepper.service()
    assert other.done


# Programs of others.


def test_tasks_are_nested_and_side_by_side(stepper: Stepper, time: Time) -> None:
    """Several outermost programs, each with groups in groups, do not disturb one another."""

    def naps(seconds: float, value: Any) -> ops.Program[Any]:
        yield ops.Sleep(time.now + seconds)
        return value

    def both(base: int) -> ops.Program[Any]:
        first = yield ops.First([naps(base + 2, "slow"), naps(base + 1, "fast")])
        every = yield ops.All([naps(1, 1), ask(ops.All([naps(2, 2), naps(1, 3)]))])
        return first, every

    tasks = [stepper.start(both(base)) for base in range(5)]
    while not all(task.done for task in tasks):
        time.now = max(time.now, stepper.due)
        stepper.service()
    assert [task.result() for task in tasks] == [((1, "fast"), [1, [2, 3]])] * 5


def test_it_drives_a_cluster(echo: EchoServer) -> None:
    """The methods of a cluster return tasks."""
    with Stepper() as stepper, Cluster([echo.address], driver=stepper) as cluster:
        tasks: list[Any] = [cluster.get(f"/{number}") for number in range(10)]
        responses = [over(stepper, task) for task in tasks]
        assert [response.json()["path"] for response in responses] == [f"/{n}" for n in range(10)]
        everyone: Any = cluster.broadcast("GET", "/all")
        assert [response.status_code for response in over(stepper, everyone)] == [200]
        with pytest.raises(TypeError, match="blocks"):
            cluster.stream("GET", "/")


def test_it_drives_no_asynchronous_cluster(echo: EchoServer) -> None:
    """A coroutine has an event loop, and the error says what to do."""
    cluster = AsyncCluster([echo.address], driver=Stepper())
    coroutine = cluster.get("/")
    with pytest.raises(TypeError, match="drives a Cluster"):
        coroutine.send(None)


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_call_is_cancelled_at_every_operation(kind: str, echo: EchoServer) -> None:
    """Whenever a call is cancelled, nothing of it stays open or taken."""
    before = sockets_open()
    tasks: list[Task[Any]] = []
    stop_at = 1
    while True:
        with (
            Stepper() as stepper,
            Cluster([echo.address], policy=Policy(retry=None), driver=stepper) as cluster,
        ):
            counted = Counted(calls(cluster, kind), stop_at, lambda: tasks[-1].cancel())
            tasks.append(stepper.start(counted.run()))
            serviced(stepper, lambda: tasks[-1].done)
            assert is_idle(cluster)
            assert kept(cluster) <= 1
        echo.wait_for(lambda: echo.open_connections == 0)
        assert not left_open(before)
        if counted.count < stop_at:
            break
        stop_at += 1
    assert stop_at > 3
