"""Fixtures of the host daemon's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.jobs.agent.daemons import Daemon

#: What the daemon that several tests share can do.
PROCEDURES = (Path(__file__).parent / "offered.py").read_text()


class StartDaemon(Protocol):
    """Start a daemon for the rest of the test."""

    def __call__(self, procedures: str = PROCEDURES, **options: Any) -> Daemon:
        """Start it; see `Daemon` for the options."""
        ...


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give a self-signed certificate and its key, as files."""
    from holdfast.jobs.agent.init import init

    folder = tmp_path_factory.mktemp("certificate")
    init(folder, "harpd")
    return folder / "harpd.cert.pem", folder / "harpd.key.pem"


@pytest.fixture
def make_daemon(tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[StartDaemon]:
    """Give a function that makes daemons without starting them."""
    made: list[Daemon] = []

    def make(procedures: str = PROCEDURES, **options: Any) -> Daemon:
        folder = tmp_path / f"daemon{len(made)}"
        folder.mkdir()
        made.append(Daemon(folder, certificate, procedures, **options))
        return made[-1]

    yield make
    for daemon in made:
        if hasattr(daemon, "process"):
            daemon.stop()


@pytest.fixture
def start_daemon(make_daemon: StartDaemon) -> StartDaemon:
    """Give a function that starts daemons, which end with the test."""

    def start(procedures: str = PROCEDURES, **options: Any) -> Daemon:
        return make_daemon(procedures, **options).start()

    return start


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[Daemon]:
    """Give a daemon that the tests of a module share."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), certificate, PROCEDURES)
    daemon.start()
    yield daemon
    daemon.stop()
