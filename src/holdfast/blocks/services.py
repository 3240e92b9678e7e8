"""Where services are found: a list of URLs, or an API server that knows them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from holdfast import ops
from holdfast.blocks.errors import ArgumentError, KeepRequestError
from holdfast.blocks.placement import Service, Services
from holdfast.errors import InvalidRequest
from holdfast.http.origins import Origin
from holdfast.policy.coalescing import Flights
from holdfast.wire.http1 import WireError, encode_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.ops import Program

__all__ = ["ServiceList", "from_urls", "settings"]

logger = logging.getLogger("holdfast.blocks")

_TRUE = ("1", "yes", "true")


def settings(
    api_client: Any, proxy: str | None, api_token: str | None, environ: Mapping[str, str]
) -> tuple[ServiceList, str | None, bool]:
    """Return the list, the token, and whether certificates are checked, for a client's arguments.

    What is not given is taken from the environment. Raises ArgumentError.
    """
    if api_client is not None and api_token is not None:
        raise ArgumentError(
            "a client has api_client or api_token, not both: api_client has a token"
        )
    if proxy is None:
        proxy = environ.get("ARVADOS_KEEP_SERVICES") or environ.get("ARVADOS_KEEP_PROXY") or ""
    insecure = environ.get("ARVADOS_API_HOST_INSECURE", "").lower() in _TRUE
    if api_client is not None:
        token = getattr(api_client, "api_token", None)
        insecure = bool(getattr(api_client, "insecure", insecure))
    else:
        token = environ.get("ARVADOS_API_TOKEN") if api_token is None else api_token
    if token:
        try:
            encode_headers([("Authorization", token)])
        except (TypeError, WireError):
            raise ArgumentError("the API token has characters that no header may have") from None
    if proxy.strip():
        return ServiceList(from_urls(proxy)), token or None, not insecure
    if api_client is None:
        raise ArgumentError(
            "no Keep service is known: give api_client or proxy, or set ARVADOS_KEEP_SERVICES"
        )
    return ServiceList(None, api_client), token or None, not insecure


def from_urls(urls: str) -> Services:
    """Return the services of a list of URLs with spaces between; raises ArgumentError.

    One that is listed twice is one: two copies on it would be one copy.
    """
    services: dict[str, Service] = {}
    for index, url in enumerate(urls.split()):
        root = f"{_origin(url).url}/"
        services.setdefault(root, Service(f"00000-bi6l4-{index:015d}", root, "proxy"))
    return Services(list(services.values()))


def _origin(url: str) -> Origin:
    try:
        origin = Origin.parse(url)
    except InvalidRequest as error:
        raise ArgumentError(f"not the URL of a Keep service: {error}") from None
    if origin.credentials is not None:
        raise ArgumentError("the URL of a Keep service has no user: the token is given apart")
    if "://" not in url or origin.unix is not None:
        raise ArgumentError(f"the URL of a Keep service begins with http:// or https://: {url!r}")
    return origin


def from_items(items: Any) -> Services:
    """Return the services that an API server has listed; raises KeepRequestError."""
    services = []
    for item in items:
        try:
            host = str(item["service_host"])
            if ":" in host and not host.startswith("["):
                host = f"[{host}]"
            scheme = "https" if item["service_ssl_flag"] else "http"
            port = int(item["service_port"])
            root = f"{_origin(f'{scheme}://{host}:{port}').url}/"
            kind = str(item.get("service_type") or "disk")
            uuid = str(item["uuid"])
        except (ArgumentError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise KeepRequestError(
                f"the API server lists a Keep service that cannot be called: {error}"
            ) from error
        services.append(Service(uuid, root, kind, bool(item.get("read_only"))))
    return Services(services)


class ServiceList:
    """The services, asked for when they are first needed, and again when some have failed.

    ``services``: a list that never changes; else ``api_client`` is asked. ``offload``: calls a
    function that blocks.
    """

    def __init__(self, services: Services | None, api_client: Any = None) -> None:
        self._api_client = api_client
        self._flights = Flights()
        self.services = services
        self.offload: Callable[..., Any] | None = None

    @property
    def static(self) -> bool:
        """Whether it is a list that never changes."""
        return self._api_client is None

    def known(self, deadline: float, again: bool = False) -> Program[Services]:
        """Return the services, asked for if need be, or ``again``.

        Several that ask at the same time cause one request. Raises what the API object raises.
        """
        if self.services is not None and (not again or self.static):
            return self.services
        services, _ = yield from self._flights.share("", lambda: self._asked(deadline), deadline)
        return services

    def refreshed(self, services: Services, deadline: float) -> Program[Services]:
        """Return the services, asked for again; the same when there is no answer."""
        if self.static:
            return services
        try:
            return (yield from self.known(deadline, again=True))
        except Exception as error:
            logger.warning("the Keep services cannot be listed again: %s", type(error).__name__)
            return services

    def _asked(self, deadline: float) -> Program[Services]:
        if self.offload is None:
            invoke = ops.Invoke(self._ask, deadline=deadline)
        else:
            invoke = ops.Invoke(self.offload, self._ask, deadline=deadline)
        self.services = services = from_items((yield invoke))
        return services

    def _ask(self) -> Any:
        return self._api_client.keep_services().accessible().execute()["items"]

    def forget_flights(self) -> None:
        """Wait for nobody any more: in a forked process, those who asked are not there."""
        self._flights = Flights()
