"""All and First, through every driver."""

from __future__ import annotations

import socket
import threading
from math import inf
from typing import Any

import pytest

from holdfast import ops
from tests.conformance.drivers import Run, monotonic, real
from tests.conformance.peers import Listening, between, later, left_open, sockets_open, times_out


class Diary:
    """What programs did, in its order."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def sleeper(
        self, name: str, seconds: float, error: Exception | None = None
    ) -> ops.Program[str]:
        """Sleep, and note how it ended."""
        try:
            yield ops.Sleep(monotonic() + seconds)
            if error is not None:
                raise error
        except Exception:
            self.entries.append(f"{name} failed")
            raise
        except BaseException:
            self.entries.append(f"{name} closed")
            raise
        else:
            self.entries.append(f"{name} done")
            return name
        finally:
            self.entries.append(f"{name} tidy")


@pytest.fixture
def diary() -> Diary:
    """An empty diary."""
    return Diary()


def ask(operation: ops.Operation) -> ops.Program[Any]:
    """Ask for one operation."""
    return (yield operation)


def at_once(value: Any) -> ops.Program[Any]:
    """Return, or raise, without asking for anything."""
    yield from ()
    if isinstance(value, Exception):
        raise value
    return value


def test_all_returns_results_in_the_order_of_the_programs(run: Run, diary: Diary) -> None:
    """Whoever is over first, the results stand where the programs stood."""
    programs = [diary.sleeper("slow", 0.03), diary.sleeper("fast", 0.0), at_once("at once")]
    assert run(ask(ops.All(programs))) == ["slow", "fast", "at once"]
    assert diary.entries == ["fast done", "fast tidy", "slow done", "slow tidy"]


def test_all_runs_programs_at_the_same_time(run: Run, diary: Diary) -> None:
    """Fifty programs that sleep take as long as one."""
    began = monotonic()
    names = [str(number) for number in range(50)]
    assert run(ask(ops.All([diary.sleeper(name, 0.05) for name in names]))) == names
    assert 0.05 - 1e-9 <= monotonic() - began < 1


def test_all_has_exceptions_for_results(run: Run, diary: Diary) -> None:
    """A program that fails leaves the others alone."""
    first, second = ValueError("one"), OSError("two")
    programs = [
        diary.sleeper("a", 0.01, first),
        diary.sleeper("b", 0.02),
        at_once(second),
    ]
    assert run(ask(ops.All(programs))) == [first, "b", second]


def test_all_of_none_is_nothing(run: Run) -> None:
    """Without programs there are no results, at once."""
    assert run(ask(ops.All([]))) == []


def test_all_may_be_nested(run: Run, diary: Diary) -> None:
    """A program of an All may ask for another one, and be asked for again."""

    def pair(name: str) -> ops.Program[Any]:
        both = yield ops.All([diary.sleeper(f"{name}1", 0.01), diary.sleeper(f"{name}2", 0.0)])
        again = yield ops.All([at_once(name)])
        return both + again

    assert run(ask(ops.All([pair("a"), pair("b"), ask(ops.All([]))]))) == [
        ["a1", "a2", "a"],
        ["b1", "b2", "b"],
        [],
    ]


def test_an_all_operation_can_be_used_again(run: Run) -> None:
    """One object may carry other programs the next time."""

    def program() -> ops.Program[Any]:
        operation = ops.All([at_once(1)])
        results = yield operation
        operation.programs = [at_once(2), at_once(3)]
        return results + (yield operation)

    assert run(program()) == [1, 2, 3]


def test_first_returns_who_is_over_first(run: Run, diary: Diary) -> None:
    """The winner's place and result are returned, the others are closed and tidy up."""
    programs = [diary.sleeper("slow", 30), diary.sleeper("fast", 0.01), diary.sleeper("late", 30)]
    began = monotonic()
    assert run(ask(ops.First(programs))) == (1, "fast")
    assert monotonic() - began < 5
    assert diary.entries[:2] == ["fast done", "fast tidy"]
    assert sorted(diary.entries[2:]) == ["late closed", "late tidy", "slow closed", "slow tidy"]


def test_first_closes_others_before_it_returns(run: Run, diary: Diary) -> None:
    """When the program goes on, the losers have given back what they held."""

    def program() -> ops.Program[list[str]]:
        yield ops.First([diary.sleeper("slow", 30), diary.sleeper("fast", 0.0)])
        return list(diary.entries)

    assert "slow tidy" in run(program())


def test_first_passes_over_those_that_fail(run: Run, diary: Diary) -> None:
    """A failure is no win while others still run."""
    programs = [
        diary.sleeper("bad", 0.0, ValueError("bad")),
        at_once(OSError("worse")),
        diary.sleeper("good", 0.02),
    ]
    assert run(ask(ops.First(programs))) == (2, "good")


def test_a_failure_at_the_same_time_as_the_winner_is_not_complained_of(run: Run) -> None:
    """Losers that fail in the winner's moment are forgotten quietly."""
    programs = [at_once("won"), at_once(ValueError("lost")), at_once(OSError("lost, too"))]
    assert run(ask(ops.First(programs))) == (0, "won")


def test_first_has_one_winner(run: Run) -> None:
    """Of programs that could end in the same moment, one ends and the others are closed."""
    ended: list[str] = []

    def contender(name: str, start: ops.Signal) -> ops.Program[str]:
        try:
            yield ops.Wait(start, inf)
        except BaseException:
            ended.append(f"{name} closed")
            raise
        ended.append(f"{name} returned")
        return name

    def starter(start: list[ops.Signal]) -> ops.Program[None]:
        yield ops.Sleep(monotonic() + 0.005)
        for one in start:
            one.fire()
        yield ops.Sleep(inf)

    def program() -> ops.Program[Any]:
        start = [ops.Signal() for _ in range(5)]
        contenders = [contender(str(number), one) for number, one in enumerate(start)]
        return (yield ops.First([*contenders, starter(start)]))

    index, name = run(program())
    assert name == str(index)
    assert sorted(ended) == sorted(
        f"{number} {'returned' if number == index else 'closed'}" for number in range(5)
    )


def test_first_raises_when_all_fail(run: Run, diary: Diary) -> None:
    """An ExceptionGroup holds every program's exception, in their order."""
    errors = [ValueError("one"), OSError("two"), KeyError("three")]
    programs = [
        diary.sleeper("a", 0.01, errors[0]),
        at_once(errors[1]),
        diary.sleeper("c", 0.0, errors[2]),
    ]
    with pytest.raises(ExceptionGroup) as caught:
        run(ask(ops.First(programs)))
    assert list(caught.value.exceptions) == errors


def test_first_of_none_is_an_error(run: Run) -> None:
    """Nobody can be first where nobody runs."""
    with pytest.raises(ValueError, match="program"):
        run(ask(ops.First([])))


def test_first_may_be_nested(run: Run, diary: Diary) -> None:
    """What loses is closed down to its innermost programs."""

    def nested() -> ops.Program[Any]:
        return (
            yield ops.All(
                [
                    diary.sleeper("deep", 30),
                    ask(ops.First([diary.sleeper("deeper", 30), diary.sleeper("deepest", 30)])),
                ]
            )
        )

    assert run(ask(ops.First([nested(), diary.sleeper("fast", 0.01)]))) == (1, "fast")
    tidy = {entry for entry in diary.entries if entry.endswith("tidy")}
    assert tidy == {"deep tidy", "deeper tidy", "deepest tidy", "fast tidy"}


def test_a_loser_that_fails_to_tidy_up_is_not_the_winners_trouble(run: Run, diary: Diary) -> None:
    """The winner's result is returned and every other loser is closed, whatever one raises."""

    def clumsy() -> ops.Program[None]:
        try:
            yield ops.Sleep(inf)
        finally:
            raise ValueError("stumbled")

    programs = [clumsy(), diary.sleeper("fast", 0.01), clumsy(), diary.sleeper("slow", 30)]
    assert run(ask(ops.First(programs))) == (1, "fast")
    assert "slow tidy" in diary.entries


def test_a_program_without_a_turn_is_closed_quietly(run: Run, diary: Diary) -> None:
    """A loser that never began does nothing at all."""
    assert run(ask(ops.First([at_once("won"), diary.sleeper("unborn", 30)]))) == (0, "won")
    assert "unborn done" not in diary.entries


def test_losers_close_their_streams(run: Run, listening: Listening) -> None:
    """A program that is closed while it connects, sends or receives leaves no socket."""

    def connects() -> ops.Program[None]:
        stream = yield ops.Connect((socket.AF_INET, ("127.0.0.1", 1)), inf)
        stream.close()
        yield ops.Sleep(inf)

    def sends(stream: Any, peer: socket.socket) -> ops.Program[None]:
        yield ops.Send(stream, bytes(8 << 20), inf)
        yield ops.Sleep(inf)

    def receives(stream: Any, peer: socket.socket) -> ops.Program[None]:
        yield ops.Receive(stream, 1, inf)

    def ends() -> ops.Program[str]:
        yield ops.Sleep(monotonic() + 0.02)
        return "end"

    before = sockets_open()
    programs = [between(listening, sends), between(listening, receives), connects(), ends()]
    assert run(ask(ops.First(programs))) == (3, "end")
    listening.close_accepted()
    assert not left_open(before)


def test_deadlines_hold_among_others(run: Run) -> None:
    """Each program of an All has its own deadlines."""

    def waits(deadline: float) -> ops.Program[float]:
        try:
            yield ops.Wait(ops.Signal(), deadline)
        except TimeoutError:
            return monotonic() - deadline
        raise AssertionError("no timeout")

    def program() -> ops.Program[Any]:
        now = monotonic()
        return (yield ops.All([waits(now + 0.01 * (number % 7)) for number in range(20)]))

    assert all(0 <= late < 0.5 for late in run(program()))


def test_all_at_a_deadline(run: Run) -> None:
    """An All is over when its slowest program is."""

    def program(deadline: float) -> ops.Program[None]:
        results = yield ops.All([at_once(1), ask(ops.Wait(ops.Signal(), deadline))])
        raise results[1]

    times_out(run, program)


@real
def test_programs_talk_at_the_same_time(run: Run, listening: Listening) -> None:
    """Twenty programs exchange bytes with a peer that answers in the opposite order."""
    count = 20

    def question(number: int) -> ops.Program[bytes]:
        stream = yield ops.Connect(listening.address, monotonic() + 10)
        try:
            data: bytes = yield ops.RoundTrip(stream, b"%02d" % number, 10, monotonic() + 10)
            return data
        finally:
            stream.close()

    def answers() -> None:
        asked = {}
        for _ in range(count):
            peer = listening.accept()
            asked[peer.recv(2)] = peer
        for number in sorted(asked, reverse=True):
            asked[number].sendall(b"re " + number)

    thread = threading.Thread(target=answers, daemon=True)
    thread.start()
    results = run(ask(ops.All([question(number) for number in range(count)])))
    thread.join(10)
    assert results == [b"re %02d" % number for number in range(count)]


def test_programs_of_all_may_outlive_the_failure_of_one(run: Run, listening: Listening) -> None:
    """A reset of one program's stream is that program's alone."""

    def fails(stream: Any, peer: socket.socket) -> ops.Program[None]:
        yield ops.Send(stream, b"unread", inf)
        peer.close()
        yield ops.Receive(stream, 1, inf)

    def goes_on(stream: Any, peer: socket.socket) -> ops.Program[Any]:
        later(0.02, peer.sendall, b"!")
        return (yield ops.Receive(stream, 1, monotonic() + 10))

    results = run(ask(ops.All([between(listening, fails), between(listening, goes_on)])))
    assert isinstance(results[0], ConnectionResetError)
    assert results[1] == b"!"
