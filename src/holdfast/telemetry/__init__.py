"""Events out: to logs, statsd, Prometheus and OpenTelemetry.

Each of these is a listener, for ``Cluster(..., listeners=[Log()])``, ``cluster.listen(Log())``, or
``function.core.listen(Log())`` of a function under a policy. What is not used is not imported, and
a cluster to which nobody listens makes no events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.telemetry.logs import Log
    from holdfast.telemetry.otel import OpenTelemetry
    from holdfast.telemetry.prometheus import Prometheus
    from holdfast.telemetry.statsd import UDP, Statsd

__all__ = ["UDP", "Log", "OpenTelemetry", "Prometheus", "Statsd"]

_MODULES = {
    "Log": "logs",
    "OpenTelemetry": "otel",
    "Prometheus": "prometheus",
    "Statsd": "statsd",
    "UDP": "statsd",
}


def __getattr__(name: str) -> Any:
    # Only now: two of them need packages that come with extras.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
