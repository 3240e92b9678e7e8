"""Doers under our doist and under hio's; hio's doers under ours."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import Any

import pytest
from hio.base import doing as hio  # type: ignore[import-untyped]

from holdfast.flow.doing import Doer, Doist, doize
from holdfast.flow.tyming import Tymist

Log = list[tuple[Any, ...]]


@pytest.fixture
def log() -> Log:
    """What the doers of a test note down."""
    return []


@pytest.fixture(params=[Doist, hio.Doist], ids=["ours", "hio"])
def Either(request: pytest.FixtureRequest) -> Any:
    """Our doist and hio's, for what both promise."""
    return request.param


class Noting(Doer):
    """Notes its phases; done after ``turns`` turns, or raises ``error`` in the phase ``at``."""

    def __init__(
        self,
        log: Log,
        name: str = "a",
        turns: int = 2,
        at: str = "",
        error: BaseException | None = None,
        **kwa: Any,
    ) -> None:
        super().__init__(**kwa)
        self.log, self.name, self.turns = log, name, turns
        self.at, self.error = at, error or ValueError("of the test")

    def note(self, phase: str, *more: Any) -> None:
        self.log.append((self.name, phase, *more))
        if self.at == phase:
            raise self.error

    def enter(self, *, temp: bool | None = None) -> None:
        self.note("enter", self.tyme)

    def recur(self, tyme: float) -> bool:
        assert tyme == self.tyme
        self.note("recur", tyme)
        self.turns -= 1
        return self.turns <= 0

    def clean(self) -> None:
        self.note("clean")

    def close(self) -> None:
        self.note("close")

    def abort(self, ex: BaseException) -> None:
        self.note("abort", ex)

    def exit(self) -> None:
        self.note("exit", self.done)


class NotingOfHio(hio.Doer):  # type: ignore[misc]
    """One of hio's own, written as its programs are."""

    def __init__(self, log: Log, name: str, turns: int, **kwa: Any) -> None:
        super().__init__(**kwa)
        self.log, self.name, self.turns = log, name, turns

    def enter(self) -> None:
        self.log.append((self.name, "enter", self.tyme))

    def recur(self, tyme: float) -> bool:
        self.log.append((self.name, "recur", tyme))
        self.turns -= 1
        return self.turns <= 0

    def close(self) -> None:
        self.log.append((self.name, "close"))

    def exit(self) -> None:
        self.log.append((self.name, "exit"))


class Generating(Noting):
    """Has a generator as its ``recur``."""

    def recur(self, tyme: float) -> Generator[float, float, str]:  # type: ignore[override]
        while self.turns:
            self.note("recur", tyme)
            self.turns -= 1
            tyme = yield self.tock
        return "enough"


class GeneratingWithoutTyme(Noting):
    """Has a generator without an argument as its ``recur``, as hio has it."""

    def recur(self) -> Generator[float, float, bool]:  # type: ignore[override]
        tyme = yield self.tock
        self.note("recur", tyme)
        yield 3.0
        return True


def phases(log: Log, name: str = "a") -> list[str]:
    """Return the phases that a doer went through."""
    return [entry[1] for entry in log if entry[0] == name]


def left(log: Log) -> list[tuple[Any, ...]]:
    """Return who left how, in order."""
    return [entry[:2] for entry in log if entry[1] in ("clean", "close", "abort")]


class TestLifecycle:
    def test_ends_by_itself(self, Either: Any, log: Log) -> None:
        """A doer that is done is cleaned and exited."""
        doer = Noting(log)
        doist = Either(tock=1.0, doers=[doer])
        doist.do()
        assert log == [
            ("a", "enter", 0.0),
            ("a", "recur", 0.0),
            ("a", "recur", 1.0),
            ("a", "clean"),
            ("a", "exit", True),
        ]
        assert (doer.done, doist.done, doist.tyme) == (True, True, 2.0)
        assert not doist.deeds

    def test_is_closed_at_the_limit(self, Either: Any, log: Log) -> None:
        """A doer whose time is up is closed and exited, and is not done."""
        doer = Noting(log, turns=100)
        doist = Either(tock=1.0, limit=2.0, doers=[doer])
        doist.do()
        assert phases(log) == ["enter", "recur", "recur", "close", "exit"]
        assert (doer.done, doist.done, doist.tyme) == (False, False, 2.0)

    def test_aborts_on_an_exception(self, Either: Any, log: Log) -> None:
        """An exception aborts, exits, and goes on to whoever runs the doist."""
        doer = Noting(log, at="recur")
        doist = Either(tock=1.0, doers=[doer])
        with pytest.raises(ValueError, match="of the test") as raised:
            doist.do()
        assert phases(log) == ["enter", "recur", "abort", "exit"]
        assert log[2][2] is raised.value
        assert (doer.done, doist.done) == (False, False)

    def test_aborts_on_an_exception_in_enter(self, Either: Any, log: Log) -> None:
        """A doer that cannot enter aborts and exits; those before it are closed, none entered."""
        doers = [Noting(log, "a"), Noting(log, "b", at="enter"), Noting(log, "c")]
        doist = Either(tock=1.0, doers=doers)
        with pytest.raises(ValueError, match="of the test"):
            doist.do()
        assert phases(log, "b") == ["enter", "abort", "exit"]
        assert phases(log, "a") == ["enter", "close", "exit"]
        assert phases(log, "c") == []
        assert not doist.deeds

    @pytest.mark.parametrize("at", ["clean", "exit"])
    def test_exits_whatever_happens(self, Either: Any, log: Log, at: str) -> None:
        """An exception on the way out goes on, and exit is never left out."""
        with pytest.raises(ValueError, match="of the test"):
            Either(tock=1.0, doers=[Noting(log, at=at)]).do()
        assert phases(log)[-1] == "exit"

    def test_runs_more_than_once(self, Either: Any, log: Log) -> None:
        """A doist and its doers can run again, from the tyme where they are or from another."""
        doer = Noting(log)
        doist = Either(tock=1.0)
        doist.do(doers=[doer])
        doist.do()
        doer.turns = 1
        doist.do(tyme=50.0)
        assert [entry for entry in log if entry[1] == "enter"] == [
            ("a", "enter", 0.0),
            ("a", "enter", 2.0),
            ("a", "enter", 50.0),
        ]

    def test_before_it_runs(self) -> None:
        """A doer that has not run is not wound, and neither done nor undone."""
        doer = Doer(tock=-2.0, speed=5)
        assert (doer.done, doer.opts, doer.tock, doer.tymth) == (None, {"speed": 5}, 2.0, None)
        assert doer.recur(0.0) is False

    def test_is_called_with_its_options(self, Either: Any) -> None:
        """The options of a doer are given to its `do`."""
        seen = {}

        class Optional(Doer):
            def do(self, tymth: Any, **opts: Any) -> Any:
                seen.update(opts)
                return super().do(tymth, **opts)

            def recur(self, tyme: float) -> bool:
                return True

        Either(tock=1.0, doers=[Optional(tock=0.5, speed=5)]).do()
        assert {name: seen[name] for name in ("tock", "speed")} == {"tock": 0.5, "speed": 5}

    @pytest.mark.parametrize("temp", [None, True, False])
    def test_hands_on_temp(self, temp: bool | None) -> None:
        """What a doist says of temporary resources reaches `enter`."""
        seen = []

        class Temporary(Doer):
            def enter(self, *, temp: bool | None = None) -> None:
                seen.append(temp)

        dog = Temporary()(tymth=Tymist().tymen(), tock=0.0, temp=temp)
        next(dog)
        dog.close()
        assert seen == [temp]

    def test_enters_without_temp(self, Either: Any) -> None:
        """A subclass whose `enter` takes nothing runs, too."""
        seen = []

        class Simple(Doer):
            def enter(self) -> None:  # type: ignore[override]
                seen.append(self.tyme)

            def recur(self, tyme: float) -> bool:
                return True

        Either(tock=1.0, doers=[Simple()]).do()
        assert seen == [0.0]


class TestGenerators:
    def test_recur_may_be_one(self, Either: Any, log: Log) -> None:
        """A generator method begins on entering, is sent the tyme, and returns what is done."""
        doer = Generating(log)
        Either(tock=1.0, doers=[doer]).do()
        assert log == [
            ("a", "enter", 0.0),
            ("a", "recur", 0.0),
            ("a", "recur", 0.0),
            ("a", "clean"),
            ("a", "exit", "enough"),
        ]
        assert doer.done == "enough"

    def test_recur_may_leave_out_the_tyme(self, Either: Any, log: Log) -> None:
        """A generator method without an argument runs, and yields when it wants to go on."""
        doer = GeneratingWithoutTyme(log)
        doist = Either(tock=1.0, doers=[doer])
        doist.do()
        assert log[1] == ("a", "recur", 0.0)
        assert (doer.done, doist.tyme) == (True, 4.0)

    def test_recur_is_closed(self, Either: Any, log: Log) -> None:
        """A generator method is closed with its doer."""
        Either(tock=1.0, limit=1.0, doers=[Generating(log, turns=100)]).do()
        assert phases(log)[-2:] == ["close", "exit"]

    def test_functions_run(self, Either: Any) -> None:
        """A generator function with the attributes of a doer runs, and is told that it is done."""
        seen: list[Any] = []

        @doize(tock=0.5, speed=5)
        def function(tymth: Any, tock: float = 0.0, **opts: Any) -> Any:
            seen.append((tymth(), tock, opts["speed"]))
            seen.append((yield tock))
            seen.append((yield 2.0))
            return "done"

        doist = Either(tock=0.5, doers=[function])
        doist.do()
        assert seen == [(0.0, 0.5, 5), 0.0, 2.0]
        assert (function.done, doist.done) == ("done", True)  # type: ignore[attr-defined]

    def test_methods_run(self, Either: Any) -> None:
        """A generator method with the attributes runs, and its function is told."""

        class Several:
            @doize(tock=0.5)
            def method(self, tymth: Any, tock: float = 0.0, **opts: Any) -> Any:
                yield tock
                return True

        Either(tock=0.5, doers=[Several().method]).do()
        assert Several.method.done is True  # type: ignore[attr-defined]

    def test_functions_of_hio_run(self, log: Log) -> None:
        """Whatever hio's decorator and wrapper make runs under our doist."""

        @hio.doize(tock=0.5)  # type: ignore[untyped-decorator]
        def function(tymth: Any, tock: float = 0.0, name: str = "f", **opts: Any) -> Any:
            log.append((name, (yield tock)))
            return True

        wrapped = hio.doify(function, name="copy", tock=1.0, name_="x")
        Doist(tock=0.5, doers=[function, wrapped]).do()
        assert log == [("f", 0.0), ("f", 0.0)]
        assert function.done is True
        assert wrapped.done is True

    def test_bare_functions_run(self) -> None:
        """Our doist needs no attributes: a plain generator function will do."""

        def function(tymth: Any, tock: float) -> Any:
            yield None
            return tock

        Doist(doers=[function]).do()
        assert function.done == 0.0  # type: ignore[attr-defined]

    def test_one_that_is_done_on_entering(self, Either: Any) -> None:
        """A generator that ends at once is done, and gets no turn."""

        @doize()
        def function(tymth: Any, tock: float = 0.0, **opts: Any) -> Any:
            yield from ()
            return "at once"

        doist = Either(tock=1.0, doers=[function])
        doist.do()
        assert function.done == "at once"  # type: ignore[attr-defined]
        assert doist.done is True


class TestTurns:
    def test_alternate(self, Either: Any, log: Log) -> None:
        """Doers have their turns in order, at the same tyme."""
        Either(tock=1.0, doers=[Noting(log, "a"), Noting(log, "b")]).do()
        assert [e for e in log if e[1] == "recur"] == [
            ("a", "recur", 0.0),
            ("b", "recur", 0.0),
            ("a", "recur", 1.0),
            ("b", "recur", 1.0),
        ]

    @pytest.mark.parametrize(
        ("tock", "tymes"),
        [
            (0.0, [0, 1, 2, 3]),
            (0.25, [0, 1, 2, 3]),
            (1.0, [0, 1, 2, 3]),
            (2.0, [0, 2, 4, 6]),
            (2.5, [0, 3, 5, 8]),
        ],
    )
    def test_come_after_the_tock(
        self, Either: Any, log: Log, tock: float, tymes: list[float]
    ) -> None:
        """A doer's own tock is kept on average, whatever the doist's is."""
        Either(tock=1.0, doers=[Noting(log, turns=4, tock=tock)]).do()
        assert [entry[2] for entry in log if entry[1] == "recur"] == tymes

    def test_missed_are_not_made_up_for(self, log: Log) -> None:
        """After a jump of the tyme there is one turn, and the next where it would have been."""
        doist = Doist(tock=0.5, doers=[Noting(log, turns=9, tock=2.0)])
        doist.enter()
        doist.recur()
        doist.tick(10.0)
        for _ in range(6):
            doist.recur()
        doist.exit()
        assert [entry[2] for entry in log if entry[1] == "recur"] == [0.0, 10.5, 12.0]

    def test_without_doers(self, Either: Any) -> None:
        """With nothing to do, everything is done."""
        doist = Either(tock=1.0)
        doist.do(doers=[])
        assert doist.done is True

    def test_a_limit_of_nothing_is_none(self, Either: Any, log: Log) -> None:
        """A limit of zero is no limit, and one for `do` replaces the doist's own."""
        doist = Either(tock=1.0, limit=0.0)
        doist.do(doers=[Noting(log, turns=5)])
        assert doist.done is True
        doist.do(doers=[Noting(log, turns=5)], limit=3.0)
        assert (doist.done, doist.limit) == (False, 3.0)

    def test_by_hand(self, Either: Any, log: Log) -> None:
        """A program can enter, recur and exit by itself."""
        doist = Either(tock=1.0, doers=[Noting(log, "a", 9), Noting(log, "b", 1)])
        assert len(doist.enter()) == 2
        doist.recur()
        assert len(doist.deeds) == 1
        ((dog, retyme, doer),) = doist.deeds
        assert inspect.isgenerator(dog)
        assert retyme <= doist.tyme
        assert doer is doist.doers[0]
        doist.recur()
        doist.exit()
        assert phases(log) == ["enter", "recur", "recur", "close", "exit"]
        assert (len(doist.deeds), doist.tyme) == (0, 2.0)

    def test_deeds_of_ones_own(self, log: Log) -> None:
        """Deeds of other doers can be entered, stepped and left apart from its own."""
        doist = Doist(tock=1.0)
        deeds = doist.enter([Noting(log)])
        doist.recur(deeds)
        doist.exit(deeds)
        assert not doist.deeds
        assert phases(log) == ["enter", "recur", "close", "exit"]


class TestExtendAndRemove:
    def test_extend(self, Either: Any, log: Log) -> None:
        """A doer that is added is entered at once and gets turns from then on."""
        doist = Either(tock=1.0, doers=[Noting(log, "a", 9)])
        added = Noting(log, "b", 9)
        doist.enter()
        doist.recur()
        doist.extend([added])
        assert doist.doers[1] is added
        doist.recur()
        doist.exit()
        assert log[2:5] == [("b", "enter", 1.0), ("a", "recur", 1.0), ("b", "recur", 1.0)]
        assert left(log) == [("b", "close"), ("a", "close")]

    def test_remove(self, Either: Any, log: Log) -> None:
        """A doer that is removed is closed at once and gets no more turns."""
        doers = [Noting(log, "a", 9), Noting(log, "b", 9)]
        doist = Either(tock=1.0, doers=doers)
        doist.enter()
        doist.remove([doers[0]])
        doist.recur()
        doist.exit()
        assert phases(log, "a") == ["enter", "close", "exit"]
        assert phases(log, "b") == ["enter", "recur", "close", "exit"]
        assert doist.doers == [doers[1]]
        assert doers[0].done is False

    def test_remove_one_that_is_not_there(self, Either: Any, log: Log) -> None:
        """Removing what is not there changes nothing."""
        doist = Either(tock=1.0, doers=[])
        doist.remove([Noting(log)])
        assert log == []

    @pytest.mark.parametrize("order", [1, -1], ids=["before", "after"])
    def test_one_doer_removes_another(self, Either: Any, log: Log, order: int) -> None:
        """A doer may remove another during its turn."""
        other = Noting(log, "other", 9)

        class Removing(Doer):
            def recur(self, tyme: float) -> bool:
                doist.remove([other])
                return True

        doist = Either(tock=1.0, doers=[Removing(), other][::order])
        doist.do()
        assert phases(log, "other")[-2:] == ["close", "exit"]
        assert phases(log, "other").count("recur") == (order < 0)
        assert doist.done is True

    def test_one_doer_adds_another(self, Either: Any, log: Log) -> None:
        """A doer may add another during its turn; the other's first turn is the next."""

        class Adding(Doer):
            def recur(self, tyme: float) -> bool:
                doist.extend([Noting(log, "new")])
                return True

        doist = Either(tock=1.0, doers=[Adding()])
        doist.do()
        assert log[:2] == [("new", "enter", 0.0), ("new", "recur", 1.0)]
        assert doist.done is True

    def test_a_doer_removes_itself(self, log: Log) -> None:
        """A doer that removes itself is closed when its turn is over."""

        class Leaving(Noting):
            def recur(self, tyme: float) -> bool:
                doist.remove([self])
                return super().recur(tyme)

        doer = Leaving(log, turns=9)
        doist = Doist(tock=1.0, doers=[doer])
        doist.do()
        assert phases(log) == ["enter", "recur", "close", "exit"]
        assert (doer.done, doist.done, doist.doers) == (False, True, [])

    def test_one_that_cannot_enter_is_not_added(self, log: Log) -> None:
        """When an added doer raises, none of those added with it stays."""
        doist = Doist(tock=1.0, doers=[Noting(log, "a", 9)])
        doist.enter()
        with pytest.raises(ValueError, match="of the test"):
            doist.extend([Noting(log, "b"), Noting(log, "c", at="enter")])
        assert left(log) == [("c", "abort"), ("b", "close")]
        assert len(doist.doers) == len(doist.deeds) == 1
        doist.exit()


class TestExceptions:
    def test_close_the_others_in_reverse_order(self, log: Log) -> None:
        """When a doer raises in the middle of a pass, the last that entered leaves first."""
        names = "abcde"
        doers = [Noting(log, n, 9, at="recur" if n == "c" else "") for n in names]
        with pytest.raises(ValueError, match="of the test"):
            Doist(tock=1.0, doers=doers).do()
        assert left(log) == [("c", "abort"), *((n, "close") for n in "edba")]

    def test_at_the_limit_in_reverse_order(self, Either: Any, log: Log) -> None:
        """When the time is up, the last that entered leaves first."""
        Either(tock=1.0, limit=1.0, doers=[Noting(log, n, 9) for n in "abc"]).do()
        assert left(log) == [("c", "close"), ("b", "close"), ("a", "close")]

    def test_keyboard_interrupt_ends_orderly(self, Either: Any, log: Log) -> None:
        """Ctrl-C leaves all doers and ends the run, without an exception."""
        doers = [Noting(log, "a", 9), Noting(log, "b", 9, "recur", KeyboardInterrupt())]
        doist = Either(tock=1.0, doers=doers)
        doist.do()
        assert phases(log, "a")[-2:] == ["close", "exit"]
        assert phases(log, "b")[-1] == "exit"
        assert (doist.done, len(doist.deeds)) == (False, 0)

    def test_keyboard_interrupt_while_it_sleeps(self, log: Log) -> None:
        """Ctrl-C between turns does the same."""

        def interrupted(seconds: float) -> None:
            raise KeyboardInterrupt

        doist = Doist(True, doers=[Noting(log)], clock=lambda: 0.0, sleep=interrupted)
        doist.do()
        assert phases(log) == ["enter", "recur", "close", "exit"]
        assert doist.done is False

    def test_system_exit_goes_on(self, Either: Any, log: Log) -> None:
        """Leaving the program closes the others, and then leaves."""
        doers = [Noting(log, "a", 9), Noting(log, "b", 9, "recur", SystemExit(3))]
        with pytest.raises(SystemExit):
            Either(tock=1.0, doers=doers).do()
        assert phases(log, "a")[-2:] == ["close", "exit"]

    def test_on_the_way_out_do_not_keep_others_from_leaving(self, log: Log) -> None:
        """When closing raises, the others are closed, and the first exception goes on."""
        doers = [
            Noting(log, "a", 9),
            Noting(log, "b", 9, "close", OSError("second")),
            Noting(log, "c", 9, "close", OSError("first")),
        ]
        with pytest.raises(OSError, match="first") as raised:
            Doist(tock=1.0, limit=1.0, doers=doers).do()
        assert left(log) == [("c", "close"), ("b", "close"), ("a", "close")]
        assert "second" in raised.value.__notes__[0]

    def test_on_the_way_out_do_not_hide_the_cause(self, log: Log) -> None:
        """When closing raises because of another exception, that one is told, with a note."""
        doers = [
            Noting(log, "a", 9, "close", OSError("later")),
            Noting(log, "b", 9, "recur", ValueError("cause")),
        ]
        with pytest.raises(ValueError, match="cause") as raised:
            Doist(tock=1.0, doers=doers).do()
        assert "later" in raised.value.__notes__[0]

    def test_by_hand_leave_the_others_to_be_exited(self, log: Log) -> None:
        """A program that steps by itself gets the exception, and can go on or leave."""
        doers = [Noting(log, "a", 9, at="recur"), Noting(log, "b", 9)]
        doist = Doist(tock=1.0, doers=doers)
        doist.enter()
        with pytest.raises(ValueError, match="of the test"):
            doist.recur()
        doist.recur()
        doist.exit()
        assert phases(log, "b") == ["enter", "recur", "close", "exit"]
        assert phases(log, "a") == ["enter", "recur", "abort", "exit"]


class TestMixed:
    def test_hios_doers_under_ours(self, log: Log) -> None:
        """Doers of both kinds run side by side, and hio's nested ones."""
        nested = hio.DoDoer(doers=[NotingOfHio(log, "nested", 2), Noting(log, "inner", 3)])
        theirs = NotingOfHio(log, "theirs", 2, tock=2.0)
        doist = Doist(tock=1.0, doers=[theirs, Noting(log, "ours", 1), nested, hio.ExDoer()])
        doist.do(limit=10.0)
        assert [entry[2] for entry in log if entry[:2] == ("theirs", "recur")] == [0.0, 2.0]
        assert [entry[2] for entry in log if entry[:2] == ("nested", "recur")] == [0.0, 1.0]
        assert [entry[2] for entry in log if entry[:2] == ("inner", "recur")] == [0.0, 1.0, 2.0]
        assert (theirs.done, nested.done) == (True, True)

    def test_hios_doers_are_closed(self, log: Log) -> None:
        """Doers of hio are closed at the limit."""
        doer = NotingOfHio(log, "theirs", 9)
        Doist(tock=1.0, limit=1.0, doers=[doer]).do()
        assert phases(log, "theirs") == ["enter", "recur", "close", "exit"]
        assert doer.done is False


class Clock:
    """Real time of a test: sleeping advances it, and so does what takes long."""

    def __init__(self) -> None:
        self.now = 500.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def doist(self, *doers: Any, **kwa: Any) -> Doist:
        return Doist(True, doers=doers, clock=lambda: self.now, sleep=self.sleep, **kwa)


class Working(Doer):
    """Works for as many seconds of real time as it is told, turn by turn."""

    def __init__(self, clock: Clock, seconds: list[float]) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds
        self.turns: list[tuple[float, float]] = []

    def recur(self, tyme: float) -> bool:
        self.turns.append((self.clock.now - 500.0, tyme))
        self.clock.now += self.seconds.pop(0)
        return not self.seconds


class TestRealTime:
    def test_does_not_drift(self) -> None:
        """Turns are due at whole tocks, however long each of them works."""
        clock = Clock()
        doer = Working(clock, [0.25, 0.75, 0.0, 0.5])
        clock.doist(doer, tock=1.0).do()
        assert doer.turns == [(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
        assert clock.slept == [0.75, 0.25, 1.0]

    def test_does_not_burst_after_a_stall(self) -> None:
        """Turns that a stall has cost are left out, and tyme and real time stay together."""
        clock = Clock()
        doer = Working(clock, [0.0, 7.25, 0.0, 0.0])
        clock.doist(doer, tock=1.0).do()
        assert doer.turns == [(0.0, 0.0), (1.0, 1.0), (8.25, 8.0), (9.0, 9.0)]
        assert clock.slept == [1.0, 0.75]

    def test_catches_up_with_a_small_delay(self) -> None:
        """A turn that is late by less than a tock comes at once, and none is left out."""
        clock = Clock()
        doer = Working(clock, [1.5, 0.0, 0.0])
        clock.doist(doer, tock=1.0).do()
        assert doer.turns == [(0.0, 0.0), (1.5, 1.0), (2.0, 2.0)]

    def test_without_a_tock_does_not_wait(self) -> None:
        """With a tock of zero there is nothing to wait for."""
        clock = Clock()
        doer = Working(clock, [0.5, 0.5])
        clock.doist(doer, tock=0.0).do()
        assert doer.turns == [(0.0, 0.0), (0.5, 0.0)]
        assert clock.slept == []

    def test_does_not_wait_when_all_is_done(self) -> None:
        """After the last turn nobody sleeps."""
        clock = Clock()
        clock.doist(Working(clock, [0.0]), tock=1.0).do()
        assert clock.slept == []

    def test_simulated_time_neither_sleeps_nor_asks_for_the_time(self) -> None:
        """Unless it is to be real, real time takes no part."""

        def forbidden(*_: Any) -> Any:
            raise AssertionError

        doer = Doer()
        doist = Doist(limit=3600.0, tock=1.0, doers=[doer], clock=forbidden, sleep=forbidden)
        doist.do()
        assert doist.tyme == 3600.0
