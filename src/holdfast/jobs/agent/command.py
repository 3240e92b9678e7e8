"""The command `harpd`, which is also `holdfast agent`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.jobs.agent import logs
from holdfast.jobs.agent.config import Config, ConfigError, NoConfig, read
from holdfast.jobs.agent.daemon import Pidfile, Ready, to_background
from holdfast.jobs.agent.parent import LoadError
from holdfast.jobs.agent.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

logger = logging.getLogger("holdfast.jobs.agent")

CONFIG = Path("/etc/harpd/harpd.conf")
PROCEDURES = "procedures.py"


def main(argv: Sequence[str] | None = None, prog: str = "harpd") -> int:
    """Run the host daemon; return the exit status."""
    options = _parser(prog).parse_args(argv)
    try:
        if options.init is not None:
            from holdfast.jobs.agent.init import init

            print(init(options.init, prog))
            return 0
        return _run(options)
    except (ConfigError, LoadError) as error:
        begin = f"; write one by {prog} --init DIR" if isinstance(error, NoConfig) else ""
        print(f"{prog}: {error}{begin}", file=sys.stderr)
        return 1


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run procedures of this host for those who may call them.",
        epilog="SIGHUP reloads procedures, users, limits and the certificate; SIGTERM stops.",
    )
    add = parser.add_argument
    add(
        "-c",
        "--config",
        type=Path,
        default=CONFIG,
        metavar="FILE",
        help=f"default: {CONFIG}; --init writes one",
    )
    add(
        "-r",
        "--procedures",
        type=Path,
        metavar="FILE",
        help=f"the file of procedures; default: {PROCEDURES} beside the configuration",
    )
    add("-l", "--logging", type=Path, metavar="FILE", help="YAML for logging.config.dictConfig")
    add("-t", "--test", action="store_true", help="check the configuration and exit")
    add("-u", "--default-user", metavar="USER", help="whom procedures run as that do not say so")
    add("-g", "--default-group", metavar="GROUP", help="the group likewise")
    add("--syslog", action="store_true", help="log to syslog, not to stderr")
    add("-d", "--daemon", action="store_true", help="go to the background, logging to syslog")
    add("-p", "--pidfile", type=Path, metavar="FILE", help="hold this file while running")
    add(
        "--init",
        type=Path,
        metavar="DIR",
        help="write a configuration, procedures, a user and a certificate to begin with",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    # A daemon changes its folder.
    for name in ("config", "procedures", "logging", "pidfile"):
        if getattr(options, name) is not None:
            setattr(options, name, getattr(options, name).absolute())
    if options.procedures is None:
        options.procedures = options.config.with_name(PROCEDURES)
    config = read(options.config)
    if options.test:
        _logging(options)
        _loop_run()(_test(config, options))
        print(f"{options.config}: correct")
        return 0
    ready = to_background() if options.daemon else Ready()
    pidfile = None if options.pidfile is None else Pidfile(options.pidfile)
    try:
        _logging(options)
        if pidfile is not None:
            pidfile.acquire()
        _loop_run()(_serve(config, options, ready))
    except (ConfigError, LoadError) as error:
        logger.error("not started: %s", error)
        raise
    finally:
        if pidfile is not None:
            pidfile.release()
    return 0


def _logging(options: argparse.Namespace) -> None:
    if options.logging is not None:
        logs.use_file(options.logging)
    elif options.test:
        logs.to_stderr()
    elif options.syslog or options.daemon:
        logs.to_syslog()
    else:
        logs.to_stderr()


def _loop_run() -> Callable[..., None]:
    """Return what runs a coroutine, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def _service(config: Config, options: argparse.Namespace) -> Service:
    return Service(config, options.procedures, options.default_user, options.default_group)


async def _test(config: Config, options: argparse.Namespace) -> None:
    service = _service(config, options)
    try:
        await service.processes.load()
    finally:
        await service.stop()


async def _serve(config: Config, options: argparse.Namespace, ready: Ready) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    service = _service(config, options)
    reloading = asyncio.Lock()
    tasks: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        async with reloading:
            try:
                if options.logging is not None:
                    logs.use_file(options.logging)
                await service.reload(read(options.config))
            except ConfigError as error:
                logger.error("not reloaded: %s", error)

    def reload_soon() -> None:
        task = loop.create_task(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def start() -> str:
        async with reloading:  # a reload that is asked for meanwhile comes afterwards
            return await service.start()

    def stop() -> None:
        stopping.set()
        starting.cancel()  # a file of procedures may take long

    starting = loop.create_task(start())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload_soon)
    try:
        await asyncio.wait([starting])
        if not starting.cancelled():
            address = starting.result()
            count = len(service.processes.offered)
            logger.info("listening on %s, with %d procedures", address, count)
            ready.tell()
            await stopping.wait()
        logger.info("stopping")
    finally:
        for task in list(tasks):
            task.cancel()
        await service.stop()
    logger.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
