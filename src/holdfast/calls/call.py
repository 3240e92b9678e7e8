"""One attempt, as the function sees it that was asked for a `Call`."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.calls.balancers import balancer_of
from holdfast.calls.http import Http
from holdfast.calls.settings import Settings
from holdfast.cluster.modes import is_for_asyncio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.calls.services import Services
    from holdfast.calls.sources import Source

__all__ = ["Call"]


class Call:
    """The services of one attempt: ``call.http``, ``call.agent``, and where it is to go.

    A function under `fault_tolerant` gets one for each attempt when it has a parameter annotated
    with this class, or named ``call``. ``protocol`` and ``netloc`` are what the load balancer
    chose, empty without one; ``attempt`` counts from 1; ``deadline`` is the end of the whole
    call, a time of the monotonic clock.

    By hand, with the arguments of `fault_tolerant`, a call is for the tests of such functions;
    ``run`` is the function, whose kind decides what ``http`` returns.
    """

    __slots__ = (
        "_agent",
        "_http",
        "_settings",
        "attempt",
        "deadline",
        "inject",
        "netloc",
        "protocol",
        "run",
        "services",
        "sources",
        "unsafe",
    )

    def __init__(
        self,
        reactor: Any,
        dependency: str,
        run: Callable[..., Any],
        fallback: Callable[..., Any] | None,
        timeout: float | None,
        retry_attempts: int,
        max_open_per_netloc: int,
        retry_on_timeout: bool,
        expected_in: float | None,
        statsd: Any,
        load_balancer: Any,
        circuit_reset_timeout: float,
        use_proxy: bool,
        context_factory: Any,
        connect_timeout: float | None = 1,
    ) -> None:
        from holdfast.calls.services import services_of

        settings = Settings(
            reactor=reactor,
            dependency_id=dependency,
            fallback=fallback,
            timeout=timeout,
            retry_attempts=retry_attempts,
            max_open_per_netloc=max_open_per_netloc,
            retry_on_timeout=retry_on_timeout,
            expected_in=expected_in,
            statsd=statsd,
            load_balancer=load_balancer,
            circuit_reset_timeout=circuit_reset_timeout,
            use_proxy=use_proxy,
            context_factory=context_factory,
            connect_timeout=connect_timeout,
        )
        balancer = balancer_of(load_balancer)
        place = balancer.choose(()) if balancer is not None else ("", "")
        services = services_of(settings, is_for_asyncio(run))
        deadline = inf if timeout is None else services.clock() + timeout
        self._begin(settings, services, run, place, 1, deadline)

    @classmethod
    def of(
        cls,
        settings: Settings,
        services: Services,
        run: Callable[..., Any],
        place: tuple[str, str],
        attempt: int,
        deadline: float,
        previous: Call | None = None,
        inject: Callable[[], Iterable[tuple[str, str]]] | None = None,
    ) -> Call:
        """Return the call of an attempt, which comes after another one perhaps."""
        call = cls.__new__(cls)
        call._begin(settings, services, run, place, attempt, deadline)
        call.inject = inject
        if previous is not None:
            call.sources = previous.sources
            for source in call.sources:
                source.rewind()
        return call

    def _begin(
        self,
        settings: Settings,
        services: Services,
        run: Callable[..., Any],
        place: tuple[str, str],
        attempt: int,
        deadline: float,
    ) -> None:
        self._settings = settings
        self.services = services
        self._agent: Any = None
        self._http: Http | None = None
        self.run = run
        self.protocol, self.netloc = place
        self.attempt = attempt
        self.deadline = deadline
        #: Returns headers for the requests of the attempt, those of a trace, when there are any.
        self.inject: Callable[[], Iterable[tuple[str, str]]] | None = None
        #: Requests that may have been carried out, and must not be twice.
        self.unsafe = 0
        #: What was given as a body and runs out, by this attempt and earlier ones.
        self.sources: list[Source] = []

    def __repr__(self) -> str:
        where = f" at {self.netloc.rpartition('@')[2]}" if self.netloc else ""
        return f"<Call of {self.dependency}: attempt {self.attempt}{where}>"

    def __getattr__(self, name: str) -> Any:
        # What the decorator was told, by the names of its arguments.
        if name.startswith("_") or name not in Settings.__dataclass_fields__:
            raise AttributeError(f"a Call has no attribute {name!r}")
        return getattr(self._settings, name)

    @property
    def reactor(self) -> Any:
        """The reactor of Twisted's, None in the other modes."""
        return self.services.reactor

    @property
    def dependency(self) -> str:
        """The name of the dependency, in statistics and logs."""
        return self._settings.dependency_id

    @property
    def agent(self) -> Any:
        """The lower-level agent: a ``twisted.web.client.Agent`` in Twisted mode, else an `Agent`.

        It makes single exchanges; redirects are not followed.
        """
        if self._agent is None:
            self._agent = self.services.agent(self)
        return self._agent

    @property
    def http(self) -> Http:
        """The HTTP service."""
        if self._http is None:
            self._http = Http(self.agent, self.services.reactor, call=self)
        return self._http
