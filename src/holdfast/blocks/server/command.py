"""The command `holdfast blockd`: a block service."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.blocks.server.allocation import keep_freed_memory
from holdfast.blocks.server.config import DEFAULT, PORT, Config, ConfigError, Folder, read
from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.running import BlockServer, listener
from holdfast.blocks.server.service import Service
from holdfast.blocks.server.volumes import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "serve"]

logger = logging.getLogger("holdfast.blocks.server")

CONFIG = Path("blockd.toml")


def main(argv: Sequence[str] | None = None, prog: str = "holdfast blockd") -> int:
    """Run a block service; return the exit status."""
    options = _parser(prog).parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        if options.init:
            from holdfast.blocks.server.init import init

            path = options.config or CONFIG
            folders = options.data or [Path("blocks")]
            print(init(path, folders, options.address or DEFAULT.address, _port(options)))
            print(f"Start it with: {prog} --config {path}")
            return 0
        keep_freed_memory()
        return serve(_config(options))
    except (ConfigError, VolumeError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Store blocks, and serve them by the Keep protocol.",
        epilog="SIGTERM stops it, after the requests that are in progress.",
    )
    add = parser.add_argument
    add("-c", "--config", type=Path, metavar="FILE", help="a configuration, as --init writes it")
    add(
        "-d",
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder for blocks; also several times, and besides those of the configuration",
    )
    add("--address", metavar="ADDRESS", help=f"where to listen; default: {DEFAULT.address}")
    add("--port", type=int, metavar="PORT", help=f"default: {PORT}; 0: the system picks one")
    add("--copies", type=int, metavar="N", help="on how many folders each block is kept")
    add(
        "--no-fsync",
        action="store_true",
        help="answer before blocks have reached the disk: a power failure may lose them",
    )
    add(
        "--init",
        action="store_true",
        help=f"write a configuration with new keys and tokens to --config, or {CONFIG}",
    )
    return parser


def _port(options: argparse.Namespace) -> int:
    port: int = DEFAULT.port if options.port is None else options.port
    if not 0 <= port <= 65535:
        raise ConfigError(f"there is no port {port}")
    return port


def _config(options: argparse.Namespace) -> Config:
    config = read(options.config) if options.config else DEFAULT
    changes: dict[str, object] = {}
    if options.address is not None:
        changes["address"] = options.address
    if options.port is not None:
        changes["port"] = _port(options)
    if options.copies is not None:
        if options.copies < 1:
            raise ConfigError("--copies is at least 1")
        changes["copies"] = options.copies
    if options.no_fsync:
        changes["fsync"] = False
    folders = (*config.volumes, *(Folder(path) for path in options.data))
    if not folders:
        raise ConfigError("no folder to keep blocks in: give --data or --config")
    return replace(config, volumes=folders, **changes)  # type: ignore[arg-type]


def serve(config: Config) -> int:
    """Run a service until it is told to stop; return the exit status."""
    with ExitStack() as stack:
        volumes: list[FolderVolume] = []
        opened = stack.enter_context(ExitStack())
        for folder in config.volumes:
            volume = FolderVolume(
                folder.path,
                read_only=folder.read_only,
                fsync=config.fsync,
                uuid=folder.uuid,
                classes=folder.classes,
                replication=folder.replication,
            )
            volumes.append(volume)
            opened.callback(volume.close)
        sock = stack.enter_context(listener(config))
        server = BlockServer(config, lambda: Service(config, volumes), announce=_announce)
        try:
            server.run([sock])
        except KeyboardInterrupt:  # which uvicorn raises again, once it has stopped
            pass
        if not server.started:
            return 1
        opened.pop_all()  # the service has closed them
        return 0


def _announce(url: str) -> None:
    print(f"listening on {url}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
