"""What a program may ask for.

A *program* is a generator that decides something or speaks a protocol. It yields operations and
is sent their results; a failed operation is thrown into it as an exception. It touches no socket,
thread or event loop, and reads time only from a clock that it was given, so one program runs
unchanged under every driver. A *driver* performs operations.

The contract, for both sides:

- Deadlines are absolute, in seconds of ``time.monotonic`` (or of the driver's virtual clock);
  ``math.inf`` is none. An operation that is not over by its deadline raises ``TimeoutError``.
- Failures of the network are ``OSError``.
- A program may be closed, or have a cancellation thrown into it, at any ``yield``. It then gives
  back what it holds in ``finally`` and yields nothing more. Therefore closing a stream is a plain
  method, not an operation: a program that is being closed could not yield one.
- An operation object may be used again by its program once it was answered.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

#: Bytes that can be sent without a copy.
Buffer: TypeAlias = bytes | bytearray | memoryview

#: A socket family and what ``socket.connect`` takes for it.
Address: TypeAlias = tuple[int, Any]


#: Whether each `Sleep` that has an end is over at once: `holdfast.testing.instant` says so, every
#: driver obeys.
instant = False


class Stream(Protocol):
    """A connected byte stream, owned by one program at a time."""

    #: Seconds for which a stream is `usable` after use without being asked.
    trusted: float

    def close(self) -> None:
        """Close at once; never blocks, may be called again."""

    def forget(self) -> None:
        """Drop it without a word to the peer: it is of the process that this one forked from."""

    def usable(self, idle: float) -> bool:
        """Tell whether a stream that was idle may carry another request.

        ``idle`` is how long it was, in seconds; infinity asks for the most thorough check.
        """


class Operation:
    """The base of all operations."""

    __slots__ = ()


#: A generator that yields operations and returns a ``T``.
Program: TypeAlias = Generator[Operation, Any, T]


class Resolve(Operation):
    """Look a host name up: returns a list of ``Address``."""

    __slots__ = ("deadline", "host", "port")

    def __init__(self, host: str, port: int, deadline: float) -> None:
        self.host = host
        self.port = port
        self.deadline = deadline


class Connect(Operation):
    """Open a stream to an address: returns a ``Stream``."""

    __slots__ = ("address", "deadline", "source", "state")

    def __init__(
        self, address: Address, deadline: float, source: tuple[str, int] | None = None
    ) -> None:
        self.address = address
        self.deadline = deadline
        self.source = source
        self.state: Any = None  # the driver's own


class Send(Operation):
    """Send all of ``data``: returns None once the system, or a bounded buffer, has taken it."""

    __slots__ = ("data", "deadline", "state", "stream")

    def __init__(self, stream: Stream, data: Buffer, deadline: float) -> None:
        self.stream = stream
        self.data = data
        self.deadline = deadline
        self.state: Any = None  # the driver's own


class RoundTrip(Operation):
    """Send all of ``data``, then receive: returns what `Receive` does.

    Most of what clients do, in one operation instead of two.
    """

    __slots__ = ("data", "deadline", "limit", "state", "stream")

    def __init__(self, stream: Stream, data: Buffer, limit: int, deadline: float) -> None:
        self.stream = stream
        self.data = data
        self.limit = limit
        self.deadline = deadline
        self.state: Any = None  # the driver's own


class Receive(Operation):
    """Receive about ``limit`` bytes or fewer: returns bytes, empty at the end of the stream."""

    __slots__ = ("deadline", "limit", "stream")

    def __init__(self, stream: Stream, limit: int, deadline: float) -> None:
        self.stream = stream
        self.limit = limit
        self.deadline = deadline


class ReceiveInto(Operation):
    """Receive into a writable buffer: returns how many bytes, 0 at the end of the stream."""

    __slots__ = ("buffer", "deadline", "stream")

    def __init__(self, stream: Stream, buffer: memoryview, deadline: float) -> None:
        self.stream = stream
        self.buffer = buffer
        self.deadline = deadline


class Sleep(Operation):
    """Wait until a time: returns None."""

    __slots__ = ("until",)

    def __init__(self, until: float) -> None:
        self.until = until


class Wait(Operation):
    """Wait for a signal: returns None once it was fired."""

    __slots__ = ("deadline", "signal")

    def __init__(self, signal: Signal, deadline: float) -> None:
        self.signal = signal
        self.deadline = deadline


class Invoke(Operation):
    """Call a function of the user's: returns its result, awaited where the driver can.

    The deadline holds for what is awaited; nothing can end a function that does not return.
    """

    __slots__ = ("arguments", "deadline", "function")

    def __init__(
        self, function: Callable[..., Any], *arguments: Any, deadline: float = math.inf
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.deadline = deadline


class All(Operation):
    """Run programs at the same time: returns their results, or exceptions, in their order."""

    __slots__ = ("programs",)

    def __init__(self, programs: Sequence[Program[Any]]) -> None:
        self.programs = programs


def all_of(programs: Sequence[Program[T]]) -> Program[list[T]]:
    """Run programs at the same time; return their results, or raise the first that is an error."""
    if len(programs) == 1:
        return [(yield from programs[0])]
    results: list[Any] = yield All(programs)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class First(Operation):
    """Run programs at the same time until one returns: its index and its result.

    The others are closed. When every one raised, an ``ExceptionGroup`` of what they raised.
    """

    __slots__ = ("programs",)

    def __init__(self, programs: Sequence[Program[Any]]) -> None:
        self.programs = programs


class Signal:
    """Something that happens once, in any thread, and that one program may wait for."""

    __slots__ = ("_listener", "_lock", "fired")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listener: Callable[[], None] | None = None
        self.fired = False

    def fire(self) -> None:
        """Let it happen, and tell whoever listens."""
        with self._lock:
            self.fired = True
            listener, self._listener = self._listener, None
        if listener is not None:
            listener()

    def listen(self, listener: Callable[[], None] | None) -> bool:
        """Have ``listener`` called once it happens; True, without a call, when it already did.

        The call comes from the thread that fires. None ends the listening.
        """
        with self._lock:
            if not self.fired:
                self._listener = listener
            return self.fired
