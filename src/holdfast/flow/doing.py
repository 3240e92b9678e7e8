"""Cooperative doers, and the doist that gives each its turn.

A *doer* is anything that can be called with ``tymth``, ``tock`` and options, and then returns a
generator, its *dog*: that yields after how many seconds of tyme it wants its next turn (0: at the
next there is), is sent the tyme at each turn, and returns whether it is done. It may be a
generator function or an object of class `Doer`, which has a method for each phase:

    enter, recur, ..., clean, exit    when it ended by itself
    enter, recur, ..., close, exit    when it was closed from outside
    enter, recur, ..., abort, exit    on an exception; also in enter

Everything here speaks the protocol of the package hio: its doists run these doers, and the doist
of this module runs its doers.
"""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

from holdfast.flow.tyming import Tymee, Tymist, Tymth

__all__ = ["Deed", "Doable", "Doer", "Dog", "Doist", "doize"]

#: What a running doer is: yields seconds until its next turn, is sent the tyme.
Dog: TypeAlias = Generator[float | None, float, Any]

#: What a doist runs.
Doable: TypeAlias = Callable[..., Dog]

F = TypeVar("F", bound=Doable)


def doize(*, tock: float = 0.0, **opts: Any) -> Callable[[F], F]:
    """Return a decorator that gives a generator function what a doist looks for.

    These are the attributes ``tock``, in seconds, ``opts``, the keywords it is called with, and
    ``done``, which the doist sets.
    """

    def decorate(function: F) -> F:
        for name, value in (("tock", tock), ("opts", opts), ("done", None)):
            setattr(function, name, value)
        return function

    return decorate


class Doer(Tymee):
    """Do something turn by turn; subclasses say what, in the methods for the phases.

    ``tock`` is how many seconds of tyme pass between turns, 0 for every turn. ``opts`` are the
    keywords that a doist calls it with. ``done`` is None before it has run, then whether it came
    to its end; one that was closed or aborted did not.
    """

    def __init__(self, *, tymth: Tymth | None = None, tock: float = 0.0, **opts: Any) -> None:
        super().__init__(tymth)
        self.done: Any = None
        self.opts = opts
        self.tock = tock

    @property
    def tock(self) -> float:
        """Seconds between turns, never negative."""
        return self._tock

    @tock.setter
    def tock(self, tock: float) -> None:
        self._tock = abs(float(tock))

    def __call__(self, **kwa: Any) -> Dog:
        """Return the generator that does it; its first step enters."""
        return self.do(**kwa)

    def do(self, tymth: Tymth, *, tock: float = 0.0, temp: bool | None = None, **opts: Any) -> Dog:
        """Go through the phases: the generator that a doist runs.

        ``temp`` is handed to `enter`, when given. Raises what the phases raise.
        """
        try:
            self.wind(tymth)
            self.tock = tock
            self.done = False
            if temp is None:
                self.enter()  # as subclasses may have it that know no `temp`
            else:
                self.enter(temp=temp)
            recur: Callable[..., Any] = self.recur
            if inspect.isgeneratorfunction(recur):
                takes = inspect.signature(recur).parameters
                self.done = yield from recur(self.tyme) if takes else recur()
            else:
                while not self.done:
                    self.done = recur((yield self._tock))
        except GeneratorExit:
            self.done = False
            self.close()
            raise
        except BaseException as error:
            self.done = False
            self.abort(error)
            raise
        else:
            self.clean()
        finally:
            self.exit()
        return self.done

    def enter(self, *, temp: bool | None = None) -> None:
        """Get ready. ``temp`` asks for temporary resources instead of lasting ones."""

    def recur(self, tyme: float) -> Any:
        """Do one turn; return whether that was the last.

        It may be a generator method instead, that runs as the doer's generator does and may leave
        out ``tyme``.
        """
        return False

    def clean(self) -> None:
        """See to what is to do after an end of its own."""

    def close(self) -> None:
        """See to what is to do when it is closed from outside."""

    def abort(self, ex: BaseException) -> None:
        """See to what is to do about an exception, which goes on afterwards."""

    def exit(self) -> None:
        """Give back what was taken, in whichever way it came here."""


class Deed:
    """A doer at work: its ``dog``, the tyme ``retyme`` of its next turn, the ``doer`` itself.

    It unpacks into these three.
    """

    __slots__ = ("doer", "dog", "left", "retyme")

    def __init__(self, dog: Dog, retyme: float, doer: Doable) -> None:
        self.dog = dog
        self.retyme = retyme
        self.doer = doer
        #: Whether it ended or was removed while others had their turn.
        self.left = False

    def __iter__(self) -> Iterator[Any]:
        return iter((self.dog, self.retyme, self.doer))


class Doist(Tymist):
    """Run doers, all in turn, until they are done or the time is up.

    ``real`` keeps the tyme in step with real time; otherwise turns follow each other at once.
    ``limit`` is for how many seconds of tyme it runs, None or 0 for as long as it takes. ``doers``
    may be given to `do`, too. ``tyme`` and ``tock`` are those of the tymist. ``clock`` and
    ``sleep`` are for real time, in seconds.

    ``done`` is None before it has run, then whether all doers came to their end. ``deeds`` are the
    doers at work, in the order of entry.
    """

    def __init__(
        self,
        real: bool = False,
        limit: float | None = None,
        doers: Iterable[Doable] | None = None,
        tyme: float = 0.0,
        tock: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(tyme, tock)
        self.real = real
        self.limit = None if limit is None else abs(float(limit))
        self.doers = list(doers or ())
        self.deeds: deque[Deed] = deque()
        self.done: bool | None = None
        self._clock = clock
        self._sleep = sleep
        self._due = 0.0

    def do(
        self,
        doers: Iterable[Doable] | None = None,
        limit: float | None = None,
        tyme: float | None = None,
    ) -> None:
        """Enter all doers, give turns until they are done or the time is up, leave them all.

        What is given replaces the attribute of that name. An exception of a doer, or of any
        doer's way out, closes all others in reverse order of entry and then goes on.
        KeyboardInterrupt ends the run in the same order, and goes no further.
        """
        if doers is not None:
            self.doers = list(doers)
        if limit is not None:
            self.limit = abs(float(limit))
        if tyme is not None:
            self.tyme = tyme
        self.done = False
        try:
            self._turns()
        except KeyboardInterrupt:
            self.exit()
        except BaseException as error:
            self._exit_after(error)
            raise
        else:
            self.exit()

    def _turns(self) -> None:
        end = self.tyme + self.limit if self.limit else None
        self.enter()
        self._due = self._clock() if self.real else 0.0
        while True:
            self.recur()
            if not self.deeds:
                self.done = True
                return
            if end is not None and self.tyme >= end:
                return
            if self.real:
                self._pace()

    def _pace(self) -> None:
        """Wait until the next turn is due.

        Turns are due at whole tocks from the start, so that they do not drift. After a stall those
        that were missed are left out, and the tyme goes on without them: there is no burst of
        turns, and timers still go by real time.
        """
        self._due += self.tock
        late = self._clock() - self._due
        if late < 0:
            self._sleep(-late)
        elif 0 < self.tock <= late:
            missed = late // self.tock * self.tock
            self._due += missed
            self.tick(missed)

    def enter(self, doers: Iterable[Doable] | None = None) -> deque[Deed]:
        """Enter the given doers, or all of its own, which then are its deeds; return the deeds.

        When one raises, those that were entered before it are closed, and the exception goes on.
        """
        deeds: deque[Deed] = deque()
        tymth = self.tymen()
        try:
            for doer in self.doers if doers is None else doers:
                _set_done(doer, False)
                opts = getattr(doer, "opts", None) or {}
                dog = doer(tymth=tymth, tock=getattr(doer, "tock", 0.0), **opts)
                try:
                    next(dog)
                except StopIteration as end:
                    _set_done(doer, end.value)
                else:
                    deeds.append(Deed(dog, self._tyme, doer))
        except BaseException as error:
            self._exit_after(error, deeds)
            raise
        if doers is None:
            self.deeds = deeds
        return deeds

    def recur(self, deeds: deque[Deed] | None = None) -> None:
        """Give a turn to each deed whose tyme has come, and tick.

        When one raises, the exception goes on; the others have to be left by `exit`.
        """
        deeds = self.deeds if deeds is None else deeds
        tyme = self._tyme
        left = False
        try:
            # A copy: a doer may extend and remove others, or itself.
            for deed in tuple(deeds):
                if deed.retyme <= tyme and not deed.left:
                    self._turn(deed, tyme)
                left = left or deed.left
        except BaseException:
            left = True
            raise
        finally:
            if left:
                _drop(deeds)
        self.tick()

    def _turn(self, deed: Deed, tyme: float) -> None:
        try:
            tock = deed.dog.send(tyme) or 0.0
        except StopIteration as end:
            deed.left = True
            _set_done(deed.doer, end.value)
            return
        except BaseException:
            deed.left = True
            raise
        if deed.left:  # it removed itself, and could not be closed while it ran
            deed.dog.close()
            return
        retyme = deed.retyme + tock
        if retyme <= tyme:
            # Turns that were missed are not made up for; the next is where it would have been.
            retyme = tyme + tock - (tyme - deed.retyme) % tock if tock > 0.0 else tyme
        deed.retyme = retyme

    def exit(self, deeds: deque[Deed] | None = None) -> None:
        """Close what is still at work, in reverse order of entry.

        Each is closed even if another's way out raises; the first such exception goes on then.
        """
        deeds = self.deeds if deeds is None else deeds
        failure: BaseException | None = None
        while deeds:
            deed = deeds.pop()
            try:
                if not deed.left:
                    deed.dog.close()
            except BaseException as error:
                if failure is None:
                    failure = error
                else:
                    failure.add_note(f"then {deed.doer!r} raised {error!r} when it was closed")
        if failure is not None:
            raise failure

    def _exit_after(self, error: BaseException, deeds: deque[Deed] | None = None) -> None:
        """Leave all because of an exception, which stays the one that is told."""
        try:
            self.exit(deeds)
        except BaseException as another:
            error.add_note(f"then another doer raised {another!r} when it was closed")

    def extend(self, doers: Iterable[Doable]) -> None:
        """Add doers and enter them; their first turn is the next."""
        doers = list(doers)
        self.deeds.extend(self.enter(doers))
        self.doers.extend(doers)

    def remove(self, doers: Iterable[Doable]) -> None:
        """Take doers out and close them; those that are not there are left alone."""
        gone = list(doers)
        self.doers = [doer for doer in self.doers if doer not in gone]
        removed = deque(deed for deed in self.deeds if deed.doer in gone)
        for deed in removed:
            _set_done(deed.doer, False)
        closing = deque(deed for deed in removed if not getattr(deed.dog, "gi_running", False))
        try:
            self.exit(closing)
        finally:
            for deed in removed:
                deed.left = True
            _drop(self.deeds)


def _drop(deeds: deque[Deed]) -> None:
    """Take those out that left, in one pass."""
    staying = [deed for deed in deeds if not deed.left]
    deeds.clear()
    deeds.extend(staying)


def _set_done(doer: Doable, done: Any) -> None:
    try:
        doer.done = done  # type: ignore[attr-defined]
    except AttributeError:  # a bound method: its function has it
        function = getattr(doer, "__func__", None)
        if function is not None:
            function.done = done
