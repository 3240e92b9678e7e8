"""What the host of the benchmark of jobs offers."""

import signal
from collections.abc import Iterator

from holdfast.jobs.procedures import Result, procedure, streaming_procedure


@procedure
def noop() -> None:
    """Return at once."""


@streaming_procedure
def stream(count: int) -> Iterator[int | Result]:
    """Yield numbers as fast as they are taken."""
    yield from range(count)
    yield Result(count)


@streaming_procedure
def hold() -> Iterator[str]:
    """Say that it has begun, and never end."""
    yield "begun"
    while True:
        signal.pause()
