"""What was tried."""

from __future__ import annotations

__all__ = ["Attempt"]


class Attempt:
    """One attempt of a call.

    ``number`` counts from 1; ``endpoint`` is the host as the caller named it; ``started`` and
    ``elapsed`` are seconds, the first one since the call began. ``status`` is the answer's, None
    without one; then ``error`` says why.
    """

    __slots__ = ("elapsed", "endpoint", "error", "number", "started", "status")

    def __init__(
        self,
        number: int,
        endpoint: str,
        started: float,
        elapsed: float,
        status: int | None = None,
        error: Exception | None = None,
    ) -> None:
        self.number = number
        self.endpoint = endpoint
        self.started = started
        self.elapsed = elapsed
        self.status = status
        self.error = error

    def __str__(self) -> str:
        if self.status is not None:
            outcome = str(self.status)
        else:
            outcome = str(getattr(self.error, "summary", self.error))
            outcome = outcome.removeprefix(f"{self.endpoint}: ")
        return f"{self.number}. {self.endpoint}: {outcome} ({self.elapsed * 1000:.1f} ms)"

    def __repr__(self) -> str:
        return f"<Attempt {self}>"
