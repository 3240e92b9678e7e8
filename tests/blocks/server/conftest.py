from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.blocks.server.folder import FolderVolume
from tests.blocks.server.services import QUIET, Running, running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the one volume of `service` is."""
    return tmp_path / "blocks"


@pytest.fixture
def service(folder: Path) -> Iterator[Running]:
    """Serve one folder: nothing is signed, every token is good."""
    with running([FolderVolume(folder, fsync=False)], QUIET) as it:
        yield it
