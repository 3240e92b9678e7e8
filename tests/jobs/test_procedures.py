"""Marking functions as procedures."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from holdfast.jobs.agent.accounts import account
from holdfast.jobs.agent.loading import Offer
from holdfast.jobs.agent.parent import BOOTSTRAP
from holdfast.jobs.procedures import (
    Procedure,
    ProcedureTimeout,
    Result,
    StreamingProcedure,
    procedure,
    streaming_procedure,
)


def test_both_forms() -> None:
    """The decorators work with options and without."""

    @procedure
    def plain(one: int) -> int:
        """Add one."""
        return one + 1

    @procedure(timeout=1.5, uid="nobody", gid=["a", 2])
    def limited() -> None: ...

    @streaming_procedure
    def stream() -> Any:
        yield 1
        yield Result(2)

    @streaming_procedure(timeout=3)
    def limited_stream() -> Any:
        yield 1

    assert type(plain) is type(limited) is Procedure
    assert type(stream) is type(limited_stream) is StreamingProcedure
    assert not plain.streaming
    assert stream.streaming
    assert (plain.timeout, plain.uid, plain.gid) == (None, None, None)
    assert (limited.timeout, limited.uid, limited.gid) == (1.5, "nobody", ["a", 2])
    assert limited_stream.timeout == 3


def test_a_marked_function_is_still_one() -> None:
    """Marking changes nothing for who calls the function in the file itself."""

    @procedure
    def plain(one: int, *, two: int = 2) -> int:
        """Add them."""
        return one + two

    assert plain(1, two=5) == 6
    assert plain.__doc__ == "Add them."
    assert getattr(plain, "__name__", "") == "plain"
    assert "plain" in repr(plain)


@pytest.mark.parametrize("timeout", [0, -1, True, "1", float("nan"), float("inf")])
def test_wrong_timeouts(timeout: Any) -> None:
    """A timeout is a positive number, and a wrong one is told where it is written."""
    with pytest.raises(ValueError, match="timeout"):
        procedure(timeout=timeout)


def test_wrong_use() -> None:
    """What cannot be called is no procedure."""
    with pytest.raises(TypeError, match="cannot be called"):
        procedure(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="function"):
        Procedure()
    with pytest.raises(TypeError, match="option"):
        procedure(option=5)  # type: ignore[call-overload]


def test_interruptions_pass_ordinary_handlers() -> None:
    """What is raised to end a procedure is no Exception."""
    assert not issubclass(ProcedureTimeout, Exception)


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ([], False),
        ([1], True),
        ([1, 2], True),
        ([1, 2, 3], False),
        ({"one": 1}, True),
        ({"two": 2}, False),
        ({"one": 1, "two": 2}, True),
        ({"one": 1, "three": 3}, False),
        ({}, False),
    ],
)
def test_fitting_arguments(arguments: Any, fits: bool) -> None:
    """Arguments are compared with the function's parameters before it is called."""

    def function(one: int, two: int = 2) -> None: ...

    assert (Offer("function", Procedure(function), None).misfit(arguments) is None) is fits


def test_accounts() -> None:
    """Users and groups are found by name and number; a user has its own groups."""
    assert account(None, None) is None
    root = account("root", None)
    assert root is not None
    assert (root.uid, root.gid) == (0, 0)
    assert account(0, "root") == (0, 0, (0,))
    assert account(None, [5, 6, 5]) == (None, 5, (5, 6))
    for uid, gid in (("nobody at all", None), (None, "no group"), (None, []), (987654321, None)):
        with pytest.raises(ValueError, match=r"no|empty"):
            account(uid, gid)
    for wrong in (-1, True, 1.5):
        with pytest.raises(ValueError, match="must be"):
            account(wrong, 0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="must be"):
            account(0, [wrong])  # type: ignore[list-item]


def test_the_parent_stays_small() -> None:
    """The process that calls are forked from has nothing in it that they do not need."""
    code = (
        "import importlib, sys, runpy, os\n"
        f"path = {BOOTSTRAP!r}\n"
        "folder = os.path.dirname(path); jobs = os.path.dirname(folder)\n"
        "install = runpy.run_path(path)['install']\n"
        "install('holdfast', os.path.dirname(jobs)); install('holdfast.jobs', jobs)\n"
        "importlib.import_module('holdfast.jobs.agent.zygote')\n"
        "print(*sorted(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    modules = set(result.stdout.split())
    assert "holdfast.jobs.agent.child" in modules
    unneeded = {"asyncio", "ssl", "logging", "threading", "subprocess", "httptools", "yaml"}
    assert not modules & (unneeded | {"holdfast.cluster", "holdfast.errors", "holdfast.policy"})
