"""A world to try policies in: hosts, their network, and what goes wrong with them."""

from holdfast.drivers.simulated import EndlessWait, Task, World
from holdfast.simulation.distributions import (
    Constant,
    Distribution,
    Exponential,
    LogNormal,
    Pareto,
    Uniform,
    distribution,
)
from holdfast.simulation.hosts import Host
from holdfast.simulation.network import Network
from holdfast.simulation.requests import Asked, Reply
from holdfast.simulation.services import Service

__all__ = [
    "Asked",
    "Constant",
    "Distribution",
    "EndlessWait",
    "Exponential",
    "Host",
    "LogNormal",
    "Network",
    "Pareto",
    "Reply",
    "Service",
    "Task",
    "Uniform",
    "World",
    "distribution",
]
