"""Where the log goes."""

from __future__ import annotations

import logging
import logging.config
import logging.handlers
import os
from typing import TYPE_CHECKING

from holdfast.jobs.agent.config import ConfigError, library

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["to_stderr", "to_syslog", "use_file"]

FORMAT = "%(asctime)s %(levelname)s %(message)s"

#: Where systems have the socket of their log.
SYSLOG_SOCKETS = ("/dev/log", "/var/run/syslog", "/var/run/log")


def use_file(path: Path) -> None:
    """Set up what a YAML file for `logging.config.dictConfig` says; raises ConfigError."""
    yaml = library("yaml", "PyYAML")
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))
        if not isinstance(settings, dict):
            raise ConfigError(f"{path}: must be a mapping, as logging.config.dictConfig has it")
        settings.setdefault("version", 1)
        settings.setdefault("disable_existing_loggers", False)
        logging.config.dictConfig(settings)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, ImportError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise ConfigError(f"{path}: {error}{cause}") from None


def to_stderr() -> None:
    """Log to the terminal, or wherever stderr goes."""
    _install(logging.StreamHandler(), FORMAT)


def to_syslog() -> None:
    """Log to the system's log; raises ConfigError when there is none."""
    for path in SYSLOG_SOCKETS:
        if os.path.exists(path):
            try:
                handler = logging.handlers.SysLogHandler(
                    path, logging.handlers.SysLogHandler.LOG_DAEMON
                )
            except OSError as error:
                raise ConfigError(f"syslog: {path}: {error.strerror}") from None
            _install(handler, f"harpd[{os.getpid()}]: %(message)s")
            return
    raise ConfigError(f"syslog: there is none of {', '.join(SYSLOG_SOCKETS)}")


def _install(handler: logging.Handler, form: str) -> None:
    # What no format of ours shows need not be found out for every line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # from 3.12 on
    logging._srcfile = None  # nor where it was logged
    handler.setFormatter(logging.Formatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
