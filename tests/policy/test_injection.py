from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy import Fault
from holdfast.policy.injection import injected


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"share": 0.0, "cut": True}, "share must be above 0"),
        ({"share": 1.5, "cut": True}, "share"),
        ({"share": 0.5}, "delay, a status, an error or cut"),
        ({"share": 0.5, "status": 200, "cut": True}, "only one"),
        ({"share": 0.5, "status": 99}, "status must be a code"),
        ({"share": 0.5, "status": True}, "status must be a code"),
        ({"share": 0.5, "error": "oops"}, "error must be exception"),
        ({"share": 0.5, "delay": -1}, "delay must be above 0"),
        ({"share": 0.5, "cut": 1}, "cut must be"),
        ({"share": 0.5, "delay": 1, "path": 1}, "path must be a pattern"),
    ],
)
def test_what_makes_no_fault_is_refused(wrong: dict[str, object], named: str) -> None:
    """A fault that cannot happen is an error that names the field."""
    with pytest.raises(ValueError, match=named):
        Fault(**wrong)  # type: ignore[arg-type]


class Particular(Exception):
    """An exception that is made of more than a message."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")


@pytest.mark.parametrize("error", [Particular, Particular(404, "not found")], ids=["class", "one"])
def test_an_error_that_cannot_be_made_is_refused(error: Any) -> None:
    """Otherwise the first attempt that meets it would fail with another one."""
    with pytest.raises(ValueError, match=r"^Fault: error .*Particular"):
        Fault(0.5, error=error)


@given(st.floats(0, 1, exclude_max=True), st.floats(0.001, 1))
def test_a_share_of_the_attempts_meets_it(drawn: float, share: float) -> None:
    """It happens when the number that was drawn is below its share."""
    fault = Fault(share, cut=True)
    assert (injected([fault], "GET", "/", "a:80", lambda: drawn) is fault) == (drawn < share)


@pytest.mark.parametrize(
    ("patterns", "meets"),
    [
        ({}, True),
        ({"method": "GET"}, True),
        ({"method": "POST"}, False),
        ({"path": "/users/*"}, True),
        ({"path": "/users"}, False),
        ({"endpoint": "10.0.*"}, True),
        ({"endpoint": "10.1.*", "path": "/users/*"}, False),
    ],
)
def test_it_may_be_for_some(patterns: dict[str, str], meets: bool) -> None:
    """Every pattern that is given has to match."""
    fault = Fault(1.0, cut=True, **patterns)  # type: ignore[arg-type]
    assert fault.meets("GET", "/users/1", "10.0.0.1:80") is meets
