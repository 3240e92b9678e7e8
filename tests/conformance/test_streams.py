"""Connect, Send, Receive, ReceiveInto and Stream, through every driver."""

from __future__ import annotations

import errno
import hashlib
import socket
import struct
import threading
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest

from holdfast import ops
from tests.conformance.drivers import Run, monotonic, real
from tests.conformance.peers import (
    SHORT,
    Listening,
    between,
    in_thread,
    later,
    left_open,
    received,
    sockets_open,
    times_out,
)
from tests.conformance.simulated import SimulatedSocket
from tests.servers.messages import pattern
from tests.servers.ports import unanswering_address

BIG = 8 << 20


@real
@pytest.mark.parametrize("family", ["IPv4", "IPv6", "Unix"])
def test_a_stream_carries_bytes_both_ways(run: Run, family: str, tmp_path: Path) -> None:
    """A stream to any kind of address sends and receives, and ends when it is closed."""
    kind, address = {
        "IPv4": (socket.AF_INET, ("127.0.0.1", 0)),
        "IPv6": (socket.AF_INET6, ("::1", 0)),
        "Unix": (socket.AF_UNIX, str(tmp_path / "socket")),
    }[family]

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        assert (yield ops.Send(stream, b"question", inf)) is None
        assert peer.recv(100) == b"question"
        peer.sendall(b"answer")
        assert (yield from received(stream, 6)) == b"answer"
        ends.append(peer)

    ends: list[socket.socket] = []
    with Listening(kind, address) as listening:
        run(between(listening, talk))
        assert ends[0].recv(100) == b""


@real
def test_small_packets_are_not_held_back(run: Run, listening: Listening) -> None:
    """TCP streams have Nagle's algorithm turned off."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        yield ops.Send(stream, b"x", inf)
        assert _socket_of(stream).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(between(listening, talk))


def _socket_of(stream: Any) -> Any:
    if hasattr(stream, "sock"):
        return stream.sock
    transport = stream._transport
    if hasattr(transport, "getHandle"):
        return transport.getHandle()
    return transport.get_extra_info("socket")


def test_a_refused_connection_is_an_os_error(run: Run, refusing: tuple[str, int]) -> None:
    """A port where nobody listens raises ConnectionRefusedError into the program."""

    def program() -> ops.Program[str]:
        try:
            yield ops.Connect((socket.AF_INET, refusing), monotonic() + 10)
        except ConnectionRefusedError as error:
            return str(error)
        raise AssertionError("connected")

    before = sockets_open()
    assert "efused" in run(program())
    assert not left_open(before)


def test_a_missing_unix_socket_is_an_os_error(run: Run, tmp_path: Path) -> None:
    """The path of no socket raises FileNotFoundError."""

    def program() -> ops.Program[Any]:
        return (yield ops.Connect((socket.AF_UNIX, str(tmp_path / "none")), monotonic() + 10))

    before = sockets_open()
    with pytest.raises(FileNotFoundError):
        run(program())
    assert not left_open(before)


@real
def test_a_full_unix_queue_is_no_connection(run: Run, tmp_path: Path) -> None:
    """A Unix socket whose queue is full, which the kernel does not wait for, is an OSError."""
    path = str(tmp_path / "socket")

    def program() -> ops.Program[Any]:
        stream = yield ops.Connect((socket.AF_UNIX, path), monotonic() + SHORT)
        stream.close()

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
        listener.bind(path)
        listener.listen(0)
        filler.connect(path)
        before = sockets_open()
        with pytest.raises(OSError, match=r"full|[Uu]navailable"):
            run(program())
        assert not left_open(before)


def test_a_stream_can_have_its_source_chosen(run: Run, listening: Listening) -> None:
    """The peer sees the local address that the program asked for."""

    def program() -> ops.Program[None]:
        stream = yield ops.Connect(listening.address, inf, ("127.0.0.2", 0))
        assert listening.accept().getpeername()[0] == "127.0.0.2"
        stream.close()

    run(program())


@real
def test_a_source_that_is_not_ours_is_an_os_error(run: Run, listening: Listening) -> None:
    """An address that this machine does not have cannot be bound, and leaves no socket."""

    def program() -> ops.Program[Any]:
        return (yield ops.Connect(listening.address, monotonic() + 10, ("192.0.2.1", 0)))

    before = sockets_open()
    with pytest.raises(OSError, match="assign"):
        run(program())
    assert not left_open(before)


@real
def test_connecting_has_a_deadline(run: Run) -> None:
    """Connecting to a host that does not answer ends at the deadline and leaves no socket."""
    with unanswering_address() as address:
        before = sockets_open()

        def program(deadline: float) -> ops.Program[Any]:
            return (yield ops.Connect((socket.AF_INET, address), deadline))

        times_out(run, program)
        assert not left_open(before)


def test_a_connect_operation_can_be_used_again(run: Run, listening: Listening) -> None:
    """One operation opens one stream after the other, also after it failed."""

    def program() -> ops.Program[None]:
        operation = ops.Connect((socket.AF_UNIX, "/nowhere/at/all"), inf)
        with pytest.raises(FileNotFoundError):
            yield operation
        operation.address = listening.address
        for _ in range(3):
            stream = yield operation
            yield ops.Send(stream, b"x", inf)
            assert listening.accept().recv(10) == b"x"
            stream.close()

    run(program())


@real
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_much_data_reaches_a_slow_reader(run: Run, listening: Listening, kind: Any) -> None:
    """Send returns once all was taken, however slowly the peer reads."""
    data = kind(pattern(BIG))
    digest = hashlib.sha256()

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        def read() -> None:
            left = BIG
            while left and (piece := peer.recv(1 << 16)):
                digest.update(piece)
                left -= len(piece)
            peer.sendall(b"got it")

        reader = in_thread(read)
        yield ops.Send(stream, data, monotonic() + 30)
        yield ops.Send(stream, b"", monotonic() + 30)
        assert (yield from received(stream, 6)) == b"got it"
        reader.join(10)

    run(between(listening, talk))
    assert digest.digest() == hashlib.sha256(pattern(BIG)).digest()


def test_sending_has_a_deadline(run: Run, listening: Listening) -> None:
    """Sending to a peer that does not read ends at the deadline."""

    def talk(stream: Any, peer: socket.socket, deadline: float) -> ops.Program[None]:
        yield ops.Send(stream, bytes(BIG), deadline)

    times_out(run, partial(between, listening, talk))


def test_a_send_operation_can_be_used_again(run: Run, listening: Listening) -> None:
    """One operation sends one thing after the other, also after its time was over."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        operation = ops.Send(stream, b"", inf)
        for data in (b"one", b"two"):
            operation.data = data
            yield operation
            assert peer.recv(100) == data
        operation.data = bytes(BIG)
        operation.deadline = monotonic() + 0.01
        with pytest.raises(TimeoutError):
            yield operation
        yield from between(listening, again, operation)

    def again(stream: Any, peer: socket.socket, operation: ops.Send) -> ops.Program[None]:
        operation.stream, operation.data, operation.deadline = stream, b"three", inf
        yield operation
        assert peer.recv(100) == b"three"

    run(between(listening, talk))


def test_sending_to_a_closed_peer_is_an_os_error(run: Run, listening: Listening) -> None:
    """A peer that reset the connection is an OSError, sooner or later while sending."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        yield ops.Send(stream, b"unread", inf)
        peer.close()  # with unread data, which resets
        for _ in range(64):
            yield ops.Send(stream, bytes(1 << 18), monotonic() + 10)

    with pytest.raises(ConnectionError):
        run(between(listening, talk))


def test_receiving_gets_what_there_is(run: Run, listening: Listening) -> None:
    """Receive returns what has come, and nothing but b'' once the peer has closed."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        peer.sendall(b"hello")
        assert (yield ops.Receive(stream, 1000, inf)) == b"hello"
        peer.sendall(b"last")
        peer.close()
        assert (yield from received(stream, 4)) == b"last"
        for _ in range(3):
            assert (yield ops.Receive(stream, 1000, inf)) == b""

    run(between(listening, talk))


def test_receiving_waits(run: Run, listening: Listening) -> None:
    """Receive waits for what another thread sends later."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        timer = later(0.01, peer.sendall, b"late")
        assert (yield ops.Receive(stream, 1000, monotonic() + 10)) == b"late"
        timer.join()

    run(between(listening, talk))


def test_receiving_after_a_reset_is_an_os_error(run: Run, listening: Listening) -> None:
    """A reset is not taken for the end of the stream."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        yield ops.Send(stream, b"unread", inf)
        peer.close()
        yield ops.Receive(stream, 1000, monotonic() + 10)

    with pytest.raises(ConnectionResetError):
        run(between(listening, talk))


def test_receiving_has_a_deadline(run: Run, listening: Listening) -> None:
    """Receiving from a silent peer ends at the deadline, the stream stays in order."""

    def talk(stream: Any, peer: socket.socket, deadline: float) -> ops.Program[None]:
        try:
            yield ops.Receive(stream, 1000, deadline)
        finally:
            peer.sendall(b"late")
            assert (yield ops.Receive(stream, 1000, monotonic() + 10)) == b"late"

    times_out(run, partial(between, listening, talk))


def test_a_round_trip_sends_and_then_receives(run: Run, listening: Listening) -> None:
    """RoundTrip is a Send and a Receive in one, and can be used again."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        operation = ops.RoundTrip(stream, b"", 1000, inf)
        for number in (b"1", b"2"):
            operation.data = b"question " + number
            answering = answers(peer)
            assert (yield operation) == b"answer to question " + number
            answering.join(10)
        operation.data = b"the last one"
        peer.close()
        assert (yield operation) == b""
        yield from between(listening, again, operation)

    def again(stream: Any, peer: socket.socket, operation: ops.RoundTrip) -> ops.Program[None]:
        operation.stream, operation.data = stream, b"once more"
        answering = answers(peer)
        assert (yield operation) == b"answer to once more"
        answering.join(10)

    run(between(listening, talk))


def answers(peer: Any) -> threading.Thread:
    """Have the peer answer what comes next."""
    if isinstance(peer, SimulatedSocket):
        peer.answer(b"answer to ")
        return in_thread(int)
    return in_thread(lambda: peer.sendall(b"answer to " + peer.recv(100)))


@real
def test_a_round_trip_that_was_reset_can_be_used_again(run: Run, listening: Listening) -> None:
    """A RoundTrip that failed after it had sent sends again the next time."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        operation = ops.RoundTrip(stream, b"hello", 1000, monotonic() + 10)

        def reset() -> None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.recv(100)
            peer.close()

        resetting = in_thread(reset)
        with pytest.raises(ConnectionResetError):
            yield operation
        resetting.join(10)
        yield from between(listening, again, operation)

    def again(stream: Any, peer: socket.socket, operation: ops.RoundTrip) -> ops.Program[None]:
        operation.stream = stream
        answering = answers(peer)
        assert (yield operation) == b"answer to hello"
        answering.join(10)

    run(between(listening, talk))


@real
def test_a_big_round_trip_with_a_slow_reader(run: Run, listening: Listening) -> None:
    """RoundTrip sends all, however slowly the peer reads, before it receives."""
    data = pattern(BIG)

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        got = bytearray()

        def read() -> None:
            while len(got) < BIG and (piece := peer.recv(1 << 16)):
                got.extend(piece)
            peer.sendall(b"got it")

        reader = in_thread(read)
        operation = ops.RoundTrip(stream, data, 1000, monotonic() + 30)
        assert (yield operation) == b"got it"
        reader.join(10)
        assert got == data

    run(between(listening, talk))


@pytest.mark.parametrize("size", [10, BIG])
def test_a_round_trip_has_a_deadline(run: Run, listening: Listening, size: int) -> None:
    """RoundTrip ends at the deadline, while it receives and while it sends."""

    def talk(stream: Any, peer: socket.socket, deadline: float) -> ops.Program[None]:
        yield ops.RoundTrip(stream, bytes(size), 1000, deadline)

    times_out(run, partial(between, listening, talk))


@real
def test_nothing_is_sent_after_the_deadline(run: Run, listening: Listening) -> None:
    """A program that keeps sending what the peer takes at once is stopped all the same."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        deadline = monotonic() + 0.02
        try:
            while monotonic() < deadline + 2:
                yield ops.Send(stream, b"x", deadline)
                peer.recv(100)
        finally:
            assert 0 <= monotonic() - deadline < 1

    with pytest.raises(TimeoutError):
        run(between(listening, talk))


@pytest.mark.parametrize("first", [0.5, inf])
@pytest.mark.parametrize("second", [0.06, inf])
def test_each_wait_has_its_own_deadline(
    run: Run, listening: Listening, first: float, second: float
) -> None:
    """What an earlier wait on the same stream was given says nothing about a later one."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        peer.sendall(b"1")
        assert (yield ops.Receive(stream, 10, monotonic() + 10)) == b"1"
        timer = later(0.005, peer.sendall, b"2")
        assert (yield ops.Receive(stream, 10, monotonic() + first)) == b"2"
        began = monotonic()
        if second < inf:
            with pytest.raises(TimeoutError):
                yield ops.Receive(stream, 10, began + second)
            assert second - 1e-9 <= monotonic() - began < second + 0.4
        else:
            late = later(0.03, peer.sendall, b"3")
            assert (yield ops.Receive(stream, 10, inf)) == b"3"
            late.join()
        timer.join()

    run(between(listening, talk))


def test_a_deadline_that_is_over_does_not_haunt_a_wait_without_one(
    run: Run, listening: Listening
) -> None:
    """A wait without a deadline outlives the deadline of the wait before it."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        timers = [later(t, peer.sendall, b"x") for t in (0.01, 0.12)]
        assert (yield ops.Receive(stream, 10, monotonic() + 0.06)) == b"x"
        assert (yield ops.Receive(stream, 10, inf)) == b"x"
        for timer in timers:
            timer.join()

    run(between(listening, talk))


@real
def test_a_deadline_holds_while_bytes_never_cease(run: Run, listening: Listening) -> None:
    """A peer that always has more to say cannot carry a program past its deadline."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[float]:
        done = threading.Event()

        def flood() -> None:
            try:
                while not done.is_set():
                    peer.sendall(bytes(1 << 16))
            except OSError:
                pass

        thread = in_thread(flood)
        deadline = monotonic() + SHORT
        try:
            while monotonic() < deadline + 2:
                yield ops.Receive(stream, 1 << 16, deadline)
        except TimeoutError:
            return monotonic() - deadline
        finally:
            done.set()
            peer.shutdown(socket.SHUT_RDWR)
            thread.join(10)
        raise AssertionError("the deadline was never noticed")

    assert 0 <= run(between(listening, talk)) < 1


def test_receiving_into_a_buffer(run: Run, listening: Listening) -> None:
    """ReceiveInto fills the buffer from its start and leaves the rest of the stream alone."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        peer.sendall(b"0123456789")
        buffer = bytearray(b"........")
        assert (yield ops.ReceiveInto(stream, memoryview(buffer)[:4], inf)) == 4
        assert buffer == b"0123...."
        assert (yield ops.ReceiveInto(stream, memoryview(buffer), inf)) == 6
        assert buffer == b"456789.."
        peer.close()
        assert (yield ops.ReceiveInto(stream, memoryview(buffer), inf)) == 0

    run(between(listening, talk))


def test_receiving_into_a_buffer_has_a_deadline(run: Run, listening: Listening) -> None:
    """ReceiveInto from a silent peer ends at the deadline."""

    def talk(stream: Any, peer: socket.socket, deadline: float) -> ops.Program[None]:
        yield ops.ReceiveInto(stream, memoryview(bytearray(10)), deadline)

    times_out(run, partial(between, listening, talk))


def test_much_data_is_received_in_order(run: Run, listening: Listening) -> None:
    """Receive and ReceiveInto in turns get every byte, more than any buffer holds."""
    data = pattern(BIG)

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:

        def send() -> None:
            peer.sendall(data)
            peer.close()

        sender = in_thread(send)
        got = hashlib.sha256()
        size = 0
        buffer = memoryview(bytearray(100_000))
        while True:
            filled = yield ops.ReceiveInto(stream, buffer, monotonic() + 10)
            got.update(buffer[:filled])
            piece = yield ops.Receive(stream, 30_000, monotonic() + 10)
            got.update(piece)
            size += filled + len(piece)
            if not piece:
                break
        assert size == BIG
        assert got.digest() == hashlib.sha256(data).digest()
        sender.join(10)

    run(between(listening, talk))


@real
def test_a_program_that_does_not_receive_holds_the_sender_back(
    run: Run, listening: Listening
) -> None:
    """What is not asked for is not received without end, but stays with the peer."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[int]:
        peer.sendall(b"x")
        yield ops.Receive(stream, 1, inf)
        peer.setblocking(False)
        sent = 0
        idle = 0
        while idle < 10:  # ten looks in a row without room to send
            try:
                sent += peer.send(bytes(1 << 16))
                idle = 0
            except BlockingIOError:
                idle += 1
                yield ops.Sleep(monotonic() + 0.005)
            assert sent < 1 << 26
        return sent

    # The kernel's buffers on both sides come on top of what the driver holds.
    assert run(between(listening, talk)) < 1 << 25


def test_a_stream_is_usable_while_the_peer_is_silent(run: Run, listening: Listening) -> None:
    """A stream is usable until the peer speaks out of turn or closes."""

    def talk(stream: Any, peer: socket.socket, closes: bool) -> ops.Program[None]:
        assert stream.usable(0.0)
        assert stream.usable(inf)
        if closes:
            peer.close()
        else:
            peer.sendall(b"unasked")
        yield from _until_unusable(stream)

    run(between(listening, talk, False))
    run(between(listening, talk, True))


def _until_unusable(stream: Any) -> ops.Program[None]:
    until = monotonic() + 10
    while stream.usable(inf):
        assert monotonic() < until
        yield ops.Sleep(monotonic() + 0.001)


def test_a_closed_stream_is_not_usable(run: Run, listening: Listening) -> None:
    """A stream may be closed more than once, and is of no use afterwards."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        stream.close()
        yield ops.Sleep(0)
        stream.close()
        assert not stream.usable(inf)

    run(between(listening, talk))


def test_a_reset_stream_is_not_usable(run: Run, listening: Listening) -> None:
    """A connection that the peer reset is noticed."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        yield ops.Send(stream, b"unread", inf)
        peer.close()
        yield from _until_unusable(stream)

    run(between(listening, talk))


@real
def test_an_address_of_the_wrong_kind_is_an_os_error(run: Run) -> None:
    """A socket that cannot be made or connected is an OSError and leaves nothing open."""

    def program() -> ops.Program[Any]:
        return (yield ops.Connect((socket.AF_UNIX, "x" * 200), inf))

    before = sockets_open()
    with pytest.raises(OSError, match="too long") as caught:
        run(program())
    assert caught.value.errno in (None, errno.ENAMETOOLONG)
    assert not left_open(before)
