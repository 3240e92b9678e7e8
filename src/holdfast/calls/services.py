"""What the attempts of a dependency share, in threads, in asyncio or on a reactor."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.calls.agents import Agent, Connections
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking

if TYPE_CHECKING:
    from holdfast.calls.call import Call
    from holdfast.calls.settings import Settings
    from holdfast.http.responses import Response
    from holdfast.ops import Program

__all__ = ["OwnServices", "Services", "services_of"]


class Services(Protocol):
    """The connections of a dependency, and the agents that use them."""

    #: Whether agents of holdfast's own return awaitables.
    asynchronous: bool

    @property
    def reactor(self) -> Any:
        """The reactor of Twisted's, None without."""

    def clock(self) -> float:
        """Return the time that the deadlines of calls are of."""

    def agent(self, call: Call, persistent: bool = True) -> Any:
        """Return the agent of an attempt."""

    def close(self) -> Any:
        """Close the kept connections."""


class OwnServices:
    """Services on holdfast's own HTTP, in threads or in asyncio."""

    reactor: Any = None

    def __init__(self, settings: Settings, asynchronous: bool) -> None:
        self.clock = monotonic
        self.asynchronous = asynchronous
        self._connections = Connections(settings)

    def agent(self, call: Call, persistent: bool = True) -> Agent:
        """Return the agent of an attempt."""
        return Agent(self._connections, self._run, call)

    def _run(self, program: Program[Response]) -> Any:
        # Not before: a function that returns a coroutine is known by that alone.
        return asyncio_driver.run(program) if self.asynchronous else blocking.run(program)

    def close(self) -> None:
        """Close the kept connections."""
        self._connections.close()


def services_of(settings: Settings, asynchronous: bool, driver: Any = None) -> Services:
    """Return the services that a function of this kind gets; ``driver`` is that of Twisted.

    Raises ImportError when it takes Twisted, which is not there.
    """
    if driver is not None or settings.reactor is not None:
        from holdfast.calls.twisted import TwistedServices

        services: Services = TwistedServices(settings, driver)
        return services
    return OwnServices(settings, asynchronous)
