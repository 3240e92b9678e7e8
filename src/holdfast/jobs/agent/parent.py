"""The daemon's side of the process that calls are forked from (`zygote`)."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from holdfast.jobs.agent.output import Output
from holdfast.jobs.agent.records import (
    ASK,
    END,
    EXITED,
    FORK,
    FORK_FAILED,
    LOADED,
    NOT_LOADED,
    RECORD,
    RETIRE,
    SPARE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LoadError", "Offered", "Owner", "Parent", "Spare"]

logger = logging.getLogger("holdfast.jobs.agent")

BOOTSTRAP = str(Path(__file__).with_name("bootstrap.py"))


class LoadError(Exception):
    """The file of procedures could not be loaded; the text says why."""


class Offered(NamedTuple):
    """What is known of a procedure: whether it streams, and the seconds that it may take."""

    streaming: bool
    timeout: float | None


class Spare(NamedTuple):
    """A process that waits for a call, and its pipes: for the request, answers, what it prints."""

    parent: Parent
    pid: int
    request: int
    replies: int
    output: int

    def close(self) -> None:
        """Let it exit, unused."""
        os.close(self.request)
        os.close(self.replies)
        os.close(self.output)


class Owner(Protocol):
    """Who hears of a parent."""

    def came(self, spare: Spare) -> None:
        """Take a process that was asked for."""

    def failed(self, parent: Parent, error: OSError) -> None:
        """Hear that there is no process."""

    def lost(self, parent: Parent) -> None:
        """Hear that the parent is gone. The processes that it has made are not."""


class Parent:
    """One such process, from its start to its end."""

    def __init__(self, owner: Owner, settings: dict[str, Any]) -> None:
        self._owner = owner
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._descriptors: deque[int] = deque()
        self._unsent = b""
        self._loaded: asyncio.Future[dict[str, Offered]] = self._loop.create_future()
        #: Who hears how a process ended, if it did not end by itself; None when nobody knows.
        self.watched: dict[int, Callable[[int | None], None]] = {}
        self._gone = self._loop.create_future()
        self.retired = False
        self.alive = True

    def start(self) -> None:
        """Start the process; raises OSError."""
        ours, theirs = socket.socketpair()
        log, output = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", BOOTSTRAP, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # Every process would look up by itself what was not looked up before.
                env={**os.environ, "LD_BIND_NOW": "1"},
                preexec_fn=self._limit_descriptors,  # there are no threads
            )
        except BaseException:
            ours.close()
            os.close(log)
            raise
        finally:
            theirs.close()
            os.close(output)
        self._output = Output(self._loop, log, "procedures")
        ours.setblocking(False)
        self._socket = ours
        self._loop.add_reader(ours, self._readable)
        self._send(json.dumps(self._settings).encode() + b"\n")

    def _limit_descriptors(self) -> None:
        """Take back what the daemon has raised; programs rely on the ordinary limit."""
        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (min(limit, self._settings["descriptors"]), most)
        )

    async def load(self, seconds: float) -> dict[str, Offered]:
        """Wait until the procedures are loaded and return them; raises LoadError."""
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._loaded)
        except TimeoutError:
            self._loaded.cancel()
            self.kill()
            raise LoadError(
                f"{self._settings['procedures']}: not loaded within {seconds:g} seconds"
            ) from None
        except BaseException:
            self.kill()
            raise

    def fork(self, count: int) -> None:
        """Ask for processes."""
        self._send(RECORD.pack(FORK, 0, count))

    def end(self, pid: int) -> None:
        """End the group of a process that is known to be there."""
        if self.alive:
            self._send(RECORD.pack(END, pid, 0))
            return
        # Nobody's child any more. Its number is its own until it has exited.
        self._signal(pid, signal.SIGTERM)
        self._loop.call_later(self._settings["grace"], self._signal, pid, signal.SIGKILL)

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def ask(self, pid: int) -> None:
        """Ask how a process ended that has closed its connection: who watches it will hear."""
        if self.alive:
            self._send(RECORD.pack(ASK, pid, 0))
        else:
            self._loop.call_soon(self._exited, pid, None)

    def _exited(self, pid: int, status: int | None) -> None:
        watcher = self.watched.pop(pid, None)
        if watcher is not None:
            watcher(status)

    def retire(self) -> None:
        """Let it exit after its last process."""
        self.retired = True
        if self.alive:
            self._send(RECORD.pack(RETIRE, 0, 0))

    async def close(self, seconds: float) -> None:
        """End all its processes and itself; wait for that."""
        if self.alive:
            self._socket.shutdown(socket.SHUT_WR)
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.shield(self._gone)
            except TimeoutError:
                self.kill()

    def kill(self) -> None:
        """End it now."""
        if self.alive:
            self._lose()

    # What comes, and what could not be sent at once.

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it is gone, which is noticed when it is read from
        if sent < len(data):
            self._unsent = data[sent:]
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        data, self._unsent = self._unsent, b""
        self._loop.remove_writer(self._socket)
        self._send(data)

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 60)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        if not data:
            self._lose()
            return
        data = self._received + data
        at = 0
        while len(data) - at >= RECORD.size:
            kind, pid, number = RECORD.unpack_from(data, at)
            end = at + RECORD.size
            if kind in (LOADED, NOT_LOADED):
                end += number
                if len(data) < end:
                    break
                self._report(kind, data[end - number : end])
            else:
                self._take(kind, pid, number)
            at = end
        self._received = data[at:]

    def _report(self, kind: bytes, data: bytes) -> None:
        if self._loaded.done():
            return
        if kind == NOT_LOADED:
            self._loaded.set_exception(LoadError(data.decode()))
            return
        offered = json.loads(data)
        self._loaded.set_result({name: Offered(*one) for name, one in offered.items()})

    def _take(self, kind: bytes, pid: int, number: int) -> None:
        if kind == SPARE:
            if len(self._descriptors) < 3:  # the system had no more to give
                self._close_descriptors()
                self._owner.failed(self, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
                return
            pipes = [self._descriptors.popleft() for _ in range(3)]
            self._owner.came(Spare(self, pid, *pipes))
        elif kind == EXITED:
            self._exited(pid, number)
        elif kind == FORK_FAILED:
            self._owner.failed(self, OSError(number, os.strerror(number)))

    def _close_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _lose(self) -> None:
        """Notice that the process is gone."""
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._socket)
        if self._unsent:
            self._loop.remove_writer(self._socket)
        self._socket.close()
        self._close_descriptors()
        self._process.kill()  # it has closed its end, so it is about to exit anyway
        self._process.wait()
        if not self._loaded.done():
            self._loaded.set_exception(
                LoadError(f"{self._settings['procedures']}: the process that loads it has ended")
            )
            self._loaded.exception()  # it may be that nobody waits for it
        self._gone.set_result(None)
        self._owner.lost(self)
