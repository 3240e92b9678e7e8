"""The host daemon while it runs: its listener, its connections, its processes."""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
from itertools import count
from typing import TYPE_CHECKING, Any

from holdfast.jobs.agent.authentication import Authentication, users
from holdfast.jobs.agent.config import Config, ConfigError
from holdfast.jobs.agent.connections import Connection
from holdfast.jobs.agent.hashing import Hashing
from holdfast.jobs.agent.parent import LoadError
from holdfast.jobs.agent.processes import Processes
from holdfast.jobs.keeping import PROTOCOL, SERVER_IDLE
from holdfast.jobs.listening import Listener

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Service", "settings", "tls"]

logger = logging.getLogger("holdfast.jobs.agent")

#: Seconds between looks at connections from which no request has come.
LOOK = 0.5

#: How many descriptors procedures and their programs may have open; before this daemon asks for
#: as many as it can get: every call takes five.
ORDINARY_DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def tls(config: Config) -> ssl.SSLContext:
    """Return the server's side of TLS; raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # One ticket for each connection: who comes again brings the newest.
    context.num_tickets = 1
    context.set_alpn_protocols([PROTOCOL])
    _certify(context, config)
    return context


def _certify(context: ssl.SSLContext, config: Config) -> None:
    network = config.network
    for path in (network.certfile, network.keyfile):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(network.certfile, network.keyfile, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"{network.certfile}, {network.keyfile}: no certificate and its key: {error}"
        ) from None


def settings(
    config: Config, procedures: Path, user: str | None, group: str | None
) -> dict[str, Any]:
    """Return what the parent of the calls has to know."""
    return {
        "procedures": str(procedures),
        "user": user,
        "group": group,
        "prepend": config.prepend,
        "append": config.append,
        "grace": config.limits.grace,
        "reply_bytes": config.limits.reply_bytes,
        "descriptors": ORDINARY_DESCRIPTORS,
    }


class Service:
    """A daemon. `start` it, then it runs by itself until `stop`."""

    def __init__(
        self, config: Config, procedures: Path, user: str | None, group: str | None
    ) -> None:
        self.config = config
        self.closing = False
        #: How many calls run.
        self.calls = 0
        self._procedures = procedures
        self._user = user
        self._group = group
        self._tls = tls(config)
        self._listener = Listener(lambda: Connection(self), self._tls)
        self._limit()
        self.authentication = Authentication(
            users(config.authentication, config.folder), hashing := Hashing()
        )
        self._hashing = hashing
        self.processes = Processes(
            settings(config, procedures, user, group),
            config.limits.spares,
            config.limits.load_time,
        )
        self._numbers = count(1)
        self._connections: set[Connection] = set()
        # In the order of their coming: the first is the one that has had the most time.
        self._arriving: dict[Connection, float] = {}
        # Those whose call is over, in the order in which they may be closed.
        self._waiting: dict[Connection, float] = {}
        self._look: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    async def start(self) -> str:
        """Load the procedures and listen; return the address.

        Raises LoadError, and ConfigError when the address cannot be had.
        """
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        except (OSError, ValueError):
            pass  # some systems have a lower limit than they say
        await self.processes.load()
        network = self.config.network
        try:
            return ", ".join(self._listener.listen(network.address, network.port))
        except OSError as error:
            await self.processes.close(self.config.limits.grace)
            raise ConfigError(
                f"cannot listen on {network.address or '*'}:{network.port}: {error}"
            ) from None

    async def reload(self, config: Config) -> None:
        """Take over what may change while calls run: all but the address.

        What cannot be used is logged, and stays as it was.
        """
        if config.network.address != self.config.network.address or (
            config.network.port != self.config.network.port
        ):
            logger.warning("the address changes only when the daemon is started again")
        try:
            self.authentication.users = users(config.authentication, config.folder)
            _certify(self._tls, config)
        except ConfigError as error:
            logger.error("not reloaded: %s", error)
            return
        self.config = config
        self._limit()
        before = self.processes.settings
        self.processes.settings = settings(config, self._procedures, self._user, self._group)
        self.processes.spares = config.limits.spares
        self.processes.load_time = config.limits.load_time
        try:
            await self.processes.load()
        except LoadError as error:
            self.processes.settings = before
            logger.error("procedures not reloaded: %s", error)
            return
        logger.info("reloaded, with %d procedures", len(self.processes.offered))

    def _limit(self) -> None:
        limits = self.config.limits
        self._listener.limit(limits.connections, limits.request_time, limits.grace or 0.1)

    async def stop(self) -> None:
        """Tell every caller, end every call, and wait for both, but not for long."""
        self.closing = True
        grace = self.config.limits.grace
        await self._listener.close()
        if self._look is not None:
            self._look.cancel()
        for connection in list(self._connections):
            connection.refuse("shutdown", "the daemon is being stopped")
        await self.processes.close(grace + 1)
        if self._connections:
            self._empty = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(grace):
                    await self._empty
            except TimeoutError:
                for connection in list(self._connections):
                    connection.abort()
        self._hashing.close()

    # What connections tell.

    def arrived(self, connection: Connection) -> None:
        """Take a new connection."""
        full = len(self._connections) >= self.config.limits.connections
        self._connections.add(connection)
        if self.closing or full:
            kind = "shutdown" if self.closing else "system_error"
            connection.refuse(kind, "no more connections: try again later")
        else:
            self.arriving(connection)

    def arriving(self, connection: Connection) -> None:
        """Expect the rest of a request."""
        self._waiting.pop(connection, None)
        until = asyncio.get_running_loop().time() + self.config.limits.request_time
        self._arriving.setdefault(connection, until)
        self._look_out()

    def waiting(self, connection: Connection) -> None:
        """Let a connection wait for another request."""
        self._waiting[connection] = asyncio.get_running_loop().time() + SERVER_IDLE
        self._look_out()

    def requested(self, connection: Connection) -> int:
        """Hear that a request is there, or that there will be none; return its number."""
        self._arriving.pop(connection, None)
        self._waiting.pop(connection, None)
        return next(self._numbers)

    def left(self, connection: Connection) -> None:
        """Forget a connection."""
        self._arriving.pop(connection, None)
        self._waiting.pop(connection, None)
        self._connections.discard(connection)
        if self._empty is not None and not self._connections and not self._empty.done():
            self._empty.set_result(None)

    def _look_out(self) -> None:
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK, self._expire)

    def _expire(self) -> None:
        """Refuse those whose request has not come in time."""
        now = asyncio.get_running_loop().time()
        self._look = None
        for connection, until in list(self._arriving.items()):
            if until > now:
                break
            connection.refuse("timeout", "the request did not come in time")
        for connection, until in list(self._waiting.items()):
            if until > now:
                break
            # Without a word, which would be taken for the answer to a request on its way.
            del self._waiting[connection]
            connection.close()
        if self._arriving or self._waiting:
            self._look_out()
