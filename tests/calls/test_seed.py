"""The names, parameters and defaults that users of `fault_tolerant` rely on."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from holdfast import calls
from holdfast.calls import Call, Http, fault_tolerant

NOTHING = inspect.Parameter.empty

FAULT_TOLERANT: list[tuple[str, Any]] = [
    ("dependency_id", None),
    ("reactor", None),
    ("circuit_reset_timeout", 10),
    ("load_balancer", None),
    ("http_pool_size", 10),
    ("fallback", None),
    ("timeout", 5),
    ("retry_attempts", 3),
    ("max_open_per_netloc", 10),
    ("retry_on_timeout", False),
    ("expected_in", None),
    ("statsd", None),
    ("use_proxy", False),
    ("context_factory", None),
    ("connect_timeout", 1),
]
CALL: list[tuple[str, Any]] = [
    ("reactor", NOTHING),
    ("dependency", NOTHING),
    ("run", NOTHING),
    ("fallback", NOTHING),
    ("timeout", NOTHING),
    ("retry_attempts", NOTHING),
    ("max_open_per_netloc", NOTHING),
    ("retry_on_timeout", NOTHING),
    ("expected_in", NOTHING),
    ("statsd", NOTHING),
    ("load_balancer", NOTHING),
    ("circuit_reset_timeout", NOTHING),
    ("use_proxy", NOTHING),
    ("context_factory", NOTHING),
    ("connect_timeout", 1),
]
REQUEST = {
    "headers": None,
    "params": None,
    "data": None,
    "reactor": None,
    "persistent": True,
    "allow_redirects": True,
    "auth": None,
    "timeout": None,
}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (fault_tolerant, FAULT_TOLERANT),
        (Call, CALL),
        (Http, [("agent", NOTHING), ("reactor", None)]),
        (Http.request, [("self", NOTHING), ("method", NOTHING), ("url", NOTHING)]),
    ],
)
def test_signatures(function: Any, expected: list[tuple[str, Any]]) -> None:
    """Everything takes what its users give it, in that order, with those defaults."""
    found = inspect.signature(function).parameters.values()
    plain = [one for one in found if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert [(one.name, one.default) for one in plain] == expected
    assert all(one.default is not NOTHING for one in found if one not in plain)


def test_request_options() -> None:
    """A request takes every documented keyword, with its default."""
    found = inspect.signature(Http.request).parameters
    assert {name: found[name].default for name in REQUEST} == REQUEST


def test_a_call_has() -> None:
    """A call has its agent and its HTTP service."""
    for name in ("agent", "http"):
        assert isinstance(getattr(Call, name), property)


def test_all_names() -> None:
    """The package offers what its documentation names, and nothing without documentation."""
    assert {"Call", "Http", "fault_tolerant"} <= set(calls.__all__)
    assert all(inspect.getdoc(getattr(calls, name)) for name in calls.__all__)
