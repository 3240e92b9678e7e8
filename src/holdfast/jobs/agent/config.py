"""The configuration of the host daemon: a YAML file, checked before anything is done with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from holdfast.jobs.messages import HOST_PORT, REPLY_LIMIT, REQUEST_LIMIT

__all__ = ["Config", "ConfigError", "Limits", "Network", "NoConfig", "library", "read"]


class ConfigError(Exception):
    """The configuration cannot be used; the text says what is wrong, and where."""


class NoConfig(ConfigError):
    """There is no configuration."""


@dataclass(frozen=True, slots=True)
class Network:
    """Where the daemon listens (an empty address is every one), and its certificate."""

    address: str
    port: int
    certfile: Path
    keyfile: Path


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller, and all of them, may take.

    ``calls``: how many may run at once; more are refused. ``connections``: how many may be open
    at once. ``request_bytes``: of a request's line. ``request_time``: seconds for it to arrive,
    and as many for the TLS handshake. ``reply_bytes``: of one message of a procedure. ``grace``:
    seconds that a call has to clean up before it is killed. ``load_time``: seconds for the file of
    procedures to load. ``spares``: processes that wait for calls, so that no call has to wait for
    one.
    """

    calls: int = 200
    connections: int = 1000
    request_bytes: int = REQUEST_LIMIT
    request_time: float = 10.0
    reply_bytes: int = REPLY_LIMIT
    grace: float = 5.0
    load_time: float = 60.0
    spares: int = 4


@dataclass(frozen=True, slots=True)
class Config:
    """All of it. ``authentication``: the section as it stands, for `authentication.backend`."""

    folder: Path
    network: Network
    authentication: dict[str, Any] = field(repr=False)
    prepend: tuple[str, ...] = ()
    append: tuple[str, ...] = ()
    limits: Limits = Limits()


def read(path: Path) -> Config:
    """Return the configuration in a file; raises ConfigError."""
    yaml = library("yaml", "PyYAML")
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise NoConfig(f"{path}: {_reason(error)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {_reason(error)}") from None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        # Not the whole error, which quotes lines that may hold a password.
        problem = getattr(error, "problem", None) or "broken"
        raise ConfigError(f"{path}: not YAML: {problem}{where}") from None
    try:
        return _config(_Section(value, ""), path.absolute().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def library(module: str, name: str) -> ModuleType:
    """Return a module of the servers' extra; raises ConfigError where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{name} is not installed ({error}): pip install 'holdfast[jobs]'"
        ) from None


def _config(top: _Section, folder: Path) -> Config:
    network = top.section("network")
    python = top.section("python", {})
    prepend, append = _paths(python.take("path", None))
    python.end()
    limits = top.section("limits", {})
    config = Config(
        folder=folder,
        network=Network(
            address=network.text("address", ""),
            port=network.number("port", HOST_PORT, least=0, most=65535, whole=True),
            certfile=folder / network.text("certfile"),
            keyfile=folder / network.text("keyfile"),
        ),
        authentication=top.section("authentication").left,
        prepend=tuple(str(folder / one) for one in prepend),
        append=tuple(str(folder / one) for one in append),
        limits=Limits(
            **{
                one.name: limits.number(
                    one.name,
                    one.default,
                    least=0 if one.name in ("grace", "spares") else 1,
                    whole=isinstance(one.default, int),
                )
                for one in fields(Limits)
            }
        ),
    )
    network.end()
    limits.end()
    top.end()
    return config


def _paths(value: Any) -> tuple[list[str], list[str]]:
    """Return what goes before Python's own path, and what after it."""
    if isinstance(value, dict):
        section = _Section(value, "python.path")
        prepend = _strings(section.take("prepend", []), "python.path.prepend")
        append = _strings(section.take("append", []), "python.path.append")
        section.end()
        return prepend, append
    return _strings([] if value is None else value, "python.path"), []


def _strings(value: Any, where: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ConfigError(f"{where} must be a folder, or a list of folders")
    return [os.path.expanduser(one) for one in values]


class _Section:
    """A part of the file, whose keys are taken one by one; what is left nobody knows."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ConfigError(f"{where or 'the configuration'} must be a mapping of names")
        self.left = dict(value)
        self._where = f"{where}." if where else ""

    def take(self, key: str, default: Any = ...) -> Any:
        value = self.left.pop(key, default)
        if value is ...:
            raise ConfigError(f"{self._where}{key} is missing")
        return value

    def section(self, key: str, default: Any = ...) -> _Section:
        value = self.take(key, default)
        return _Section({} if value is None and default is not ... else value, self._where + key)

    def text(self, key: str, default: Any = ...) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or (default is ... and not value):
            raise ConfigError(f"{self._where}{key} must be text")
        return value

    def number(
        self, key: str, default: Any, *, least: int, most: int | None = None, whole: bool
    ) -> Any:
        value = self.take(key, default)
        kinds = int if whole else (int, float)
        if (
            isinstance(value, bool)
            or not isinstance(value, kinds)
            or not value >= least
            or not value <= (10**9 if most is None else most)
        ):
            kind = "a whole number" if whole else "a number"
            upper = "" if most is None else f" and at most {most}"
            raise ConfigError(f"{self._where}{key} must be {kind}, at least {least}{upper}")
        return value

    def end(self) -> None:
        if self.left:
            raise ConfigError(f"{self._where}{min(self.left)} is not known")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
