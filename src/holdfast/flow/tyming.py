"""Time that is handed out: cycle time, called *tyme*, and timers on it.

A *tymist* owns the tyme and advances it, turn by turn. Whoever needs to know it is given a
*tymth*, a function without arguments that returns it, and can neither advance it nor tell whether
it is real or simulated. To *wind* an object is to give it one. The names and meanings are those of
the package hio, whose tymths and objects may be mixed with these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Tymee", "Tymer", "Tymist", "Tymth"]

#: Returns the tyme, in seconds.
Tymth: TypeAlias = Callable[[], float]


class Tymist:
    """Own the tyme.

    ``tyme`` is what it starts with and ``tock`` by how much it advances each turn, both in
    seconds; the default is ``Tock``.
    """

    #: A power of two, so that sums of it are exact.
    Tock = 0.03125

    def __init__(self, tyme: float = 0.0, tock: float | None = None) -> None:
        self._tyme = float(tyme)
        self._tock = float(self.Tock if tock is None else tock)

    @property
    def tyme(self) -> float:
        """The tyme, in seconds."""
        return self._tyme

    @tyme.setter
    def tyme(self, tyme: float) -> None:
        self._tyme = float(tyme)

    @property
    def tock(self) -> float:
        """By how much a tick advances the tyme, in seconds."""
        return self._tock

    @tock.setter
    def tock(self, tock: float) -> None:
        self._tock = float(tock)

    def tick(self, tock: float | None = None) -> float:
        """Advance the tyme by ``tock`` seconds, ordinarily its own; return the new tyme."""
        self._tyme += self._tock if tock is None else float(tock)
        return self._tyme

    def tymen(self) -> Tymth:
        """Return a tymth: a function that returns this tymist's tyme."""
        return lambda: self._tyme


class Tymee:
    """Know the tyme by an injected ``tymth``; without one, it has to be wound before use."""

    def __init__(self, tymth: Tymth | None = None) -> None:
        self._tymth = _checked(tymth)

    @property
    def tyme(self) -> float:
        """The tyme, in seconds; raises RuntimeError when it was not wound."""
        if self._tymth is None:
            raise RuntimeError(
                f"a {type(self).__name__} knows no tyme before it is wound: "
                "give it tymth=..., or call wind(tymist.tymen())"
            )
        return self._tymth()

    @property
    def tymth(self) -> Tymth | None:
        """The injected function, None before it is wound."""
        return self._tymth

    def wind(self, tymth: Tymth) -> None:
        """Go by another tymth from now on. Subclasses wind what they hold, too."""
        self._tymth = _checked(tymth)


class Tymer(Tymee):
    """Measure a ``duration``, in seconds of tyme.

    It starts at once, or at the tyme ``start``. One that is not wound yet starts when it is.
    """

    def __init__(
        self, tymth: Tymth | None = None, duration: float | None = None, start: float | None = None
    ) -> None:
        super().__init__(tymth)
        self._begun = 0.0
        self._duration = 0.0
        if tymth is None and start is None:
            start = 0.0  # nobody can tell yet: `wind` starts over
        self.start(duration, start)

    @property
    def duration(self) -> float:
        """How long it runs, in seconds."""
        return self._duration

    @property
    def elapsed(self) -> float:
        """Seconds since its start; negative before it."""
        return self.tyme - self._begun

    @property
    def remaining(self) -> float:
        """Seconds until its end; negative after it."""
        return self._begun + self._duration - self.tyme

    @property
    def expired(self) -> bool:
        """Whether its end is reached."""
        return self.tyme >= self._begun + self._duration

    def wind(self, tymth: Tymth) -> None:
        """Go by another tymth, and start over at its tyme."""
        super().wind(tymth)
        self.start()

    def start(self, duration: float | None = None, start: float | None = None) -> float:
        """Start now, or at the tyme ``start``, for ``duration`` or as long as before.

        Returns the tyme of the start.
        """
        if duration is not None:
            self._duration = float(duration)
        self._begun = self.tyme if start is None else float(start)
        return self._begun

    def restart(self, duration: float | None = None) -> float:
        """Start at the last end, so that no time is lost however late this is called.

        Returns the tyme of the start.
        """
        return self.start(duration, self._begun + self._duration)


def _checked(tymth: Tymth | None) -> Tymth | None:
    # hio's Tymer takes its duration first: a program that was written for it should hear of it.
    if tymth is not None and not callable(tymth):
        raise TypeError(f"a tymth is a function that returns the tyme, not {tymth!r}")
    return tymth
