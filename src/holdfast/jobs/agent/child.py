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
from holdfast.jobs.agent.loading import Offer
from holdfast.jobs.agent.records import LENGTH
from holdfast.jobs.procedures import Procedure, ProcedureCancelled, ProcedureTimeout
from holdfast.jobs.results import Result
from holdfast.wire.jsonlines import WireError, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Work", "on_alarm", "on_terminate", "rehearse", "run"]

#: How a shell tells that SIGTERM ended something, and how `timeout` tells that it did. Only with 0
#: is what the procedure has started left alone.
TERMINATED = 128 + signal.SIGTERM
TIMED_OUT = 124

#: Seconds until SIGALRM comes again.
REPEAT = 0.1

#: More than the interpreter waits for until it specialises what it runs.
REHEARSALS = 20

ACKNOWLEDGED = b'{"harp":1,"stream_result":false}\n'
ACKNOWLEDGED_STREAM = b'{"harp":1,"stream_result":true}\n'


class Work:
    """What can be called, and the most bytes that a message may have."""

    def __init__(self, offers: dict[str, Offer], reply_bytes: int) -> None:
        self.offers = offers
        self.reply_bytes = reply_bytes


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


def run(work: Work, pipes: list[int], others: list[int]) -> NoReturn:
    """Be the process of one call: wait for it, answer it, exit.

    ``pipes``: to read the request from, to answer on, and to print to. ``others``: what belongs to
    the parent and must not stay open here.
    """
    global _call, _waiting
    status = 1
    try:
        _waiting = True
        request, replies, output = pipes
        for fd in others:
            os.close(fd)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        asked = _read(request)
        if asked is not None:
            os.close(request)
            os.set_blocking(replies, False)
            _call = _Call(work, replies)
            _call.answer(*asked)
        status = TIMED_OUT if _call is not None and _call.expired else 0
    except ProcedureCancelled:
        status = TERMINATED
    except BaseException as error:
        sys.__excepthook__(type(error), error, error.__traceback__)
    finally:
        _flush()
        os._exit(status)


def _read(request: int) -> tuple[str, Any] | None:
    """Wait for the call: a procedure and its arguments. None when there will be none.

    The daemon has read the caller's JSON, so here `marshal` does, which costs next to nothing.
    """
    data = os.read(request, 65536)
    if not data:
        return None
    size = LENGTH.unpack_from(data)[0] + LENGTH.size
    while len(data) < size:
        more = os.read(request, 1 << 20)
        if not more:
            return None
        data += more
    procedure, arguments = marshal.loads(memoryview(data)[LENGTH.size :])  # noqa: S302 # the daemon's
    return procedure, arguments


def rehearse() -> None:
    """Answer calls that nobody has made, in the parent.

    The interpreter adapts to what it runs, and remembers what it has looked up. What it learns here
    no process has to learn again, in copies of its pages: that is a third of the cost of a call.
    """
    global _call
    work = Work({"": Offer(Procedure(_nothing), None)}, 1000)
    request = marshal.dumps(("", []))
    request = LENGTH.pack(len(request)) + request
    for _ in range(REHEARSALS):
        reading, writing = os.pipe()
        os.write(writing, request)
        _read(reading)
        os.set_blocking(writing, False)
        _call = _Call(work, writing)
        _call.answer("", [])
        os.close(reading)
        os.close(writing)
    _call = None


def _nothing() -> None:
    pass


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, or replaced by the procedure


class _Call:
    def __init__(self, work: Work, replies: int) -> None:
        self._work = work
        self._replies = replies
        self._left = bytearray()  # of the lines that the daemon has not taken yet
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

    def answer(self, name: str, arguments: Any) -> None:
        """Run a procedure and send what it gives."""
        offer = self._work.offers[name]
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
                line = _exception(error)
        except ProcedureTimeout:  # just when the procedure had ended
            self.ending = True
            line = b""
        if self.expired:
            seconds = offer.procedure.timeout
            line = _Failed("timeout", f"{name} took longer than its {seconds} seconds").line
        _flush()  # what was printed stands in the log before the call's end
        self._write(line)

    def _perform(self, offer: Offer, arguments: Any) -> bytes:
        procedure = offer.procedure
        misfit = offer.misfit(arguments)
        if misfit is not None:
            raise _Failed("invalid_argument_list", misfit)
        if offer.account is not None:
            try:
                become(offer.account)
            except OSError as error:
                raise _Failed("system_error", f"cannot run as another user: {error}") from None
        self._write(ACKNOWLEDGED_STREAM if procedure.streaming else ACKNOWLEDGED)
        if procedure.timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, procedure.timeout, REPEAT)
        if isinstance(arguments, list):
            value = offer.function(*arguments)
        else:
            value = offer.function(**arguments)
        if procedure.streaming:
            value = self._stream(iter(value))
        return self._encoded({"result": value})

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
            _throw(packets, error)
            raise
        except _Failed:
            _close(packets)
            raise
        _close(packets)
        return result

    def _encoded(self, message: dict[str, Any]) -> bytes:
        try:
            line = encode(message)
        except WireError as error:
            raise _Failed("invalid_message", str(error)) from None
        if len(line) > self._work.reply_bytes:
            raise _Failed(
                "invalid_message",
                f"a message of {len(line)} bytes, of which {self._work.reply_bytes} are allowed",
            )
        return line

    def _write(self, line: bytes) -> None:
        """Send a line, however long that takes."""
        left = self._left
        left += line
        poller: select.poll | None = None
        while left:
            self._writing = True
            try:
                del left[: os.write(self._replies, left)]
            except BlockingIOError:
                pass
            except ConnectionError:
                left.clear()
                if not (self.ending or self.cancelled):
                    self.cancelled = True
                    self._interruption = ProcedureCancelled("the caller has gone")
            self._writing = False
            if self._interruption is not None and not self.ending:
                error, self._interruption = self._interruption, None
                raise error
            if left:
                if poller is None:
                    poller = select.poll()
                    poller.register(self._replies, select.POLLOUT)
                poller.poll()


def _exception(error: BaseException) -> bytes:
    """Return the message that the procedure raised, and put the traceback into the log."""
    sys.__excepthook__(type(error), error, error.__traceback__)
    kind = type(error)
    try:
        text = str(error)
    except Exception:
        text = f"{kind.__name__}, whose text cannot be had"
    return encode(
        {
            "exception": {
                "type": kind.__name__,
                "message": text.encode("utf-8", "backslashreplace").decode(),
                "data": {"class": kind.__name__, "module": str(kind.__module__)},
            }
        }
    )


def _throw(packets: Any, error: BaseException) -> None:
    throw = getattr(packets, "throw", None)
    if throw is not None:
        try:
            throw(error)
        except BaseException:  # noqa: S110
            pass  # as it should, when it does not yield once more
    _close(packets)


def _close(packets: Any) -> None:
    close = getattr(packets, "close", None)
    if close is not None:
        close()
