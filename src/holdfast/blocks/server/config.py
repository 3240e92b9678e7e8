"""The configuration of a block service: a TOML file, checked before anything is done with it."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.blocks import signatures
from holdfast.blocks.server.access import HASHED
from holdfast.blocks.server.folder_identity import is_uuid
from holdfast.blocks.server.remotes import Remote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEFAULT", "PORT", "Config", "ConfigError", "Folder", "read"]

#: The usual port of Keep services.
PORT = 25107

MIB = 1024 * 1024

_HASHED = re.compile(HASHED + "[0-9a-f]{64}")
_CLUSTER = re.compile(r"[0-9a-z]{5}")
_CLASS = re.compile(r"[-A-Za-z0-9_.]{1,100}")
# What a header can carry: printable ASCII without spaces.
_TOKEN = re.compile(r"[!-~]+")


class ConfigError(Exception):
    """The configuration cannot be used; the text says what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that keeps blocks; see `FolderVolume`."""

    path: Path
    uuid: str = ""
    read_only: bool = False
    replication: int = 1
    classes: tuple[str, ...] = ("default",)


@dataclass(frozen=True, slots=True)
class Config:
    """All of it; times are in seconds.

    ``volumes``: the folders. ``copies``: on how many of them each block is kept. ``fsync``:
    whether a block has reached the disk before it counts as stored. ``address`` and ``port``:
    where to listen; port 0: the system picks one. ``certfile``, ``keyfile``: for TLS.

    ``signing_key``, ``signature_ttl``, ``system_token``, ``tokens``: see `Access`. ``trash``,
    ``trash_lifetime``: see `Trash`. ``scrub_rate`` (bytes per second, 0: never) and
    ``scrub_pause``: see `Scrub`. ``remotes``: the other clusters, by their ids.

    ``threads``: for reading, writing and hashing. ``idle_timeout``: how long a client may neither
    send nor read in the middle of a request. ``grace``: how long requests may still take when the
    service stops. ``connections``: the most at once, 0 for any number; more get 503.
    """

    volumes: tuple[Folder, ...] = ()
    copies: int = 1
    fsync: bool = True
    address: str = "127.0.0.1"
    port: int = PORT
    certfile: Path | None = None
    keyfile: Path | None = None
    signing_key: str = field(default="", repr=False)
    signature_ttl: int = signatures.TTL
    system_token: str = field(default="", repr=False)
    tokens: tuple[str, ...] = field(default=(), repr=False)
    trash: bool = True
    trash_lifetime: int = signatures.TTL
    scrub_rate: float = 10 * MIB
    scrub_pause: float = 24 * 3600.0
    remotes: dict[str, Remote] = field(default_factory=dict, repr=False)
    threads: int = 32
    idle_timeout: float = 120.0
    grace: float = 30.0
    connections: int = 0


#: What holds unless something else is said.
DEFAULT = Config()


def read(path: Path) -> Config:
    """Return the configuration in a file; raises ConfigError."""
    try:
        with open(path, "rb") as file:
            top = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    try:
        return _config(_Section(top, ""), path.absolute().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _config(top: _Section, base: Path) -> Config:
    network = top.section("network")
    access = top.section("access")
    storage = top.section("storage")
    trash = top.section("trash")
    scrub = top.section("scrub")
    limits = top.section("limits")
    config = Config(
        volumes=tuple(_folder(one, base) for one in top.sections("volume")),
        copies=storage.number("copies", DEFAULT.copies, least=1),
        fsync=storage.flag("fsync", DEFAULT.fsync),
        address=network.text("address", DEFAULT.address),
        port=network.number("port", DEFAULT.port, most=65535),
        certfile=network.path("certfile", base),
        keyfile=network.path("keyfile", base),
        signing_key=access.text("signing_key", ""),
        signature_ttl=access.number("signature_ttl", DEFAULT.signature_ttl, least=1),
        system_token=access.text("system_token", "", _TOKEN),
        tokens=access.texts("tokens", (), _TOKEN),
        trash=trash.flag("enabled", DEFAULT.trash),
        trash_lifetime=trash.number("lifetime", DEFAULT.trash_lifetime),
        scrub_rate=scrub.number("rate", DEFAULT.scrub_rate / MIB) * MIB,
        scrub_pause=scrub.number("pause", DEFAULT.scrub_pause),
        remotes=_remotes(top.section("remotes")),
        threads=limits.number("threads", DEFAULT.threads, least=2, most=1000),
        idle_timeout=limits.number("idle_timeout", DEFAULT.idle_timeout, least=1),
        grace=limits.number("grace", DEFAULT.grace),
        connections=limits.number("connections", DEFAULT.connections),
    )
    for section in (network, access, storage, trash, scrub, limits, top):
        section.end()
    if config.keyfile is not None and config.certfile is None:
        raise ConfigError("network.keyfile needs network.certfile")
    for token in config.tokens:
        if token.startswith(HASHED) and not _HASHED.fullmatch(token):
            raise ConfigError("access.tokens: a SHA-256 has 64 hexadecimal digits")
    return config


def _folder(section: _Section, base: Path) -> Folder:
    uuid = section.text("uuid", "")
    if uuid and not is_uuid(uuid):
        raise ConfigError(f"{section.name}.uuid is like zzzzz-nyw5e-000000000000000")
    path = section.path("path", base)
    if path is None:
        raise ConfigError(f"{section.name}.path is missing")
    folder = Folder(
        path,
        uuid,
        section.flag("read_only", False),
        section.number("replication", 1, least=1),
        section.texts("storage_classes", ("default",), _CLASS),
    )
    section.end()
    if not folder.classes:
        raise ConfigError(f"{section.name}.storage_classes has no name")
    return folder


def _remotes(section: _Section) -> dict[str, Remote]:
    remotes = {}
    for cluster in section.names():
        if not _CLUSTER.fullmatch(cluster):
            raise ConfigError(f"remotes.{cluster}: a cluster's id has five characters")
        one = section.section(cluster)
        url = one.text("url", "")
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"remotes.{cluster}.url is a URL")
        remotes[cluster] = Remote(url.rstrip("/"), one.text("token", "", _TOKEN))
        one.end()
    return remotes


class _Section:
    """A table of the file, whose keys are taken one by one; what is left nobody knows."""

    def __init__(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be a table")
        self._left = dict(value)
        self.name = name
        self._where = f"{name}." if name else ""

    def names(self) -> list[str]:
        return list(self._left)

    def section(self, key: str) -> _Section:
        return _Section(self._left.pop(key, {}), self._where + key)

    def sections(self, key: str) -> list[_Section]:
        value = self._left.pop(key, [])
        if not isinstance(value, list):
            raise ConfigError(f"{key} must be tables: [[{key}]]")
        return [_Section(one, f"{key}[{number}]") for number, one in enumerate(value)]

    def text(self, key: str, default: str, form: re.Pattern[str] | None = None) -> str:
        value = self._left.pop(key, default)
        if not isinstance(value, str) or (value and form and not form.fullmatch(value)):
            raise ConfigError(f"{self._where}{key} must be text without spaces")
        return value

    def texts(self, key: str, default: Iterable[str], form: re.Pattern[str]) -> tuple[str, ...]:
        value = self._left.pop(key, list(default))
        if not isinstance(value, list) or not all(
            isinstance(one, str) and form.fullmatch(one) for one in value
        ):
            raise ConfigError(f"{self._where}{key} must be a list of texts without spaces")
        return tuple(dict.fromkeys(value))

    def path(self, key: str, base: Path) -> Path | None:
        value = self.text(key, "")
        return base / os.path.expanduser(value) if value else None

    def flag(self, key: str, default: bool) -> bool:
        value = self._left.pop(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"{self._where}{key} must be true or false")
        return value

    def number(self, key: str, default: float, *, least: int = 0, most: int = 10**10) -> Any:
        value = self._left.pop(key, default)
        kinds = int if isinstance(default, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            kind = "a whole number" if kinds is int else "a number"
            raise ConfigError(f"{self._where}{key} must be {kind} from {least} to {most}")
        return value

    def end(self) -> None:
        if self._left:
            raise ConfigError(f"{self._where}{min(self._left)} is not known")
