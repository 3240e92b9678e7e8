"""The HTTP service of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.calls.agents import Agent
from holdfast.calls.options import Options
from holdfast.errors import InvalidRequest

if TYPE_CHECKING:
    from holdfast.calls.call import Call

__all__ = ["Http"]


class Http:
    """Makes HTTP requests through an agent: ``call.http`` is the one of an attempt.

    ``agent``: a `holdfast.calls.Agent`, or an agent of Twisted's on its ``reactor``. Nothing is
    repeated here: that is the business of the function's `fault_tolerant`.
    """

    def __init__(self, agent: Any, reactor: Any = None, *, call: Call | None = None) -> None:
        self.agent = agent
        self.reactor = reactor
        self._call = call

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Any = None,
        params: Any = None,
        data: Any = None,
        reactor: Any = None,
        persistent: bool = True,
        allow_redirects: bool = True,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> Any:
        """Make a request; a relative URL goes to the netloc that the load balancer chose.

        ``headers``: a mapping or pairs; a list of values is a field for each. ``params``: what is
        added to the query, a mapping or pairs. ``data``: str, bytes, a binary file, a mapping for
        a form, in Twisted mode also an ``IBodyProducer``. ``reactor``: another reactor of
        Twisted's. ``persistent``: whether the connection may be a kept one. ``auth``: ``(user,
        password)``. ``timeout``: seconds until the whole answer is there (in Twisted mode: its
        head), never more than are left of the call. ``idempotent``: whether the request may be
        repeated when it may have been carried out; by default its method tells.

        Returns a `holdfast.Response`, an awaitable of one in asynchronous functions, a Deferred
        that fires with an ``IResponse`` in Twisted mode. Raises HoldfastError, a TimeoutError
        where it took too long; in Twisted mode what Twisted raises, and for a timeout an error
        that is a ``CancelledError`` as well.
        """
        options = Options(
            headers=headers,
            params=params,
            data=data,
            persistent=persistent,
            allow_redirects=allow_redirects,
            auth=auth,
            timeout=timeout,
            idempotent=idempotent,
        )
        if isinstance(self.agent, Agent):
            if reactor is not None:
                raise InvalidRequest("reactor is for Twisted mode: fault_tolerant(reactor=...)")
            return self.agent.perform(method, url, options)
        from holdfast.calls.twisted import perform

        return perform(self.agent, reactor or self.reactor, self._call, method, url, options)
