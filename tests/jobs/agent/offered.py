"""The procedures of the tests' daemons."""

# ruff: noqa: D103 -- each is named for what it does

import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

from holdfast.jobs.procedures import (
    Procedure,
    ProcedureCancelled,
    ProcedureTimeout,
    Result,
    StreamingProcedure,
    procedure,
    streaming_procedure,
)


@procedure
def nothing() -> Any:
    pass


@procedure
def echo(value: Any) -> Any:
    return value


@procedure
def both(first: Any, second: Any = "two", *rest: Any, third: Any = None, **more: Any) -> Any:
    return [first, second, list(rest), third, more]


def hidden() -> Any:
    return "nobody may call this"


class Marked(Procedure):
    def __call__(self, number: Any) -> Any:
        return number + 1


class MarkedStream(StreamingProcedure):
    def __call__(self, to: Any) -> Any:
        yield from range(to)


marked = Marked()
marked_stream = MarkedStream()
built_in = Procedure(len)


@streaming_procedure
def count(to: Any) -> Any:
    yield from range(to)
    yield Result({"counted": to})


@streaming_procedure
def without_result(to: Any) -> Any:
    yield from range(to)


@streaming_procedure
def listed() -> Any:
    return ["a", "b"]


@streaming_procedure
def large(packets: Any, size: Any) -> Any:
    for _ in range(packets):
        yield "x" * size


@streaming_procedure
def after_result(path: Any) -> Any:
    try:
        yield Result("the end")
        yield "too late"
    finally:
        open(path, "w").close()


class Refusal(Exception):
    pass


@procedure
def fails(text: Any) -> Any:
    raise Refusal(text)


@procedure
def exits() -> Any:
    sys.exit("no more")


@streaming_procedure
def fails_later() -> Any:
    yield 1
    raise ValueError("in the middle")


@procedure
def unspeakable(kind: Any) -> Any:
    return {
        "nan": float("nan"),
        "set": {1},
        "bytes": b"x",
        "date": datetime(2020, 1, 1),
        "deep": [[]],
        "generator": (one for one in "ab"),
    }[kind]


@streaming_procedure
def unspeakable_later(path: Any) -> Any:
    try:
        yield 1
        yield object()
        yield 2
    finally:
        open(path, "w").close()


@procedure
def too_large() -> Any:
    return "x" * (20 << 20)


@procedure
def fails_at_length() -> Any:
    raise Refusal("é" * (20 << 20))


@procedure
def prints() -> Any:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    subprocess.run(["echo", "from a program"])
    sys.stdout.write("without an end")
    return "returned"


@procedure
def prints_tricks() -> Any:
    os.write(1, b"one\x1b[31m\rtwo\nthree\xff\n" + b"l" * 20000 + b"\n")


@procedure
def whoami() -> Any:
    return {"uid": os.getuid(), "gid": os.getgid(), "groups": sorted(os.getgroups())}


@procedure
def process() -> Any:
    return [os.getpid(), os.getppid(), os.getpgid(0)]


@procedure
def descriptors() -> Any:
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))


@procedure
def environment(name: Any) -> Any:
    return os.environ.get(name)


def program(deaf: Any = False) -> Any:
    """Start a program that runs for long, and return its process."""
    script = "echo x; exec sleep 600"
    child = subprocess.Popen(
        ["/bin/sh", "-c", f"trap '' TERM; {script}" if deaf else script], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.read(1)
    return child.pid


@streaming_procedure
def waits(path: Any = None) -> Any:
    try:
        yield [os.getpid(), program()]
        time.sleep(600)
    except ProcedureCancelled:
        if path:
            open(path, "w").close()
        raise


@streaming_procedure
def stubborn() -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield [os.getpid(), program(deaf=True)]
    while True:
        time.sleep(600)


@streaming_procedure
def leaves_stubborn() -> Any:
    """Exit when it is cancelled, and leave a program that does not."""
    yield [os.getpid(), program(deaf=True)]
    time.sleep(600)


@procedure
def leaves() -> Any:
    return program()


@procedure(timeout=0.3)
def slow(path: Any) -> Any:
    try:
        time.sleep(600)
    finally:
        open(path, "w").close()


@procedure(timeout=0.3)
def slow_but_returns() -> Any:
    try:
        time.sleep(600)
    except ProcedureTimeout:
        return "in spite of it"


@procedure(timeout=0.3)
def slow_and_deaf() -> Any:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(600)


@streaming_procedure(timeout=0.3)
def slow_stream(path: Any) -> Any:
    try:
        yield [os.getpid(), program()]
        while True:
            yield "x" * 1000
    except ProcedureTimeout:
        open(path, "w").close()
        raise


@procedure(timeout=60)
def in_time() -> Any:
    return "in time"


@procedure
def kills_itself(number: Any) -> Any:
    os.kill(os.getpid(), number)
    time.sleep(600)


@procedure
def leaves_abruptly(status: Any) -> Any:
    os._exit(status)


@streaming_procedure
def dies_later() -> Any:
    yield "before"
    os.kill(os.getpid(), signal.SIGKILL)


@procedure
def closes_everything() -> Any:
    os.closerange(3, 100)
    time.sleep(600)


@procedure
def forks_and_dies() -> Any:
    """Leave a process that keeps the connection open."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, b"x")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    os.read(reading, 1)
    os.kill(os.getpid(), signal.SIGKILL)


@streaming_procedure
def writes_to_all(line: Any) -> Any:
    """Yield a packet, and write a line to whatever is open."""
    yield "before"
    for fd in range(3, 20):
        try:
            os.write(fd, line.encode() + b"\n")
        except OSError:
            pass
    return


@procedure
def returns_twice() -> Any:
    if os.fork() == 0:
        return "in the fork"
    os.wait()
    return "in the process"
