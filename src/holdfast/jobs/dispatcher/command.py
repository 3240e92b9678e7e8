"""The command ``harpcallerd``: start a dispatcher, and administer it."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.jobs.dispatcher.administration import CommandFailed, NotRunning, ask
from holdfast.jobs.dispatcher.control import SOCKET
from holdfast.jobs.dispatcher.rules import hash_token, new_token
from holdfast.wire.jsonlines import WireError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.jobs.dispatcher.config import Config

__all__ = ["main"]

#: The configuration unless told otherwise.
CONFIG = Path("/etc/harpcallerd/harpcallerd.toml")


def main(argv: Sequence[str] | None = None, prog: str = "harpcallerd") -> int:
    """Run a command; return its exit status: 0, 1 when it failed, 2 when it makes no sense."""
    arguments = _parser(prog).parse_args(argv)
    try:
        status = _COMMANDS.get(arguments.command, _administer)(arguments)
        sys.stdout.flush()
        return status
    except (CommandFailed, NotRunning) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the listing has seen enough; nothing is left to be flushed at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="The dispatcher of remote procedures.")
    parser.set_defaults(prog=prog)
    parser.add_argument(
        "--socket",
        type=Path,
        default=SOCKET,
        metavar="PATH",
        help="the control socket; default: %(default)s",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")

    begin = add("init", "write a configuration to begin with")
    begin.add_argument("directory", type=Path, metavar="DIR", help="where; made if need be")
    start = add("start", "start a dispatcher, in the foreground")
    start.add_argument(
        "-c",
        "--config",
        type=Path,
        default=CONFIG,
        metavar="FILE",
        help="default: %(default)s; `init` writes one",
    )
    start.add_argument(
        "-p", "--pidfile", type=Path, metavar="FILE", help="write the process id there"
    )
    start.add_argument("-t", "--test", action="store_true", help="check the configuration only")
    status = add("status", "tell whether a dispatcher runs")
    status.add_argument("--wait", action="store_true", help="wait until it does")
    status.add_argument(
        "--timeout", type=_number, metavar="SECONDS", help="how long to wait; default: for ever"
    )
    stop = add("stop", "let the running jobs end, then stop")
    stop.add_argument(
        "--timeout",
        type=_number,
        metavar="SECONDS",
        help="how long they may take; default: stop_timeout of the configuration",
    )
    stop.add_argument("--print-pid", action="store_true", help="print the process id")
    add("reload", "read the configuration again")
    listing = add("list", "list jobs that have not ended")
    listing.add_argument("--all", action="store_true", help="those that have, too")
    listing.add_argument("--queue", action="store_true", help="show their queues")
    for name, text in (("info", "tell everything about a job"), ("cancel", "cancel a job")):
        add(name, text).add_argument("job", metavar="ID", help="the job's id")
    queue = add("queue-list", "list the queues, or the jobs of one")
    queue.add_argument("queue", nargs="?", type=_object, help="the queue's name, a JSON object")
    queue = add("queue-cancel", "cancel all jobs of a queue")
    queue.add_argument("queue", type=_object, help="the queue's name, a JSON object")
    add("hosts-list", "list the hosts of the registry")
    add("hosts-refresh", "refresh the registry of hosts now")
    prune = add("prune-jobs", "forget jobs that ended long ago")
    prune.add_argument(
        "--age", type=_number, default=30, metavar="DAYS", help="how long; default: %(default)s"
    )
    add("reopen-logs", "open the log file again")
    token = add("new-token", "make a token, and print the table of tokens_file that allows it")
    token.add_argument("name", metavar="NAME", help="whose token it is to be")
    return parser


def _administer(arguments: argparse.Namespace) -> int:
    options = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("socket", "command", "prog") and value is not None
    }
    for message in ask(arguments.socket, arguments.command, options):
        print(json.dumps(message, ensure_ascii=False))
        if message.get("cancelled") is False:
            return 1
    return 0


def _status(arguments: argparse.Namespace) -> int:
    limit = time.monotonic() + (arguments.timeout if arguments.timeout is not None else 1e9)
    while True:
        left = limit - time.monotonic()
        try:
            for message in ask(arguments.socket, "status", timeout=min(max(left, 0.1), 10.0)):
                print(json.dumps(message))
            return 0
        except (NotRunning, TimeoutError):
            if not arguments.wait or left <= 0:
                print(json.dumps({"status": "stopped", "pid": None}))
                return 1
        time.sleep(min(0.05, max(left, 0)))


def _stop(arguments: argparse.Namespace) -> int:
    options = {} if arguments.timeout is None else {"timeout": arguments.timeout}
    for message in ask(arguments.socket, "stop", options):
        if arguments.print_pid:
            print(message["pid"], flush=True)
    return 0


def _new_token(arguments: argparse.Namespace) -> int:
    token = new_token()
    print(f"token: {token}", file=sys.stderr)
    print(f"[[token]]\nname = {json.dumps(arguments.name)}\nhash = {json.dumps(hash_token(token))}")
    print('hosts = ["*"]\nprocedures = ["*"]')
    return 0


def _init(arguments: argparse.Namespace) -> int:
    from holdfast.jobs.dispatcher.config import ConfigError
    from holdfast.jobs.dispatcher.init import init

    try:
        print(init(arguments.directory, arguments.prog))
    except ConfigError as error:
        raise CommandFailed(str(error)) from None
    return 0


def _start(arguments: argparse.Namespace) -> int:
    from holdfast.jobs.dispatcher import config as configuration
    from holdfast.jobs.dispatcher import logs
    from holdfast.jobs.dispatcher.service import Service
    from holdfast.jobs.dispatcher.store import StoreError

    def reload() -> Config:
        config = configuration.load(arguments.config)
        logs.configure(config.log_file, config.log_level)
        return config

    try:
        config = configuration.load(arguments.config)
        _allow_files()
        service = Service(config, reload)
        if arguments.test:
            return 0
        logs.configure(config.log_file, config.log_level)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(service, arguments))
    except configuration.NoConfig as error:
        raise CommandFailed(f"{error}; write one by {arguments.prog} init DIR") from None
    except (configuration.ConfigError, StoreError, OSError) as error:
        raise CommandFailed(str(error)) from None
    return 0


async def _serve(service: Any, arguments: argparse.Namespace) -> None:
    from holdfast.jobs.dispatcher.commands import Commands
    from holdfast.jobs.dispatcher.config import ConfigError
    from holdfast.jobs.dispatcher.control import ControlSocket
    from holdfast.jobs.dispatcher.service import log

    commands = Commands(service)
    control = ControlSocket(arguments.socket, commands.handlers)

    def reload() -> None:
        try:
            service.reload()
        except (ConfigError, OSError) as error:
            log.error("the configuration stays as it was: %s", error)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, service.stop)
    loop.add_signal_handler(signal.SIGINT, service.stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    await service.open()
    try:
        await control.open()
        _write_pid(arguments.pidfile)
    except OSError:
        service.stop(0)
        await service.stopped()
        await control.close()
        raise
    # What is there now stays: no collection has to look at it again, and one that finds no
    # garbage in a hundred thousand waiting jobs would keep everybody waiting.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    print(encode(commands.state()).decode(), end="", flush=True)
    await service.stopped()
    await control.close()
    if arguments.pidfile is not None:
        with suppress(OSError):
            arguments.pidfile.unlink()


def _write_pid(path: Path | None) -> None:
    if path is not None:
        path.write_text(f"{os.getpid()}\n")


def _allow_files() -> None:
    """Allow as many connections as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0")
    return value


def _object(text: str) -> dict[str, Any]:
    try:
        value = decode(os.fsencode(text))
    except WireError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "init": _init,
    "start": _start,
    "status": _status,
    "stop": _stop,
    "new-token": _new_token,
}

if __name__ == "__main__":
    sys.exit(main())
