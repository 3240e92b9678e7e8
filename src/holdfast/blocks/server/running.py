"""The service on uvicorn: listening, serving, and stopping."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn

from holdfast.blocks.server.application import Application
from holdfast.blocks.server.config import ConfigError
from holdfast.blocks.server.protocol import BlockProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.blocks.server.config import Config
    from holdfast.blocks.server.service import Service

__all__ = ["BlockServer", "listener"]

BACKLOG = 1024


class BlockServer(uvicorn.Server):
    """Serves a service; ``run([listener(config)])`` does so until it is told to stop.

    ``make``: makes the service, within the event loop. ``announce``: is told the URL once
    connections are accepted. Raises ConfigError when the certificate cannot be used.
    """

    def __init__(
        self, config: Config, make: Callable[[], Service], announce: Callable[[str], None]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                Application(make),
                http=BlockProtocol,
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(config.grace) or None,
                limit_concurrency=config.connections or None,
                ssl_certfile=config.certfile,
                ssl_keyfile=config.keyfile,
                backlog=BACKLOG,
            )
        )
        self._announce = announce
        try:
            self.config.load()
        except OSError as error:  # as those of TLS are
            raise ConfigError(
                f"TLS cannot be used with {config.certfile} and "
                f"{config.keyfile or 'the key in it'}: {error.strerror or error}"
            ) from None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections, and say where."""
        await super().startup(sockets)
        if self.started and sockets:
            address, port = sockets[0].getsockname()[:2]
            host = f"[{address}]" if ":" in address else address
            scheme = "https" if self.config.is_ssl else "http"
            self._announce(f"{scheme}://{host}:{port}")


def listener(config: Config) -> socket.socket:
    """Return a socket that listens where the configuration says; raises ConfigError."""
    family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
    try:
        # Restarting must not wait until the connections of the last time are forgotten.
        return socket.create_server((config.address, config.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {config.address}, port {config.port}: {error.strerror or error}"
        ) from None
