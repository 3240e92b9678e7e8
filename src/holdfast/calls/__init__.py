"""Functions made to survive: `fault_tolerant`, for threads, asyncio and Twisted."""

from holdfast.calls.agents import Agent
from holdfast.calls.balancers import LeastLoaded, LoadBalancer, RoundRobin
from holdfast.calls.call import Call
from holdfast.calls.decorator import fault_tolerant
from holdfast.calls.http import Http
from holdfast.calls.judging import Retryable

__all__ = [
    "Agent",
    "Call",
    "Http",
    "LeastLoaded",
    "LoadBalancer",
    "Retryable",
    "RoundRobin",
    "fault_tolerant",
]
