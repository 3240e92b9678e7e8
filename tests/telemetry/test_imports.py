"""What is not used costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from holdfast import telemetry


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=30
    )
    return done.stdout.strip()


def test_nothing_is_imported_before_its_use() -> None:
    """Neither the packages of the extras, nor any telemetry at all."""
    code = (
        "import sys, holdfast, holdfast.rest\n"
        "assert not any('telemetry' in name for name in sys.modules)\n"
        "from holdfast.telemetry import UDP, Log, Statsd\n"
        "print([n for n in sys.modules if n.startswith(('prometheus', 'opentelemetry'))])\n"
    )
    assert run(code) == "[]"


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("Prometheus", "prometheus_client", "prometheus"),
        ("OpenTelemetry", "opentelemetry", "otel"),
    ],
)
def test_what_is_missing_says_what_to_install(name: str, package: str, extra: str) -> None:
    """By the name of the extra."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "try:\n"
        f"    from holdfast.telemetry import {name}\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert f"install holdfast[{extra}]" in run(code)


def test_the_names() -> None:
    """All that are promised are there, and no others."""
    for name in telemetry.__all__:
        assert getattr(telemetry, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        _ = telemetry.nothing
