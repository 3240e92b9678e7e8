"""Ends have few names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import errors
from holdfast.policy.events import Event
from holdfast.telemetry.outcomes import error_of, error_type, outcome_of
from tests.cluster.calls import Virtual


class CancelledError(Exception):
    """Named as that of Twisted."""


class Wrapped(errors.HoldfastError):
    def __init__(self, error: Exception) -> None:
        super().__init__("wrapped")
        self.error = error


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        (errors.ReadTimeout("x"), "timeout"),
        (TimeoutError(), "timeout"),
        (errors.LimitExceeded("x"), "rejected"),
        (errors.RateLimited("x"), "rejected"),
        (errors.AdmissionRejected("x"), "rejected"),
        (errors.CircuitOpenError("x"), "rejected"),
        (errors.NoEndpointError("x"), "rejected"),
        (errors.NetworkError("x"), "failure"),
        (ValueError(), "failure"),
        (Wrapped(TimeoutError()), "timeout"),
        (errors.HoldfastError("cancelled"), "cancelled"),
        (errors.NetworkError("cancelled"), "failure"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (CancelledError(), "cancelled"),
    ],
    ids=repr,
)
def test_failures(cause: Any, outcome: str) -> None:
    """By the error that ended it, or by the one within."""
    assert outcome_of(Event("call failed", 0.0, cause=cause)) == outcome


def test_answers() -> None:
    """An answer that says that the host failed is a failure; other answers are answers."""
    cluster = Virtual(1)
    for status, outcome in ((200, "success"), (404, "success"), (500, "failure")):
        cluster.all_reply(status=status)
        response = cluster.call("POST")
        assert outcome_of(Event("call succeeded", 0.0, cause=response)) == outcome
        assert outcome_of(Event("attempt failed", 0.0, cause=response)) == "failure"


def test_results_are_no_errors() -> None:
    """A function may return an exception."""
    event = Event("call succeeded", 0.0, cause=ValueError())
    assert outcome_of(event) == "success"
    assert error_of(event) is None


def test_names_of_errors() -> None:
    """With the module, but for the built-in ones."""
    assert error_type(ValueError()) == "ValueError"
    assert error_type(errors.ReadTimeout("x")) == "holdfast.errors.ReadTimeout"
