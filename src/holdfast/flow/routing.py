"""`Route`: from a client's own host to where redirects lead, and back.

Theory of operation: the requester says where the next request goes, and each origin has a
connector; the client's own, *home*, is the first. What the requester had before a redirect led
away is kept in ``left``, for the request after it begins at home again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.flow.connecting import Connector
from holdfast.flow.redirecting import destination
from holdfast.flow.secure import TLSConnector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.flow.placing import Place
    from holdfast.flow.requesting import Requester

__all__ = ["MAX_REDIRECTS", "Route", "origin_of"]

#: How many redirects are followed for one request.
MAX_REDIRECTS = 20

#: For how many hosts that redirects lead to, a connector is kept.
_REMEMBERED = 16

#: What makes a request.
_OF_REQUEST = (
    "scheme",
    "hostname",
    "port",
    "method",
    "path",
    "fragment",
    "qargs",
    "headers",
    "body",
    "data",
    "fargs",
)

#: Arguments of the connector that are for TLS alone.
_OF_TLS = frozenset(
    {
        "context",
        "version",
        "certify",
        "hostify",
        "certedhost",
        "keypath",
        "certpath",
        "cafilepath",
    }
)

#: Those that connections to other hosts have, too.
_OF_CONNECTOR = ("tymth", "tymeout", "reconnectable", "bs", "wl", "name", "uid")


class Route:
    """The connectors of a client, and the way back from where redirects have led.

    ``place`` is its own, ``connector`` the one for it; without one, ``options`` make it.
    """

    def __init__(
        self, place: Place, connector: Connector | None, options: Mapping[str, Any]
    ) -> None:
        self._options = dict(options)
        #: The connector to the client's own host.
        self.home = connector or self._connect_home(place.scheme, place.hostname, place.port)
        #: Those of the client's own host, and of hosts that redirects have led to.
        self._connectors = {(place.scheme, place.hostname.lower(), place.port): self.home}
        #: Redirects of the outstanding request.
        self.followed: list[dict[str, Any]] = []
        #: The request that was redirected.
        self.left: dict[str, Any] | None = None
        #: What the last redirect has the request sent to.
        self.target: str | None = None

    def wind(self, tymth: Callable[[], float]) -> None:
        """Take the time from ``tymth`` from now on."""
        self._options["tymth"] = tymth
        for connector in self._connectors.values():
            connector.wind(tymth)

    def lead(self, requester: Requester, response: Mapping[str, Any]) -> bytes:
        """Have the requester be where a response leads; returns the request to send there.

        Raises ValueError when it leads nowhere, from https to http, or in a loop.
        """
        if len(self.followed) > MAX_REDIRECTS:
            raise ValueError(f"it redirects more than {MAX_REDIRECTS} times")
        there, target = destination(requester, response["status"], response["headers"]["location"])
        if self.left is None:
            self.left = {name: getattr(requester, name) for name in _OF_REQUEST}
        requester.reinit(**there)
        self.target = target
        return requester.build(target=target)

    def go_back(self, requester: Requester) -> None:
        """Have the requester be where the first redirect has led away from."""
        if self.left is not None:
            left, self.left, self.target = self.left, None, None
            requester.reinit(**left)

    def connector(self, requester: Requester) -> Connector:
        """Return the connector to where the requester is."""
        place = origin_of(requester)
        connector = self._connectors.get(place)
        if connector is None:
            if len(self._connectors) > _REMEMBERED:
                self._connectors = dict([next(iter(self._connectors.items()))])
            connector = self._connectors[place] = self._connect_elsewhere(*place)
        return connector

    def _connect_home(self, scheme: str, hostname: str, port: int) -> Connector:
        options = dict(self._options, host=hostname, port=port)
        if scheme == "https":
            return TLSConnector(**options)
        return Connector(**{k: v for k, v in options.items() if k not in _OF_TLS})

    def _connect_elsewhere(self, scheme: str, hostname: str, port: int) -> Connector:
        """Return a connector like the client's own, for where a redirect leads."""
        home = self.home
        options = {name: getattr(home, name) for name in _OF_CONNECTOR}
        if scheme == "http":
            return Connector(host=hostname, port=port, **options)
        options |= {name: self._options[name] for name in _OF_TLS if name in self._options}
        if isinstance(home, TLSConnector):
            options |= {name: getattr(home, name) for name in _OF_TLS}
        if hostname != home.host:
            # The name to verify is not that of this host, and who the client is, is not for it.
            if options.pop("certpath", None) is not None:
                options.pop("context", None)
            options.pop("keypath", None)
            options.pop("certedhost", None)
        return TLSConnector(host=hostname, port=port, **options)


def origin_of(requester: Requester) -> tuple[str, str, int]:
    """Return scheme, host and port that the requester's next request goes to."""
    return requester.scheme, requester.hostname.lower(), requester.port
