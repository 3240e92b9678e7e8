"""One procedure on many hosts: the jobs' results as they end.

Theory of operation: a few workers, which are programs, take the hosts one after the other; each
submits a job, waits for its end, and delivers what came of it. In the blocking client they all run
on one thread, behind the caller's back, since results are to come while the caller is busy with
those before.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import weakref
from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast import ops
from holdfast.drivers import blocking
from holdfast.jobs.asking import (
    arguments_of,
    call_message,
    find_hosts,
    get_end,
    outcome,
    submit,
)
from holdfast.jobs.calls import RemoteCall
from holdfast.jobs.errors import HarpException, InvalidCall
from holdfast.jobs.remote import BaseCall, name_of, options_of, refuse_dunder
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from holdfast.ops import Program

__all__ = ["BaseGroup", "BaseGroupProcedure", "Group", "GroupProcedure", "GroupResults", "Outcome"]


class Outcome(NamedTuple):
    """What came of a job on one host.

    ``job`` is None where it could not be submitted; ``result`` is what `RemoteCall.result` gives:
    a value, `CALL_CANCELLED`, or an exception.
    """

    host: str
    job: Any
    result: Any


class Run:
    """The calls of one procedure on many hosts, as programs."""

    def __init__(
        self,
        group: BaseGroup,
        procedure: str,
        arguments: list[Any] | dict[str, Any],
        deliver: Callable[[Outcome], None],
        job_of: Callable[..., BaseCall],
    ) -> None:
        self._core = group._caller._core
        self._hosts = group._hosts
        self._at_once = group._at_once
        self._options = group._options
        self._procedure = procedure
        self._arguments = arguments
        self._caller = group._caller
        self._deliver = deliver
        self._job_of = job_of
        # What is wrong with the call is said here, not in each result.
        call_message("-", procedure, arguments, self._options)

    def program(self) -> Program[None]:
        """Call the procedure on all hosts, and deliver what comes of it."""
        hosts = self._hosts
        if isinstance(hosts, str):
            hosts = yield from find_hosts(self._core, hosts)
        left = iter(hosts)
        at_once = min(self._at_once, len(hosts))
        yield from ops.all_of([self._work(left) for _ in range(at_once)])

    def _work(self, left: Iterator[str]) -> Program[None]:
        for host in left:
            self._deliver((yield from self._one(host)))

    def _one(self, host: str) -> Program[Outcome]:
        job: BaseCall | None = None
        try:
            message = call_message(host, self._procedure, self._arguments, self._options)
            job_id, home = yield from submit(self._core, message)
            job = self._job_of(self._caller, job_id, home)
            end, job._home = yield from get_end(self._core, job_id, home, True)
            return Outcome(host, job, outcome(end))
        except HarpException as error:
            return Outcome(host, job, error)


class BaseGroup:
    """What the blocking and the asynchronous class have in common."""

    def __init__(
        self, caller: Any, hosts: str | Iterable[str], at_once: int, options: dict[str, Any]
    ) -> None:
        if at_once.__class__ is not int or at_once < 1:
            raise InvalidCall(f"at_once must be a number from 1, not {at_once!r}")
        self._caller = caller
        self._hosts: str | list[str] = hosts if isinstance(hosts, str) else list(hosts)
        for host in [self._hosts] if isinstance(self._hosts, str) else self._hosts:
            name_of("host", host)
        self._at_once = at_once
        self._options = options_of(options)

    def __repr__(self) -> str:
        hosts = self._hosts if isinstance(self._hosts, str) else f"{len(self._hosts)} hosts"
        return f"<{type(self).__name__} {hosts}>"


class BaseGroupProcedure:
    """What the blocking and the asynchronous class have in common."""

    def __init__(self, group: BaseGroup, name: str) -> None:
        self._group = group
        self._name = name_of("procedure", name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name} on {self._group!r}>"


class Group(BaseGroup):
    """Several servers; any attribute is a procedure to be called on all of them."""

    def __getattr__(self, procedure: str) -> GroupProcedure:
        refuse_dunder(self, procedure)
        return GroupProcedure(self, procedure)


class GroupProcedure(BaseGroupProcedure):
    """A procedure on several servers."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> GroupResults:
        """Call the procedure on all servers; returns an iterator over what comes of it.

        Jobs are submitted from now on, whether or not the results are asked for, until the
        iterator is closed or dropped. Raises InvalidCall.
        """
        return GroupResults(self._group, self._name, arguments_of(args, kwargs))


class GroupResults(Closing):
    """An iterator over `Outcome` triples, in the order in which jobs end; a context manager."""

    def __init__(
        self, group: BaseGroup, procedure: str, arguments: list[Any] | dict[str, Any]
    ) -> None:
        # None is the end, an exception what made an end of it all.
        results: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()
        run = Run(group, procedure, arguments, results.put, RemoteCall.at)
        stop = ops.Signal()
        self._results = results
        self._over = False
        context = contextvars.copy_context()  # with the deadline that holds here
        self._thread = threading.Thread(
            target=context.run, args=(_run, run, stop, results), name="holdfast group", daemon=True
        )
        self._end = weakref.finalize(self, stop.fire)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Outcome:
        if self._over:
            raise StopIteration
        try:
            result = self._results.get()
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if isinstance(result, Outcome):
            return result
        self._over = True
        if result is None:
            raise StopIteration
        raise result

    def all(self) -> list[Outcome]:
        """Return all results that are left, as a list."""
        return list(self)

    def close(self) -> None:
        """Submit no more jobs, and wait for none; those that were submitted go on."""
        self._over = True
        self._end()
        self._thread.join()


def _run(
    run: Run, stop: ops.Signal, results: queue.SimpleQueue[Outcome | BaseException | None]
) -> None:
    """Run the calls on a thread of their own until they are over, or are to stop."""
    try:
        blocking.run(_until(run.program(), stop))
    except BaseException as error:
        results.put(error)
    else:
        results.put(None)


def _until(program: Program[None], stop: ops.Signal) -> Program[None]:
    def stopped() -> Program[None]:
        yield ops.Wait(stop, inf)

    def guarded() -> Program[BaseException | None]:
        try:
            yield from program
        except Exception as error:
            return error
        return None

    _, error = yield ops.First([guarded(), stopped()])
    if error is not None:
        raise error
