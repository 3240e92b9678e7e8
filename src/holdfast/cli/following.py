"""What the commands print of a job: its packets as they come, and how it ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.jobs import (
    CALL_CANCELLED,
    CALL_NOT_FINISHED,
    CommunicationError,
    HarpException,
    RemoteError,
    RemoteException,
)
from holdfast.jobs.endings import End
from holdfast.wire.jsonlines import encode

if TYPE_CHECKING:
    from holdfast.jobs import RemoteCall

__all__ = [
    "CANCELLED",
    "FAILED",
    "RAISED",
    "UNFIT",
    "JobPrinter",
    "complain",
    "end_of",
]

FAILED, RAISED, UNFIT, CANCELLED = 1, 3, 4, 5


def complain(sentence: str) -> None:
    """Print what went wrong on the standard error."""
    from holdfast.console.consoles import printable

    click.echo(f"holdfast: {printable(sentence)}", err=True)


def end_of(result: Any) -> dict[str, Any] | None:
    """Return the message that a job ended with, None if it did not; see `RemoteCall.result`.

    Raises what is no end: that nobody could be asked, or that nobody knows the job.
    """
    if result is CALL_NOT_FINISHED:
        return None
    if result is CALL_CANCELLED:
        return {"cancelled": True}
    if isinstance(result, RemoteException):
        return End("exception", None, result.type, result.message, result.data).to_message()
    if isinstance(result, RemoteError) and result.type != "invalid_jobid":
        return End("error", None, result.type, result.message, result.data).to_message()
    if isinstance(result, HarpException):
        raise result
    return {"result": result}


class JobPrinter:
    """Prints a job for people, or as lines of JSON for programs."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._coloured = not as_json and sys.stdout.isatty()
        self.position = 0  # of the next packet

    def job(self, job: RemoteCall) -> None:
        """Say what the job is called: where nobody is to see results, only on a terminal."""
        if self._as_json:
            self._line({"job": job.id()})
        elif sys.stderr.isatty():
            click.echo(f"job {job.id()}", err=True)

    def follow(self, job: RemoteCall, since: int | None, recent: int | None = None) -> int:
        """Print packets as they come, and then the end; returns the exit status."""
        self.position = since or 0
        try:
            with job.follow(since, recent, numbered=True) as packets:
                for number, data in packets:
                    self.position = number + 1
                    self._packet(number, data)
        except HarpException as error:
            return self.lost(job, error)
        return self.end(job)

    def end(self, job: RemoteCall) -> int:
        """Print how the job ended, after waiting for it; returns the exit status."""
        try:
            end = end_of(job.result(wait=True))
        except HarpException as error:
            return self.lost(job, error)
        assert end is not None
        if self._as_json:
            self._line(end)
        else:
            self._told(job, end)
        return status_of(end)

    def lost(self, job: RemoteCall, error: HarpException) -> int:
        """Say that nothing more can be known of the job now; returns the exit status."""
        complain(str(error))
        if isinstance(error, CommunicationError):
            self._come_back(job, "What becomes of it cannot be seen from here.")
        return FAILED

    def go_on(self, job: RemoteCall) -> None:
        """Say how to come back to a job that goes on."""
        self._come_back(job, f"Job {job.id()} goes on.")

    def _come_back(self, job: RemoteCall, sentence: str) -> None:
        since = f" --since {self.position}" if self.position else ""
        again = f"Come back with: holdfast jobs follow {job.id()}{since}"
        click.echo(f"{sentence} {again}", err=True)

    def _packet(self, number: int, data: Any) -> None:
        if self._as_json:
            self._line({"packet": number, "data": data})
        else:
            self._value(data, False)

    def _told(self, job: RemoteCall, end: dict[str, Any]) -> None:
        if "result" in end:
            self._value(end["result"], True)
        elif "cancelled" in end:
            complain(f"job {job.id()} was cancelled")
        elif "exception" in end:
            said = end["exception"]
            complain(f"the procedure raised {said['type']}: {said['message']}")
        else:
            said = end["error"]
            complain(f"job {job.id()} failed: {said['type']}: {said['message']}")

    def _line(self, message: dict[str, Any]) -> None:
        click.echo(encode(message), nl=False)

    def _value(self, value: Any, laid: bool) -> None:
        """Print a value: the result laid out, packets in one line each."""
        line = encode(value)
        if laid:
            from holdfast.console.jsontext import laid_out

            line = (laid_out(line) or line.rstrip(b"\n")) + b"\n"
        if not self._coloured:
            click.echo(line, nl=False)
            return
        from holdfast.console.consoles import output
        from holdfast.console.jsontext import coloured

        output().print(coloured(line.decode().rstrip("\n")), soft_wrap=True)


def status_of(end: dict[str, Any]) -> int:
    """Return the exit status that tells how a job ended."""
    kinds = {"result": 0, "exception": RAISED, "error": UNFIT, "cancelled": CANCELLED}
    return kinds[next(iter(end))]
