"""The registry of hosts: where each is, and the credentials for it.

A script prints it, one JSON object a line. What it printed last and well is kept in a file, so
that the dispatcher can start while the script fails.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdfast.jobs.dispatcher.files import replace_file
from holdfast.jobs.dispatcher.rules import Rule
from holdfast.jobs.host_messages import HOST_PORT
from holdfast.wire.jsonlines import WireError, decode, encode

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Host", "Registry", "RegistryError", "parse_host"]

log = logging.getLogger(__name__)

#: The most that a script may print, in bytes.
OUTPUT_LIMIT = 64 << 20


class RegistryError(Exception):
    """The registry could not be refreshed, and is what it was."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host: the name by which it is called, its address, and who the dispatcher is there."""

    name: str
    address: str
    port: int
    user: str = field(repr=False)
    password: str = field(repr=False)

    def to_listing(self) -> dict[str, Any]:
        """Return the host as it is listed: without credentials."""
        return {"hostname": self.name, "address": self.address, "port": self.port}

    def to_line(self) -> bytes:
        """Return the line of the host, in the form of the script."""
        credentials = {"user": self.user, "password": self.password}
        return encode({**self.to_listing(), "credentials": credentials})


def parse_host(line: bytes) -> Host | None:
    """Return the host that a line describes, None for a line that describes none."""
    try:
        value = decode(line)
    except WireError:
        return None
    if not isinstance(value, dict):
        return None
    name, address = value.get("hostname"), value.get("address")
    port, credentials = value.get("port", HOST_PORT), value.get("credentials")
    if not isinstance(credentials, dict):
        return None
    user, password = credentials.get("user"), credentials.get("password")
    if not (isinstance(name, str) and isinstance(address, str) and name and address):
        return None
    if not (isinstance(user, str) and isinstance(password, str)):
        return None
    if port.__class__ is not int or not 0 < port < 65536:
        return None
    return Host(name, address, port, user, password)


class Registry:
    """The hosts that are known now."""

    def __init__(self, script: tuple[str, ...], path: Path | None, timeout: float) -> None:
        self.configure(script, path, timeout)
        self._hosts: dict[str, Host] = {}
        self._refreshing: asyncio.Task[None] | None = None

    def configure(self, script: tuple[str, ...], path: Path | None, timeout: float) -> None:
        """Set what is run, where its result is kept, and how many seconds it may take."""
        self._script = script
        self._path = path
        self._timeout = timeout

    def __len__(self) -> int:
        return len(self._hosts)

    def find(self, name: str) -> Host | None:
        """Return a host, None for an unknown one."""
        return self._hosts.get(name)

    def hosts(self) -> list[Host]:
        """Return all hosts, by name."""
        return [self._hosts[name] for name in sorted(self._hosts)]

    def match(self, glob: str) -> list[str]:
        """Return the names that match a glob, sorted."""
        rule = Rule("", (glob,))
        return [name for name in sorted(self._hosts) if rule.sees(name)]

    def restore(self) -> None:
        """Take the registry that was kept, if there is one."""
        if self._path is None:
            return
        try:
            self._hosts, _ = _parse(self._path.read_bytes())
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("cannot read the kept registry of hosts: %s", error)
            return
        log.info("%d hosts in the kept registry %s", len(self._hosts), self._path)

    async def refresh(self) -> None:
        """Run the script and take what it prints; wait for a run that is under way already.

        Raises RegistryError when that fails; the registry is then what it was.
        """
        if not self._script:
            raise RegistryError("no host_db_script is configured")
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(self._refreshed)
        # Whoever waits may go; the run is not theirs.
        await asyncio.shield(self._refreshing)

    async def close(self) -> None:
        """End a run that is under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError, RegistryError):
                await self._refreshing

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()  # is told to those who wait

    async def _refresh(self) -> None:
        script = self._script[0]
        output = await self._run()
        # There may be megabytes of it, and clients do not wait for that.
        hosts, skipped = await asyncio.to_thread(_parse, output)
        if skipped and not hosts:
            raise RegistryError(f"{script} printed {skipped} lines and no host")
        self._hosts = hosts
        log.info("%d hosts from %s", len(hosts), script)
        if skipped:
            log.warning("%s printed %d lines that are no hosts", script, skipped)
        if self._path is not None:
            try:
                await asyncio.to_thread(_keep, self._path, hosts)
            except OSError as error:
                log.error("cannot keep the registry of hosts in %s: %s", self._path, error)

    async def _run(self) -> bytes:
        name = self._script[0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._script,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise RegistryError(f"cannot run {name}: {error}") from None
        try:
            async with asyncio.timeout(self._timeout):
                output = await _read(process)
                status = await process.wait()
        except TimeoutError:
            raise RegistryError(f"{name} took longer than {self._timeout:g} s") from None
        finally:
            await _end(process)
        if status:
            raise RegistryError(f"{name} failed with exit status {status}")
        return output


def _parse(output: bytes) -> tuple[dict[str, Host], int]:
    """Return the hosts of a script's output by name, and how many of its lines are none."""
    hosts: dict[str, Host] = {}
    skipped = 0
    for line in output.split(b"\n"):
        if line.strip():
            host = parse_host(line)
            if host is None:
                skipped += 1
            else:
                hosts[host.name] = host
    return hosts, skipped


def _keep(path: Path, hosts: dict[str, Host]) -> None:
    replace_file(path, b"".join(host.to_line() for host in hosts.values()))


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    output = bytearray()
    while data := await process.stdout.read(65536):
        output += data
        if len(output) > OUTPUT_LIMIT:
            raise RegistryError(f"the script printed more than {OUTPUT_LIMIT} bytes")
    return bytes(output)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a script with all that it has started, and close its pipe."""
    # Where sudo has started something, that may be another user's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        await process.wait()
    transport = process._transport  # type: ignore[attr-defined]
    transport.close()
