"""A proxy that brings a network's faults to real sockets."""

from tests.faults.proxy import NO_FAULT, Fault, FaultProxy, Plan

__all__ = ["NO_FAULT", "Fault", "FaultProxy", "Plan"]
