"""The configuration of the dispatcher: a TOML file, checked whole before any of it is used."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from holdfast.jobs.dispatcher.rules import Rule

__all__ = ["Config", "ConfigError", "Listen", "NoConfig", "load", "parse"]

#: Where things are unless told otherwise.
DIRECTORY = Path("/var/lib/harpcallerd")


class ConfigError(Exception):
    """The configuration cannot be used; the message says where and why."""


class NoConfig(ConfigError):
    """There is no configuration."""


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on; ``host`` is empty for all of the machine's, ``port`` 0 for any."""

    host: str
    port: int

    def __str__(self) -> str:
        return (
            f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host or '*'}:{self.port}"
        )


@dataclass(frozen=True, slots=True)
class Config:
    """What can be configured; times are in seconds unless a name says otherwise."""

    listen: tuple[Listen, ...] = (Listen("127.0.0.1", 3502),)
    max_connections: int = 10_000
    idle_timeout: int = 600
    # How hosts prove who they are.
    ca_file: Path | None = None
    known_certs_file: Path | None = None
    verify_hostname: bool = False
    # Jobs.
    stream_directory: Path = DIRECTORY / "jobs"
    default_timeout: int = 600
    max_exec_time: int = 600
    connect_timeout: int = 30
    max_age: int | None = None  # hours
    stop_timeout: int = 60
    # The registry of hosts.
    host_db: Path | None = None
    host_db_script: tuple[str, ...] = ()
    host_db_refresh: int = 900
    host_db_timeout: int = 60
    # Who may ask for what.
    certfile: Path | None = None
    keyfile: Path | None = None
    client_ca_file: Path | None = None
    tokens: tuple[Rule, ...] = field(default=(), repr=False)
    certificates: tuple[Rule, ...] = ()
    # The log.
    log_file: Path | None = None
    log_level: str = "INFO"

    @property
    def secured(self) -> bool:
        """Tell whether clients have to prove who they are."""
        return bool(self.tokens) or self.client_ca_file is not None

    @property
    def exposed(self) -> tuple[Listen, ...]:
        """Return the addresses that others than this machine reach."""
        return tuple(one for one in self.listen if not _loopback(one.host))


def load(path: Path) -> Config:
    """Read a configuration; raise ConfigError where it cannot be used."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NoConfig(f"{path}: No such file or directory") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read the configuration {path}: {reason}") from None
    try:
        return parse(text, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(text: str, directory: Path = Path()) -> Config:
    """Return the configuration that a text is; paths are relative to ``directory``."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}") from None
    tokens_file = given.pop("tokens_file", None)
    values: dict[str, Any] = {}
    known = {one.name for one in fields(Config)} - {"tokens", "certificates"}
    for name, value in given.items():
        if name in ("token", "certificate"):
            values[name + "s"] = _rules(name, value)
        elif name in known:
            values[name] = _value(name, value, directory)
        else:
            there = sorted({*known, "tokens_file", "[[token]]", "[[certificate]]"})
            raise ConfigError(f"unknown option {name!r}; there are {', '.join(there)}")
    if tokens_file is not None:
        path = _path("tokens_file", tokens_file, directory)
        values["tokens"] = (*values.get("tokens", ()), *_tokens(path))
    config = Config(**values)
    _check(config)
    return config


def _check(config: Config) -> None:
    if (config.certfile is None) != (config.keyfile is None):
        raise ConfigError("certfile and keyfile belong together: set both or none")
    if config.client_ca_file is not None and config.certfile is None:
        raise ConfigError("client_ca_file needs TLS: set certfile and keyfile, too")
    if config.certificates and config.client_ca_file is None:
        raise ConfigError("[[certificate]] needs client_ca_file")
    for rules in (config.tokens, config.certificates):
        names = [rule.name for rule in rules]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two rules have the name {name!r}")
    if config.verify_hostname and config.ca_file is None:
        raise ConfigError("verify_hostname needs ca_file")


def _tokens(path: Path) -> tuple[Rule, ...]:
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"tokens_file: cannot read {path}: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"tokens_file: {path} is not TOML: {error}") from None
    others = given.keys() - {"token"}
    if others or "token" not in given:
        raise ConfigError(f"tokens_file: {path} must hold [[token]] tables and nothing else")
    return _rules("token", given["token"])


def _rules(name: str, value: Any) -> tuple[Rule, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{name} must be tables: [[{name}]]")
    if not value:  # it would leave the door open, which nobody means who writes it
        raise ConfigError(f"{name}: there is none; leave it out to let everybody in")
    rules = []
    for number, one in enumerate(value, 1):
        try:
            rules.append(Rule.parse(one, hashed=name == "token"))
        except ValueError as error:
            raise ConfigError(f"[[{name}]] number {number}: {error}") from None
    return tuple(rules)


_PATHS = {
    "ca_file",
    "known_certs_file",
    "stream_directory",
    "host_db",
    "certfile",
    "keyfile",
    "client_ca_file",
    "log_file",
}
_UNITS = {"max_age": "hours", "max_connections": "clients"}
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

#: A century: what is longer is a mistake, and breaks clocks.
_LONGEST = 100 * 366 * 24 * 3600


def _value(name: str, value: Any, directory: Path) -> Any:
    if name in _PATHS:
        return _path(name, value, directory)
    if name == "listen":
        return _listen(value)
    if name == "host_db_script":
        return _command(value, directory)
    if name == "verify_hostname":
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be true or false")
        return value
    if name == "log_level":
        if not isinstance(value, str) or value.upper() not in _LEVELS:
            raise ConfigError(f"log_level must be one of {', '.join(_LEVELS)}")
        return value.upper()
    if value.__class__ is not int or not 0 < value <= _LONGEST:
        unit = _UNITS.get(name, "seconds")
        raise ConfigError(f"{name} must be a positive number of {unit}, without a fraction")
    return value


def _path(name: str, value: Any, directory: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ConfigError(f"{name} must be a path")
    return directory / value


def _command(value: Any, directory: Path) -> tuple[str, ...]:
    parts = [value] if isinstance(value, str) else value
    if (
        not isinstance(parts, list)
        or not parts
        or not all(isinstance(one, str) and one and "\0" not in one for one in parts)
    ):
        raise ConfigError("host_db_script must be a path, or a list: a path and its arguments")
    return (str(directory / parts[0]), *parts[1:])


def _listen(value: Any) -> tuple[Listen, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError('listen must be a list of addresses, such as ["127.0.0.1:3502"]')
    return tuple(_address(one) for one in value)


def _address(value: Any) -> Listen:
    wrong = ConfigError(f'listen: {value!r} is not "HOST:PORT", "[IPv6]:PORT" or "*:PORT"')
    if not isinstance(value, str):
        raise wrong
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise wrong
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise wrong
    return Listen("" if host == "*" else host, int(port))


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
