"""What happens in the process of one call.

The process was forked from one that has everything loaded, waits for its call, answers it on a
pipe, and exits without ceremony: what Python does at its end is paid for by every call.

Two signals raise in the procedure, so that it can clean up: SIGALRM when its time is over, SIGTERM
when its caller has gone. They must not cut a line in two. So while bytes are handed over, which
never waits, they only leave a note; where this process waits, they raise at once.

A signal that comes just before a system call does not interrupt it, and the interpreter would learn
of it only afterwards, which may be never. So both signals are repeated, and count once.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from holdfast.jobs.agent.accounts import become
from holdfast.jobs.agent.failures import close, exception_line, throw_into
from holdfast.jobs.agent.loading import Offer
from holdfast.jobs.agent.records import ACKNOWLEDGED, ACKNOWLEDGED_STREAM
from holdfast.jobs.procedures import Procedure, ProcedureCancelled, ProcedureTimeout
from holdfast.jobs.results import Result
from holdfast.wire.jsonlines import WireError, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

__all__ = ["Work", "flush", "on_alarm", "on_terminate", "rehearse", "run"]

#: How a shell tells that SIGTERM ended something, and how `timeout` tells that it did. Only with 0
#: is what the procedure has started left alone.
TERMINATED = 128 + signal.SIGTERM
TIMED_OUT = 124

#: Seconds until SIGALRM comes again.
REPEAT = 0.1

#: More than the interpreter waits for until it specialises what it runs.
REHEARSALS = 20

NO_RESULT = b'{"result":null}\n'

#: Bytes of a request that are read at once: as many as Python has ready for small objects.
SHORT = 400


class Work:
    """What can be called, and the most bytes that a message may have."""

    def __init__(self, offers: dict[str, Offer], reply_bytes: int) -> None:
        self.offers = offers
        self.call = _Call(reply_bytes)


class _Failed(Exception):
    """The call ends with an error, which is not the procedure's."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(type, message)
        self.line = encode({"harp": 1, "error": {"type": type, "message": message}})


# Signals come to the process, so what they need stands here. In the parent there is no call.
_waiting = False
_call: _Call | None = None


def on_terminate(number: int, frame: FrameType | None) -> None:
    """Raise in the procedure, or end a process that has none; the parent does not care."""
    if _call is not None:
        if not _call.cancelled:
            _call.cancelled = True
            _call.interrupt(ProcedureCancelled("the caller has gone"))
    elif _waiting:
        os._exit(TERMINATED)


def on_alarm(number: int, frame: FrameType | None) -> None:
    """Raise in the procedure that its time is over."""
    if _call is not None and not _call.expired:
        _call.expired = True
        _call.interrupt(ProcedureTimeout("the procedure's time is over"))


def run(work: Work, pipes: Sequence[int], others: Sequence[int]) -> NoReturn:
    """Be the process of one call: wait for it, answer it, exit.

    ``pipes``: to read the request from, to answer on, which does not block, and to print to.
    ``others``: what belongs to the parent, or to processes like this one, and is closed here.
    """
    status = 1
    try:
        status = _serve(work, pipes, others)
    except ProcedureCancelled:
        status = TERMINATED
        flush()
    except BaseException as error:
        sys.__excepthook__(type(error), error, error.__traceback__)
        flush()
    finally:
        os._exit(status)


def _serve(work: Work, pipes: Sequence[int], others: Sequence[int]) -> int:
    """Wait for the call and answer it; return the exit status."""
    global _call, _waiting
    _waiting = True
    request, replies, output = pipes
    for fd in others:
        if fd not in pipes:
            os.close(fd)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    data = os.read(request, SHORT)
    if len(data) == SHORT:
        # What is shorter was written at once, and came at once. This ends when the pipe is closed.
        while more := os.read(request, 1 << 16):
            data += more
    elif not data:
        return 0
    os.close(request)
    # The daemon has read the caller's JSON, so here `marshal` does, which costs next to nothing.
    try:
        name, arguments = marshal.loads(data)  # noqa: S302 # the daemon's
    except (EOFError, ValueError, TypeError):
        return 0  # it was cut short: the caller has gone
    _call = call = work.call
    call.replies = replies
    call.answer(work.offers[name], arguments)
    return TIMED_OUT if call.expired else 0


def rehearse() -> None:
    """Answer calls that nobody has made, in the parent.

    The interpreter adapts to what it runs, and remembers what it has looked up. What it learns here
    no process has to learn again, in copies of its pages: that is a third of the cost of a call.
    """
    global _call, _waiting
    work = Work({"": Offer("", Procedure(_nothing), None)}, 1000)
    request = marshal.dumps(("", []))
    for _ in range(REHEARSALS):
        reading, asking = os.pipe()
        answers, writing = os.pipe()
        os.write(asking, request)
        # What stands in for the pipe to print to is where this process prints already.
        _serve(work, (reading, writing, os.dup(1)), (asking, reading))
        os.close(answers)
        os.close(writing)
    _waiting = False
    _call = None


def _nothing() -> None:
    pass


def flush() -> None:
    """Write what was printed and is no whole line."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, or replaced by the procedure


class _Call:
    __slots__ = (
        "_interruption",
        "_left",
        "_writing",
        "cancelled",
        "ending",
        "expired",
        "replies",
        "reply_bytes",
    )

    def __init__(self, reply_bytes: int) -> None:
        self.replies = -1
        self.reply_bytes = reply_bytes
        self._left: bytes | bytearray = b""  # of the lines that the daemon has not taken yet
        self._writing = False
        self._interruption: BaseException | None = None
        self.ending = False
        self.cancelled = False
        self.expired = False

    def interrupt(self, error: BaseException) -> None:
        """Raise in the procedure, now or as soon as no line is being written."""
        if self.ending:
            return
        if self._writing:
            self._interruption = error
        else:
            raise error

    def answer(self, offer: Offer, arguments: Any) -> None:
        """Run a procedure and send what it gives."""
        try:
            try:
                line = self._perform(offer, arguments)
                self.ending = True
            except _Failed as failed:
                self.ending = True
                line = failed.line
            except ProcedureCancelled:
                self.ending = True
                raise
            except BaseException as error:
                self.ending = True
                line = exception_line(error)
        except ProcedureTimeout:  # just when the procedure had ended
            self.ending = True
            line = b""
        if self.expired:
            line = _Failed(
                "timeout", f"{offer.name} took longer than its {offer.timeout} seconds"
            ).line
        flush()  # what was printed stands in the log before the call's end
        self._write(line)

    def _perform(self, offer: Offer, arguments: Any) -> bytes:
        if arguments.__class__ is not list or not offer.least <= len(arguments) <= offer.most:
            misfit = offer.misfit(arguments)
            if misfit is not None:
                raise _Failed("invalid_argument_list", misfit)
        if offer.account is not None:
            try:
                become(offer.account)
            except OSError as error:
                raise _Failed("system_error", f"cannot run as another user: {error}") from None
        self._write(ACKNOWLEDGED_STREAM if offer.streaming else ACKNOWLEDGED)
        if offer.timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, offer.timeout, REPEAT)
        if arguments.__class__ is list:
            value = offer.function(*arguments)
        else:
            value = offer.function(**arguments)
        if offer.streaming:
            value = self._stream(iter(value))
        # To encode this one as any other costs a seventh of the whole call: code that is not in
        # the memory of this process yet.
        return NO_RESULT if value is None else self._encoded({"result": value})

    def _stream(self, packets: Iterator[Any]) -> Any:
        """Send packets as they come; return the result."""
        result = None
        try:
            for packet in packets:
                if packet.__class__ is Result or isinstance(packet, Result):
                    result = packet.value
                    break
                self._write(self._encoded({"stream": packet}))
        except (ProcedureTimeout, ProcedureCancelled) as error:
            # If it was not raised in the generator, it has to know.
            throw_into(packets, error)
            raise
        except _Failed:
            close(packets)
            raise
        close(packets)
        return result

    def _encoded(self, message: dict[str, Any]) -> bytes:
        try:
            line = encode(message)
        except WireError as error:
            raise _Failed("invalid_message", str(error)) from None
        if len(line) > self.reply_bytes:
            raise _Failed(
                "invalid_message",
                f"a message of {len(line)} bytes, of which {self.reply_bytes} are allowed",
            )
        return line

    def _write(self, line: bytes) -> None:
        """Send a line, however long that takes."""
        left = self._left
        if left:
            left += line
        else:
            left = line
        poller: select.poll | None = None
        while True:
            self._writing = True
            try:
                sent = os.write(self.replies, left)
            except BlockingIOError:
                sent = 0
            except ConnectionError:
                sent = len(left)
                if not (self.ending or self.cancelled):
                    self.cancelled = True
                    self._interruption = ProcedureCancelled("the caller has gone")
            if sent == len(left):
                self._left = left = b""
            else:
                # An array, because it gives away its beginning without being copied.
                self._left = left = left if left.__class__ is bytearray else bytearray(left)
                del left[:sent]
            self._writing = False
            if self._interruption is not None and not self.ending:
                error, self._interruption = self._interruption, None
                raise error
            if not left:
                return
            if poller is None:
                poller = select.poll()
                poller.register(self.replies, select.POLLOUT)
            poller.poll()
