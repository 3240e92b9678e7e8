"""The Twisted driver: a program runs as a Deferred, on any reactor.

It is the extra ``holdfast[twisted]``. As everywhere in Twisted, programs are run and cancelled in
the reactor's thread; the signals that they wait for may come from others. A call that goes well
makes one Deferred, its own, and no timer: each stream has one, as in the asyncio driver.
"""

from __future__ import annotations

import asyncio
import inspect
import random as random_module
import sys
from functools import partial, wraps
from math import inf
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from holdfast import ops
from holdfast.drivers.lookups import Lookup

try:
    from twisted.internet.defer import Deferred
    from twisted.internet.task import Clock
    from twisted.python import threadable
except ImportError as error:
    raise ImportError(
        "this needs Twisted: install it with `pip install 'holdfast[twisted]'`"
    ) from error

# After the look whether Twisted is there, on which they stand.
from holdfast.drivers.twisted_dialing import Dialing
from holdfast.drivers.twisted_streams import FOREIGN, Stream
from holdfast.drivers.twisted_tasks import Group, Task
from holdfast.drivers.twisted_waits import Following, Listening, Timed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Driver", "Stream", "run"]

P = ParamSpec("P")
T = TypeVar("T")

#: Data larger than this is handed to the transport in pieces, which bounds its buffer. It is what
#: transports send at once.
PIECE = 1 << 17


def run(program: ops.Program[T], reactor: Any = None) -> Deferred[T]:
    """Run a program on a reactor, by default on the installed one; return a Deferred.

    It fires with the program's result, or fails with what the program raises. When it is
    cancelled the program is closed, and gives back what it holds, before ``cancel`` returns. To
    be called in the reactor's thread, whether the reactor runs yet or not; RuntimeError elsewhere.
    """
    return Driver(reactor).run(program)


#: The module that is the installed reactor, once there is one.
_INSTALLED = "twisted.internet.reactor"


class _Running(Deferred[T]):
    """The Deferred of a program."""

    task: Task

    def over(self, result: Any, error: BaseException | None) -> None:
        """Fire, as the program has ended."""
        if error is not None:
            self.errback(error)
        else:
            self.callback(result)

    def cancel(self) -> None:
        """Close the program, and fail with CancelledError.

        All is done when this returns, unless a function that the program is calling cancels it:
        then it is done when the program next waits, and not before.
        """
        if self.called:
            super().cancel()  # of what its callbacks wait for
        else:
            self.task.cancel()


class _Later(partial[Any]):
    """A function whose Deferred is waited for, which a policy alone refuses."""

    later = True


class Driver:
    """Runs the programs of clusters on a Twisted reactor.

        cluster = Cluster(hosts, driver=Driver())
        deferred = cluster.get("/x")

    The methods of such a `Cluster` return Deferreds, but for ``stream``, which it does not have;
    those of an `AsyncCluster` are awaited in coroutines that Twisted runs (``async def`` under
    ``Deferred.fromCoroutine``), its streams included. ``reactor``: by default the installed one.
    With a ``twisted.internet.task.Clock`` in its place, as tests use it, time is that clock's.
    ``random`` returns numbers from 0 to 1.
    """

    #: Whether `run` returns before the program is over.
    later = True

    def __init__(
        self, reactor: Any = None, *, random: Callable[[], float] = random_module.random
    ) -> None:
        self._reactor = reactor
        self.random = random
        #: Whether a cluster keeps its hosts up to date by threads: not where time is a test's.
        self.upkeep = not isinstance(reactor, Clock)
        #: Returns the time, in seconds. The one of real reactors is the wall's clock, which jumps.
        self.clock: Callable[[], float] = monotonic
        if isinstance(reactor, Clock):
            self.clock = reactor.seconds
        #: How a task performs each kind of operation.
        self.perform = _PERFORM

    def __repr__(self) -> str:
        return f"<Driver on {self._reactor or 'the installed reactor'}>"

    @property
    def reactor(self) -> Any:
        """The reactor; when none was given, the installed one from now on."""
        if self._reactor is None:
            # Not before: the import installs one, when the program has not chosen yet.
            from twisted.internet import reactor

            self._reactor = reactor
        return self._reactor

    def run(self, program: ops.Program[T]) -> Deferred[T]:
        """Run a program to its end, as a Deferred; see `holdfast.drivers.twisted.run`."""
        # Other reactors than the installed one do not say which thread is theirs.
        thread: Any = threadable.ioThread
        if self.reactor is sys.modules.get(_INSTALLED) and thread not in (None, get_ident()):
            program.close()
            raise RuntimeError(
                "a program is to be run in the reactor's thread: from another one, by "
                "twisted.internet.threads.blockingCallFromThread"
            )
        running: _Running[T] = _Running()
        running.task = task = Task(self, program, running.over)
        task.begin()
        return running

    def arun(self, program: ops.Program[Any]) -> Any:
        """Run a program to its end, as a Deferred, which coroutines can await."""
        return self.run(program)

    def under(self, policy: Any) -> Callable[[Callable[P, Any]], Callable[P, Deferred[Any]]]:
        """Return a decorator that puts a function under a `holdfast.Policy`.

            @Driver().under(Policy(retry=Retry(attempts=3, exceptions=(ConnectionRefusedError,))))
            def look_up(name): ...

        The function returns a Deferred, a coroutine or a value; the decorated one a Deferred, at
        whose cancellation the attempt is cancelled. See `holdfast.Policy.__call__` for the rest.
        """

        def decorate(function: Callable[P, Any]) -> Callable[P, Deferred[Any]]:
            core = policy(_Later(function)).core
            core.clock = self.clock

            @wraps(function)
            def wrapper(*args: P.args, **keywords: P.kwargs) -> Deferred[Any]:
                return self.run(core.call(function, args, keywords))

            wrapper.core = core  # type: ignore[attr-defined]
            return wrapper

        return decorate


# Each of these returns an operation's result, or has the task wait and returns PARKED.


def _stream_of(task: Task, operation: Any) -> Stream:
    stream: Stream = operation.stream
    if stream.driver.reactor is not task.driver.reactor:
        raise ConnectionResetError(FOREIGN)
    return stream


def _round_trip(task: Task, operation: ops.RoundTrip) -> Any:
    data = operation.data
    if len(data) > PIECE:
        return _send(task, operation, 0, partial(_receive, task, operation))
    stream = _stream_of(task, operation)
    if data:
        stream.write(data)
    return _receive(task, operation)


def _receive(task: Task, operation: ops.Receive | ops.RoundTrip) -> Any:
    stream = _stream_of(task, operation)
    data = stream.take()
    return stream.receive(task, operation.deadline) if data is None else data


def _receive_into(task: Task, operation: ops.ReceiveInto) -> Any:
    stream = _stream_of(task, operation)
    data = stream.take()
    if data is None:
        return stream.receive(task, operation.deadline, operation.buffer)
    return stream.fill(operation.buffer, data)


def _send(
    task: Task,
    operation: ops.Send | ops.RoundTrip,
    start: int = 0,
    then: Callable[[], Any] | None = None,
) -> Any:
    """Send the data from a place on, and go on with a function."""
    data = operation.data
    if start >= len(data):
        return then() if then is not None else None
    if operation.deadline <= task.driver.clock():
        raise TimeoutError
    stream = _stream_of(task, operation)
    end = start + PIECE
    stream.write(data if len(data) <= PIECE else memoryview(data)[start:end])
    return stream.drain(task, operation.deadline, partial(_send, task, operation, end, then))


def _connect(task: Task, operation: ops.Connect) -> Any:
    return Dialing(task, operation).begin()


def _resolve(task: Task, operation: ops.Resolve) -> Any:
    # Not by the reactor: its threads are the user's, and one hung look-up keeps one of them.
    lookup = Lookup(operation.host, operation.port)
    return Listening(task, lookup.signal, operation.deadline, lookup.result).begin()


def _sleep(task: Task, operation: ops.Sleep) -> Any:
    until = operation.until
    if until <= task.driver.clock() or (ops.instant and until < inf):
        return None
    return Timed(task, until).begin()


def _wait(task: Task, operation: ops.Wait) -> Any:
    return Listening(task, operation.signal, operation.deadline, _nothing).begin()


def _nothing() -> None:
    """Be the result of an operation that has none."""


def _invoke(task: Task, operation: ops.Invoke) -> Any:
    result = operation.function(*operation.arguments)
    if not isinstance(result, Deferred):
        if inspect.iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        elif asyncio.isfuture(result):
            result = Deferred.fromFuture(result)
        elif inspect.isawaitable(result):
            result = Deferred.fromCoroutine(_awaited(result))
        else:
            return result
    return Following(task, result, operation.deadline).begin()


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _together(task: Task, operation: ops.All | ops.First) -> Any:
    return Group(task, operation).begin()


_PERFORM: dict[type, Callable[[Task, Any], Any]] = {
    ops.RoundTrip: _round_trip,
    ops.Receive: _receive,
    ops.ReceiveInto: _receive_into,
    ops.Send: _send,
    ops.Connect: _connect,
    ops.Resolve: _resolve,
    ops.Sleep: _sleep,
    ops.Wait: _wait,
    ops.Invoke: _invoke,
    ops.All: _together,
    ops.First: _together,
}
