"""Events become records."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, get_args

import pytest

from holdfast import Breaker, Ejection, Hedge, Limit, Policy, Retry
from holdfast.policy.events import Event, Kind
from holdfast.telemetry import Log
from holdfast.telemetry.logs import LEVELS
from tests.cluster.calls import Reply, Virtual

NAME = "tests.telemetry"
PLAIN: dict[str, Any] = {"budget": None, "breaker": None, "limit": None}


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return level and text of the records."""
    return [(record.levelno, record.getMessage()) for record in caplog.records]


@pytest.fixture
def debug(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Take records of every level."""
    caplog.set_level(logging.DEBUG, NAME)
    return caplog


def test_every_kind_has_a_level_and_a_text(debug: pytest.LogCaptureFixture) -> None:
    """Also with nothing in the event but its kind."""
    assert set(get_args(Kind)) == set(LEVELS)
    log = Log(NAME, logging.DEBUG)
    for kind in get_args(Kind):
        log(Event(kind, 0.0))
    assert len(told(debug)) == len(LEVELS)


def test_a_retry(debug: pytest.LogCaptureFixture) -> None:
    """The failed attempt, the retry; what goes well is for debugging."""
    policy = Policy(**{**PLAIN, "retry": Retry(attempts=2, base=1e-9)})
    cluster = Virtual(2, policy, balancer="round-robin", listeners=[Log(NAME)])
    cluster.hosts[0].behaviour = Reply(after=0.5, fate="reset")
    cluster.hosts[1].behaviour = Reply(after=0.5, fate="reset")
    cluster.fail(path="/x?token=hunter2")
    levels = [logging.WARNING, logging.INFO, logging.WARNING, logging.WARNING]
    assert [record.levelno for record in debug.records] == levels
    failed, retried, _, call = debug.records
    assert failed.getMessage().startswith("attempt 1 at 10.0.0.")
    assert "failed after 0.500 s: NetworkError: " in failed.getMessage()
    assert failed.__dict__["holdfast_event"] == "attempt failed"
    assert failed.__dict__["holdfast_attempt"] == 1
    assert failed.__dict__["holdfast_call"] == 1
    assert failed.__dict__["holdfast_endpoint"] in cluster.names
    assert failed.__dict__["holdfast_seconds"] == 0.5
    assert failed.__dict__["holdfast_outcome"] == "failure"
    assert failed.__dict__["holdfast_error"] == "holdfast.errors.NetworkError"
    assert retried.__dict__["holdfast_policy"] == "retry"
    assert "2 attempts" in call.getMessage()
    assert "hunter2" not in debug.text


def test_what_goes_well(debug: pytest.LogCaptureFixture) -> None:
    """Is told at the level of debugging, with the status."""
    cluster = Virtual(1, listeners=[Log(NAME, logging.DEBUG)])
    cluster.call("POST", "/x?token=hunter2")
    place = cluster.names[0]
    assert told(debug) == [
        (logging.DEBUG, "call 1 started: POST /x"),
        (logging.DEBUG, f"attempt 1 at {place} started"),
        (logging.DEBUG, f"attempt 1 at {place} succeeded after 0.000 s: status 200"),
        (logging.DEBUG, "call 1 succeeded after 0.000 s: status 200"),
    ]


def test_rejections_circuits_and_ejections(debug: pytest.LogCaptureFixture) -> None:
    """Who opened, who went, who was refused."""
    policy = Policy(**{**PLAIN, "retry": None, "breaker": Breaker(failures=1)})
    cluster = Virtual(1, policy, ejection=Ejection(failures=1), listeners=[Log(NAME)])
    cluster.all_reply(fate="reset")
    cluster.fail()
    cluster.fail()
    place = cluster.names[0]
    texts = [text for _, text in told(debug)]
    assert f"the circuit of {place} opened" in texts
    assert any(text.startswith(f"{place} ejected: ") for text in texts)
    assert any(
        text.startswith("attempt 1 rejected by the policy 'breaker': CircuitOpenError: ")
        for text in texts
    )


def test_a_lost_hedge_is_no_warning(debug: pytest.LogCaptureFixture) -> None:
    """Being slower than another one is nobody's failure."""
    policy = Policy(**PLAIN, retry=None, hedge=Hedge(after=0.1))
    cluster = Virtual(2, policy, listeners=[Log(NAME)])
    cluster.all_reply(after=0.15)
    cluster.call()
    assert [level for level, _ in told(debug)] == [logging.INFO]
    cluster.core.listen(Log(NAME, logging.DEBUG))
    cluster.call()
    outcomes = [record.__dict__.get("holdfast_outcome") for record in debug.records]
    assert outcomes.count("cancelled") == 1


def test_functions(debug: pytest.LogCaptureFixture) -> None:
    """Their own exceptions by name, and never their results."""

    @Policy(**{**PLAIN, "retry": None})
    async def work(fail: bool) -> str:
        if fail:
            raise ValueError("password=hunter2")
        return "hunter2"

    work.core.listen(Log(NAME, logging.DEBUG))  # type: ignore[attr-defined]
    assert asyncio.run(work(False)) == "hunter2"
    with pytest.raises(ValueError, match="hunter2"):
        asyncio.run(work(True))
    assert "hunter2" not in debug.text
    assert "failed after" in debug.text
    assert "ValueError: password=REDACTED" in debug.text
    assert debug.records[-1].__dict__["holdfast_error"] == "ValueError"


class Untold:
    """A cause that nobody may ask for its text."""

    def __str__(self) -> str:
        raise AssertionError("it was computed")


def test_nothing_is_computed_for_a_level_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    """Neither that of the logger nor that of the listener."""
    caplog.set_level(logging.ERROR, NAME)
    Log(NAME)(Event("ejected", 0.0, "a:80", cause=Untold()))
    caplog.set_level(logging.DEBUG, NAME)
    Log(NAME, logging.ERROR)(Event("ejected", 0.0, "a:80", cause=Untold()))
    assert caplog.records == []


def test_the_arguments() -> None:
    """A logger as well as its name; a level is a number."""
    assert Log(logging.getLogger(NAME)).logger is Log(NAME).logger
    assert repr(Log()) == "Log('holdfast', INFO)"
    with pytest.raises(ValueError, match=r"logging\.INFO"):
        Log(level="INFO")  # type: ignore[arg-type]


def test_a_full_queue(debug: pytest.LogCaptureFixture) -> None:
    """Where there was no slot, and by which policy."""
    policy = Policy(**{**PLAIN, "retry": None, "limit": Limit(1, queue=0)})
    cluster = Virtual(1, policy, listeners=[Log(NAME)])
    cluster.all_reply(after=1)
    cluster.world.start(cluster.program())
    cluster.world.advance(0)
    cluster.fail()
    assert told(debug)[0][1].startswith(
        f"attempt 1 at {cluster.names[0]} rejected by the policy 'limit': LimitExceeded: "
    )


class Unprintable(Exception):
    """What cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_that_cannot_be_shown(debug: pytest.LogCaptureFixture) -> None:
    """It is told of all the same."""
    Log(NAME)(Event("call failed", 1.0, cause=Unprintable(), call=1))
    assert "<a Unprintable that cannot be shown>" in told(debug)[0][1]


def test_an_endpoints_name_stays(debug: pytest.LogCaptureFixture) -> None:
    """A host may be called as secrets are; one line is all that it gets."""
    for name in ("token:8080", "a\nb:80"):
        Log(NAME)(Event("ejected", 1.0, name))
    first, second = debug.records
    assert first.__dict__["holdfast_endpoint"] == "token:8080"
    assert first.getMessage().startswith("token:8080 ejected")
    assert second.getMessage().startswith("a\\nb:80 ejected")
