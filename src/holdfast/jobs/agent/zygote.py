"""The parent of all calls: it has loaded the procedures, and forks a process for each call.

Theory of operation. It is started by the daemon, single-threaded, and knows neither keys nor
passwords nor clients. It forks processes ahead of need: each waits for one call, on a pipe whose
other end the daemon gets, with those of the pipes for its answers and for what it prints. What a
call asks and answers never passes here, so this process sleeps while calls run; it forks, reaps,
and ends the groups of processes that it is told to end.

A process is reaped as soon as it is noticed, not when it exits: nothing waits for it. Only where a
connection closed before the call's end does the daemon ask what became of the process. A group is
ended in two steps, and watched between them: while one of its processes lives, or a moment ago
did, its number cannot belong to another (numbers are given out in a circle).
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from struct import Struct
from time import monotonic
from typing import Any, NoReturn

from holdfast.jobs.agent import child
from holdfast.jobs.agent.loading import NotLoaded, load
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

__all__ = ["main"]

#: Seconds between looks at groups that are ending, and at processes that were asked about.
WATCH = 0.02

#: Seconds between looks for processes that exited without anybody asking.
REAP = 0.5

#: How many processes are made at once, at most. Their descriptors travel in one message.
BATCH = 8

#: The pipes of a process: for the request, for the answers, and for what it prints. Only the second
#: is written to, and read from, without waiting. (Two pipes are cheaper than one socket.)
PIPES = (os.O_CLOEXEC, os.O_CLOEXEC | os.O_NONBLOCK, os.O_CLOEXEC)

#: Seconds that a process may run on after it closed its connection.
LINGER = 1.0


def main(control: int) -> NoReturn:
    """Load the procedures and serve the daemon at the other end of a socket, until it goes."""
    os.environ.pop("LD_BIND_NOW", None)  # it was for this process only
    with socket.socket(fileno=control) as daemon:
        settings = _settings(daemon)
        sys.path[:0] = settings["prepend"]
        sys.path += settings["append"]
        _prepare_output()
        try:
            offers = load(settings["procedures"], settings["user"], settings["group"])
        except NotLoaded as error:
            _tell(daemon, NOT_LOADED, str(error))
            os._exit(1)
        threading = sys.modules.get("threading")
        if threading is not None and threading.active_count() > 1:
            print("the file of procedures has started threads: calls have none of them")
        child.flush()  # or every process would have it, too
        # After the file has run, which may have done this for itself.
        signal.signal(signal.SIGTERM, child.on_terminate)
        signal.signal(signal.SIGALRM, child.on_alarm)
        offered = {name: [offer.streaming, offer.timeout] for name, offer in offers.items()}
        _tell(daemon, LOADED, json.dumps(offered))
        zygote = _Zygote(daemon, child.Work(offers, settings["reply_bytes"]), settings["grace"])
        child.rehearse()
        # What is here now is never garbage: to look at it would only copy its pages.
        gc.collect()
        gc.freeze()
        zygote.serve()
    os._exit(0)


def _settings(daemon: socket.socket) -> dict[str, Any]:
    """Read the one line that the daemon begins with."""
    line = b""
    while not line.endswith(b"\n"):
        data = daemon.recv(65536)
        if not data:
            os._exit(1)
        line += data
    settings: dict[str, Any] = json.loads(line)
    return settings


def _prepare_output() -> None:
    """Write whole lines, and whatever comes: it is for the log."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(  # type: ignore[union-attr]
            encoding="utf-8", errors="backslashreplace", line_buffering=True
        )


def _tell(daemon: socket.socket, kind: bytes, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    daemon.sendall(RECORD.pack(kind, 0, len(data)) + data)


def _pipe(flags: int) -> tuple[int, int]:
    if hasattr(os, "pipe2"):
        return os.pipe2(flags)
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, not flags & os.O_NONBLOCK)
    return ends


class _Zygote:
    def __init__(self, daemon: socket.socket, work: child.Work, grace: float) -> None:
        self._daemon = daemon
        self._work = work
        self._grace = grace
        self._wanted = 0
        self._retired = False
        self._received = b""
        self._children: set[int] = set()
        self._asked: dict[int, float] = {}  # when a process is ended that is still there
        self._ending: dict[int, float] = {}  # when a group is killed
        self._reminders: dict[int, tuple[float, float]] = {}  # when, and after which pause the next

    def serve(self) -> None:
        """Do what the daemon asks for until it is gone, or has retired this process."""
        poller = select.poll()
        poller.register(self._daemon, select.POLLIN)
        open = True
        while open or self._children or self._ending:
            if self._wanted:
                self._fork(min(self._wanted, BATCH))
            ready = poller.poll(0 if self._wanted else self._pause())
            if ready and not self._receive():
                open = False
                poller.unregister(self._daemon)
                for pid in self._children:
                    self._end(pid)
            self._reap()
            self._watch()
            if self._retired and not self._children and not self._ending:
                return

    def _pause(self) -> int | None:
        """Return how long nothing needs to be looked at, in milliseconds."""
        if self._ending or self._asked:
            return int(WATCH * 1000)
        return int(REAP * 1000) if self._children else None

    def _receive(self) -> bool:
        """Take what the daemon says; return False when it is gone."""
        try:
            data = self._daemon.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self._wanted = 0
            return False
        data = self._received + data
        whole = len(data) - len(data) % RECORD.size
        self._received = data[whole:]
        for kind, pid, number in RECORD.iter_unpack(data[:whole]):
            if kind == FORK:
                if not self._retired:
                    self._wanted += number
            elif kind == END:
                if pid in self._children:
                    self._end(pid)
            elif kind == ASK:
                if pid in self._children:
                    self._asked[pid] = monotonic() + LINGER
                else:
                    self._say(EXITED, pid, 0)
            elif kind == RETIRE:
                self._retired = True
                self._wanted = 0
        return True

    def _say(self, kind: bytes, pid: int, number: int) -> None:
        try:
            self._daemon.sendall(RECORD.pack(kind, pid, number))
        except OSError:
            pass  # the daemon is gone, which is noticed when it is read from

    def _fork(self, count: int) -> None:
        """Make processes that wait for a call.

        Between two forks as little as possible is done: what this process writes to is shared with
        the process before, so it is copied, page by page, and that costs as much as the fork.
        """
        self._wanted -= count
        error = 0
        every = [self._daemon.fileno()]
        pids = []
        try:
            for _ in range(count):
                for flags in PIPES:
                    every += _pipe(flags)
        except OSError as failure:
            error = failure.errno or 0
        try:
            for at in range(1, len(every) - 5, 6):
                pid = os.fork()
                if pid == 0:
                    child.run(self._work, (every[at], every[at + 3], every[at + 5]), every)
                pids.append(pid)
        except OSError as failure:
            error = failure.errno or 0
        records: list[bytes] = []
        descriptors: list[int] = []
        for pid, at in zip(pids, range(1, len(every), 6), strict=False):
            # Before anyone knows the process: its group must be there when it has to end.
            os.setpgid(pid, pid)
            self._children.add(pid)
            records.append(RECORD.pack(SPARE, pid, 0))
            descriptors += (every[at + 1], every[at + 2], every[at + 4])
        if pids:
            try:
                data = Struct(f"{len(descriptors)}i").pack(*descriptors)
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, data)
                self._daemon.sendmsg(records, [rights])
            except OSError:
                pass  # the daemon is gone; so are the other ends, and the processes exit
        for fd in every[1:]:
            os.close(fd)
        for _ in range(count - len(pids)):
            self._say(FORK_FAILED, 0, error)

    def _reap(self) -> None:
        """Take leave of the processes that have exited."""
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid not in self._children:
                continue  # left by the file of procedures
            self._children.discard(pid)
            if self._asked.pop(pid, None) is not None or status != 0:
                self._say(EXITED, pid, status)
            if status != 0 and pid not in self._ending:
                # It did not end by itself, and what it has started is nobody's now.
                self._end(pid)

    def _end(self, pid: int) -> None:
        if pid not in self._ending:
            self._signal(pid, signal.SIGTERM)
            now = monotonic()
            self._ending[pid] = now + self._grace
            self._reminders[pid] = (now + WATCH, WATCH)

    def _watch(self) -> None:
        """Kill what should have ended by now, and forget what has."""
        now = monotonic()
        for pid, when in list(self._asked.items()):
            if now >= when:
                self._asked[pid] = now + self._grace
                self._end(pid)
        for pid, when in list(self._ending.items()):
            there = pid in self._children or self._signal(pid, 0)
            if there and now >= when:
                self._signal(pid, signal.SIGKILL)
            if now >= when or not there:
                del self._ending[pid]
                self._reminders.pop(pid, None)
            elif pid in self._children:
                self._remind(pid, now)

    def _remind(self, pid: int, now: float) -> None:
        """Signal the procedure's own process once more: it may just have begun to wait.

        Only this one; to other programs the signal says more when it comes again.
        """
        when, pause = self._reminders[pid]
        if now >= when:
            os.kill(pid, signal.SIGTERM)
            self._reminders[pid] = (now + 2 * pause, 2 * pause)

    @staticmethod
    def _signal(group: int, number: int) -> bool:
        """Send a signal to a group of processes; return whether it is there."""
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it is there, and is none of ours any more
        return True
