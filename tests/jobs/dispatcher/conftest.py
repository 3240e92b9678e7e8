"""Runs asynchronous tests beside a dispatcher, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvloop

from tests.jobs.dispatcher.kit import Kit, dispatching
from tests.servers.certificates import Certificates

Test = Callable[[Kit], Coroutine[Any, Any, None]]


class Dispatch(Protocol):
    """Run a test with a dispatcher; the options are its configuration."""

    def __call__(self, test: Test, **options: Any) -> None:
        """Run it."""
        ...


@pytest.fixture(params=["asyncio", "uvloop"])
def dispatch(
    request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates
) -> Dispatch:
    """Run a test on one loop after the other."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def run(test: Test, **options: Any) -> None:
        async def main() -> None:
            async with dispatching(tmp_path, certificates, **options) as kit:
                await test(kit)

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run
