"""What the demonstration's hosts offer."""

import os
import signal
import time
from collections.abc import Iterator

from holdfast.jobs.procedures import Result, procedure, streaming_procedure


@procedure
def work(number: int, seconds: float) -> list[float]:
    """Take some time; return the number, and when it began and ended."""
    began = time.monotonic()
    time.sleep(seconds)
    return [number, began, time.monotonic()]


@streaming_procedure
def count(to: int, pause: float) -> Iterator[int | Result]:
    """Yield numbers."""
    for number in range(to):
        yield number
        time.sleep(pause)
    yield Result(to)


@streaming_procedure
def hang() -> Iterator[int]:
    """Tell the process, and never end."""
    yield os.getpid()
    while True:
        signal.pause()
