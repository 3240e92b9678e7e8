"""What `holdfast request` prints of an answer, or of the failure to get one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import click

from holdfast.console.consoles import output, printable, progress
from holdfast.console.jsontext import coloured, laid_out
from holdfast.errors import HoldfastError, StatusError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast import Attempt, Response
    from holdfast.cluster.streams import StreamedResponse

__all__ = ["CLIENT_ERROR", "SERVER_ERROR", "Printer"]

CLIENT_ERROR, SERVER_ERROR = 3, 4


@dataclass(frozen=True)
class Printer:
    """Prints as the options say; its methods return the exit status that is due."""

    include: bool
    explain: bool
    fail: bool

    def show(self, response: Response) -> int:
        """Print an answer whose body was read."""
        status = self._head(response)
        if not status:
            _show_body(response)
        return status

    def save(self, response: StreamedResponse, target: str) -> int:
        """Write the body of an answer to a file as it comes; ``-`` is the standard output.

        Raises OSError when it cannot be written, HoldfastError when the body breaks off.
        """
        status = self._head(response)
        if status:
            return status
        if target == "-":
            _copy(response, sys.stdout.buffer, "the standard output")
            return 0
        with open(target, "wb") as file:
            size = _copy(response, file, target)
        if sys.stderr.isatty():
            click.echo(f"{size:,} bytes in {target}", err=True)
        return 0

    def failed(self, error: HoldfastError) -> None:
        """Say what failed, where, and what was tried."""
        if self.explain:
            self._explain(error.attempts)
            complain(error.summary)
        else:
            complain(str(error))

    def _head(self, response: Response) -> int:
        """Print what comes before the body; returns the status that --fail asks for."""
        if self.explain:
            self._explain(response.attempts)
        if self.include:
            _write(_head_of(response), sys.stdout.isatty())
        if not self.fail:
            return 0
        try:
            response.raise_for_status()
        except StatusError as error:
            complain(error.summary if self.explain else str(error))
            return CLIENT_ERROR if response.status_code < 500 else SERVER_ERROR
        return 0

    def _explain(self, attempts: Sequence[Attempt]) -> None:
        from holdfast.console.attempts import attempts_table

        progress().print(attempts_table(attempts))


def complain(sentence: str) -> None:
    """Print what went wrong on the standard error."""
    click.echo(f"holdfast: {printable(sentence)}", err=True)


def _head_of(response: Response) -> str:
    lines = [f"{response.http_version} {response.status_code} {response.reason_phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers.multi_items()]
    return "".join(f"{line}\n" for line in [*lines, ""])


def _write(text: str, terminal: bool) -> None:
    """Write text to the standard output; on a terminal it cannot take the screen over."""
    if terminal:
        click.echo(printable(text), nl=False)
    else:
        _write_all(sys.stdout.buffer, text.encode("utf-8", "replace"))


def _write_all(file: IO[bytes], data: bytes) -> None:
    """Write all of the data: the standard output, when it is unbuffered, may take a part only."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    file.flush()


def _show_body(response: Response) -> None:
    content = bytes(response.content)
    terminal = sys.stdout.isatty()
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    laid = laid_out(content) if _is_json(kind) else None
    if laid is not None and terminal:
        output().print(coloured(laid.decode()), soft_wrap=True)
    elif laid is not None:
        _write_all(sys.stdout.buffer, laid + b"\n")
    elif not terminal:
        _write_all(sys.stdout.buffer, content)
    elif _is_text(kind, content):
        text = response.text
        _write(text if text.endswith("\n") or not text else text + "\n", terminal)
    else:
        complain(
            f"{len(content):,} bytes of {kind or 'an unknown type'} are not shown on a terminal; "
            "write them to a file with --output FILE"
        )


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _is_text(kind: str, content: bytes) -> bool:
    if kind.startswith("text/") or _is_json(kind):
        return True
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _copy(response: StreamedResponse, file: IO[bytes], target: str) -> int:
    """Copy a body; what breaks off is told together with how much of it is there."""
    size = 0
    try:
        for piece in response.iter_bytes():
            _write_all(file, piece)
            size += len(piece)
    except HoldfastError as error:
        error.args = (f"{error.summary}; {target} has the first {size:,} bytes only",)
        error.attempts = error.attempts or response.attempts
        raise
    return size
