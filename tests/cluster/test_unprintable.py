"""Exceptions that cannot be shown: they are the user's all the same."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from holdfast import Policy, Retry
from holdfast.calls import fault_tolerant
from holdfast.policy import Event
from holdfast.telemetry import Log

EAGER = Retry(attempts=2, base=1e-9)


class Unprintable(ConnectionError):
    """What cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("decorator", [Policy(retry=EAGER), fault_tolerant(retry_attempts=1)])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_exception_that_cannot_be_shown(decorator: Any, asynchronous: bool) -> None:
    """The function's own exception is raised, and its attempts are told."""
    error = Unprintable()
    events: list[Event] = []

    def fail() -> None:
        raise error

    async def later() -> None:
        raise error

    work = decorator(later if asynchronous else fail)
    work.core.listen(events.append)
    work.core.listen(Log())
    with pytest.raises(Unprintable) as caught:
        asyncio.run(work()) if asynchronous else work()
    assert caught.value is error
    (note,) = error.__notes__
    assert "2 attempts" in note
    assert "Unprintable: (it cannot be shown)" in note
    assert events[-1].kind == "call failed"


def test_the_log_shows_what_it_can(caplog: pytest.LogCaptureFixture) -> None:
    """A record of such an exception is written, with its kind."""
    caplog.set_level(logging.DEBUG)

    @Policy(retry=None)
    def work() -> None:
        raise Unprintable

    work.core.listen(Log())  # type: ignore[attr-defined]
    with pytest.raises(Unprintable):
        work()
    assert "Unprintable" in caplog.text
