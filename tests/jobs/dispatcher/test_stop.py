"""Stopping, whenever it is asked for and whoever is still there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from holdfast.jobs.dispatcher.commands import Commands
from holdfast.jobs.dispatcher.config import Config, Listen
from holdfast.jobs.dispatcher.control import ControlSocket
from holdfast.jobs.dispatcher.service import Service
from holdfast.jobs.fields import Fields
from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit


def test_while_it_opens(tmp_path: Path) -> None:
    """A dispatcher that is stopped before it has opened opens, and stops."""

    async def test() -> None:
        config = Config(listen=(Listen("127.0.0.1", 0),), stream_directory=tmp_path / "jobs")
        service = Service(config)
        opening = asyncio.create_task(service.open())
        await asyncio.sleep(0)
        service.stop(0)
        await opening
        await service.stopped()

    asyncio.run(test())


def test_nobody_reads_the_answer(dispatch: Dispatch) -> None:
    """The dispatcher stops although whoever asked for that has gone."""

    async def test(kit: Kit) -> None:
        answers = Commands(kit.service).stop(Fields({"timeout": 0}, "the command"))
        await anext(answers)
        await answers.aclose()
        await kit.service.stopped()

    dispatch(test)


def test_silent_administrator(dispatch: Dispatch, tmp_path: Path) -> None:
    """Who connects to the control socket and gives no command keeps nobody waiting."""

    async def test(kit: Kit) -> None:
        control = ControlSocket(tmp_path / "control", Commands(kit.service).handlers)
        await control.open()
        _, writer = await asyncio.open_unix_connection(tmp_path / "control")
        while not control._silent:
            await asyncio.sleep(0)
        began = time.monotonic()
        await control.close()
        assert time.monotonic() - began < 4
        assert not (tmp_path / "control").exists()
        writer.close()

    dispatch(test)


def test_control_socket_that_cannot_be(dispatch: Dispatch, tmp_path: Path) -> None:
    """A path that is none for a socket is named, with the reason."""

    async def test(kit: Kit) -> None:
        path = tmp_path / ("x" * 120)
        with pytest.raises(OSError, match=r"control socket .*x: AF_UNIX path too long") as caught:
            await ControlSocket(path, {}).open()
        assert "Errno" not in str(caught.value)

    dispatch(test)
