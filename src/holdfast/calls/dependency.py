"""A dependency: what the calls of one function under `fault_tolerant` share."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from holdfast.calls.attempting import DependencyCall
from holdfast.calls.judging import failed_status, status_of
from holdfast.calls.places import BalancedCore
from holdfast.cluster.modes import Handover, begun, is_deferred, is_pending
from holdfast.errors import DeadlineExceeded
from holdfast.telemetry.logs import LEVELS, Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.calls.balancers import LoadBalancer
    from holdfast.calls.parameters import Slot
    from holdfast.calls.services import Services
    from holdfast.calls.settings import Settings
    from holdfast.ops import Program
    from holdfast.policy.events import Kind, Listener

__all__ = ["Dependency"]

# A program that has set up no logging is not talked to on its standard error.
logging.getLogger("holdfast.calls").addHandler(logging.NullHandler())


class Dependency(BalancedCore):
    """What the calls of a function share.

    ``balancer`` chooses netlocs, ``services`` are for its `Call`, for which there is a ``slot`` in
    its parameters when it wants one; ``error_slot`` is the fallback's for the error. ``driver`` is
    the one of Twisted, as soon as it is known to be the function's mode; so is ``awaited``, whether
    it is asyncio's.
    """

    def __init__(
        self,
        settings: Settings,
        services: Services,
        *,
        balancer: LoadBalancer | None,
        slot: Slot | None,
        error_slot: Slot | None,
        driver: Any = None,
        awaited: bool = False,
    ) -> None:
        clock = driver.clock if driver is not None else monotonic
        super().__init__(settings.policy(), settings.dependency_id, balancer, clock=clock)
        self.settings = settings
        self.services = services
        self.slot = slot
        self.error_slot = error_slot
        self.driver = driver
        self.awaited = awaited
        self._deciding = threading.Lock()
        # What a coroutine returns is its result, be it a task.
        self.questionable = _is_bad if awaited else _is_questionable
        log = Log(f"holdfast.calls.{settings.dependency_id}")
        # Without `listen`, after which every call would be told of: successes are none of its
        # business.
        self.listeners = (log,)
        self._quiet = self.listeners
        self._log = log
        self._loud = frozenset(kind for kind, level in LEVELS.items() if level >= log.level)
        # What no ordinary first attempt can do.
        self._special = self._special or slot is not None
        self.plain = not self._special

    def new_call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        began: float | None = None,
    ) -> DependencyCall:
        """Return a call of the function."""
        return DependencyCall(self, function, arguments, keywords, began)

    def close(self) -> Any:
        """Close the connections that its calls have kept; in Twisted mode, returns a Deferred."""
        return self.services.close()

    # Telling.

    def unlisten(self, listener: Listener) -> None:
        """End the listening of a function."""
        super().unlisten(listener)
        self.plain = not self._special and self.listeners == self._quiet

    def emit(
        self,
        kind: Kind,
        endpoint: str = "",
        attempt: int = 0,
        cause: Any = None,
        policy: str = "",
        seconds: float = 0.0,
        call: int = 0,
    ) -> None:
        """Tell whoever listens, if it is more than the log, to which most is too little."""
        if self.listeners is self._quiet and (
            kind not in self._loud or not self._log.logger.isEnabledFor(LEVELS[kind])
        ):
            return
        super().emit(kind, endpoint, attempt, cause, policy, seconds, call)

    # Running.

    @property
    def is_blocking(self) -> bool:
        """Whether calls are, as far as is known, made on the caller's thread."""
        return self.driver is None and not self.awaited

    def run(self, program: Program[Any]) -> Any:
        """Run a call on this thread, unless what has yet to come comes up: then as such, too."""
        if self.driver is not None:
            return self.driver.run(begun(program))
        return super().run(program)

    def hand_over(self, call: Handover) -> Any:
        """Go on in Twisted, or in asyncio."""
        if is_deferred(call.pending):
            return self.become_twisted().run(call.rest)
        self.services.asynchronous = True
        return super().hand_over(call)

    def become_twisted(self) -> Any:
        """Know from now on that the function is one of Twisted's; returns the driver."""
        from holdfast.calls.twisted import TwistedServices
        from holdfast.drivers.twisted import Driver

        with self._deciding:
            if self.driver is None:
                before = self.services
                driver = Driver(self.settings.reactor)
                self.services = TwistedServices(self.settings, driver)
                self.driver = driver
                before.close()
        return self.driver

    def named(self, error: Exception) -> Exception:
        """Return an error as the mode names it."""
        if self.driver is None or not isinstance(error, DeadlineExceeded):
            return error
        from holdfast.calls.twisted_responses import TotalTimeout

        late = TotalTimeout(error.summary)
        late.attempts = error.attempts
        late.sent = error.sent
        late.__cause__ = error.__cause__
        return late


def _is_bad(result: Any) -> bool:
    """Tell whether a result is a bad response."""
    return failed_status(status_of(result))


def _is_questionable(result: Any) -> bool:
    """Tell whether a result is a bad response, or has yet to come."""
    status = status_of(result)
    if status is not None:
        return failed_status(status)
    return is_pending(result)
