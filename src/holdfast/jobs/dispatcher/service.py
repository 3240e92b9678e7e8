"""The dispatcher as a service: it opens, listens, reloads, prunes, stops."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from holdfast.jobs.dispatcher.config import Config, ConfigError
from holdfast.jobs.dispatcher.dispatcher import Dispatcher
from holdfast.jobs.dispatcher.hosts import Hosts
from holdfast.jobs.dispatcher.port import ClientPort
from holdfast.jobs.dispatcher.registry import Registry, RegistryError
from holdfast.jobs.dispatcher.running import LINE_LIMIT
from holdfast.jobs.dispatcher.security import client_tls
from holdfast.jobs.dispatcher.sqlite import SqliteStore
from holdfast.jobs.dispatcher.store import StoreError
from holdfast.jobs.dispatcher.tls import HostTls
from holdfast.jobs.listening import Listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.jobs.dispatcher.store import Store

__all__ = ["Service"]

log = logging.getLogger(__name__)

#: How many seconds a client may take to begin TLS, and to end it.
HANDSHAKE = 10.0
SHUTDOWN = 10.0

#: How often old jobs are looked for, in seconds.
PRUNING = 600.0

#: How many jobs are forgotten at a time, so that others are not kept waiting.
PRUNED_AT_ONCE = 200


class Service:
    """A dispatcher with its store, its registry and its client port.

    ``reload`` returns the configuration as it is now; raises ConfigError.
    """

    def __init__(
        self, config: Config, reload: Callable[[], Config] | None = None, store: Store | None = None
    ) -> None:
        self.config = config
        self._reload = reload
        self._certificates = _certificates(config)
        self.registry = Registry(config.host_db_script, config.host_db, config.host_db_timeout)
        self.dispatcher = Dispatcher(
            config,
            store or SqliteStore(config.stream_directory),
            self.registry,
            self._certificates[0],
        )
        self.port = ClientPort(self.dispatcher, config)
        self._listener = Listener(self.port, self._certificates[1])
        self._listener.limit(self.port.most, HANDSHAKE, SHUTDOWN)
        #: The addresses that clients reach it at, once it has been opened.
        self.addresses: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._opened = asyncio.Event()
        self._stopped = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._due = asyncio.Event()

    async def open(self) -> None:
        """Open the store, end what was interrupted, and listen.

        Raises StoreError or OSError.
        """
        async with AsyncExitStack() as stack:
            await self.dispatcher.store.open()
            stack.push_async_callback(self.dispatcher.store.close)
            await self.dispatcher.open()
            self.registry.restore()
            stack.push_async_callback(self._listener.close)
            for listen in self.config.listen:
                self.addresses += self._listener.listen(listen.host, listen.port)
            stack.pop_all()
        self._warn()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._refreshing()), loop.create_task(self._pruning())]
        self._opened.set()

    def _warn(self) -> None:
        config = self.config
        if config.exposed and not config.secured:
            log.warning(
                "anybody who reaches %s may run every procedure on every host:"
                " set tokens_file or client_ca_file, or listen on 127.0.0.1 only",
                ", ".join(map(str, config.exposed)),
            )
        elif config.exposed and config.certfile is None:
            log.warning(
                "tokens travel in clear to %s: set certfile and keyfile",
                ", ".join(map(str, config.exposed)),
            )

    # Administration.

    def reload(self) -> None:
        """Read the configuration again and take what can change; raises ConfigError.

        Where to listen and where jobs are kept can not.
        """
        if self._reload is None:
            raise ConfigError("there is no configuration file to read again")
        config = self._reload()
        certificates = _certificates(config)
        for name in ("listen", "stream_directory"):
            if getattr(config, name) != getattr(self.config, name):
                log.warning("%s has changed: this takes effect at the next start", name)
        if (certificates[1] is None) != (self._certificates[1] is None):
            log.warning("TLS of the client port was turned on or off: not before the next start")
        elif certificates[1] is not None:
            self._load_client_tls(config)
        self._certificates = certificates[0], self._certificates[1]
        self.config = self.dispatcher.config = config
        self.dispatcher.hosts.close()
        self.dispatcher.hosts = certificates[0]
        self.port.configure(config)
        self._listener.limit(self.port.most, HANDSHAKE, SHUTDOWN)
        self.registry.configure(config.host_db_script, config.host_db, config.host_db_timeout)
        self._due.set()
        self._warn()
        log.info("the configuration was read again")

    def _load_client_tls(self, config: Config) -> None:
        """Let the context that the servers have show the certificate of today."""
        context = self._certificates[1]
        assert context is not None
        assert config.certfile is not None
        context.load_cert_chain(config.certfile, config.keyfile)
        if config.client_ca_file != self.config.client_ca_file:
            log.warning("client_ca_file has changed: this takes effect at the next start")

    async def prune(self, age: float) -> int:
        """Forget the jobs that ended longer ago than ``age`` seconds; return how many it were."""
        before = int(time.time() - age)
        total = 0
        while pruned := await self.dispatcher.store.prune(before, PRUNED_AT_ONCE):
            total += pruned
            # What waits for the store comes in between.
            await asyncio.sleep(0)
        return total

    def stop(self, timeout: float | None = None) -> None:
        """Begin to stop: gracefully, within a time; asked again, at once."""
        if self._stopping is None:
            limit = self.config.stop_timeout if timeout is None else timeout
            self._stopping = asyncio.get_running_loop().create_task(self._stop(limit))
        else:
            self._hurry.set()

    async def stopped(self) -> None:
        """Wait until everything is closed."""
        await self._stopped.wait()

    # In the background.

    async def _refreshing(self) -> None:
        """Refresh the registry when it is time, or when the configuration has changed."""
        while True:
            self._due.clear()
            if self.config.host_db_script:
                try:
                    await self.registry.refresh()
                except RegistryError as error:
                    log.error("the registry of hosts was not refreshed: %s", error)
                except Exception:
                    log.exception("the registry of hosts was not refreshed")
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.host_db_refresh):
                    await self._due.wait()

    async def _pruning(self) -> None:
        while True:
            hours = self.config.max_age
            if hours is not None:
                try:
                    count = await self.prune(hours * 3600)
                except StoreError as error:
                    log.error("old jobs cannot be pruned: %s", error)
                except Exception:
                    log.exception("old jobs cannot be pruned")
                else:
                    if count:
                        log.info("%d jobs were older than %d hours and pruned", count, hours)
            await asyncio.sleep(PRUNING)

    async def _stop(self, timeout: float) -> None:
        await self._opened.wait()
        log.info("stopping: jobs that run have %g s to end", timeout)
        await self._listener.close()
        ending = asyncio.create_task(self.dispatcher.stop(timeout))
        hurrying = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((ending, hurrying), return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not ending.done():
            self.dispatcher.hurry()
        await ending
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.dispatcher.hosts.close()
        await self.registry.close()
        await self.port.close()
        await self.dispatcher.store.close()
        log.info("stopped")
        self._stopped.set()


def _certificates(config: Config) -> tuple[Hosts, ssl.SSLContext | None]:
    """Read what TLS needs; raise ConfigError where that cannot be done."""
    try:
        tls = HostTls(
            config.ca_file, config.known_certs_file, verify_hostname=config.verify_hostname
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"ca_file or known_certs_file: {error}") from None
    try:
        return Hosts(tls, LINE_LIMIT, config.connect_timeout), client_tls(config)
    except (OSError, ValueError) as error:
        raise ConfigError(f"certfile, keyfile or client_ca_file: {error}") from None
