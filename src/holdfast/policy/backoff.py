"""Exponential growth up to a cap."""

from __future__ import annotations

__all__ = ["exponential"]


def exponential(base: float, factor: float, times: int, cap: float) -> float:
    """Return ``base · factor^times``, at most ``cap``, however large that is."""
    try:
        return min(cap, base * float(factor) ** times)
    except OverflowError:  # a float ends at 2^1024
        return cap
