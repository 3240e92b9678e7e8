"""Counts of what a client has done."""

from __future__ import annotations

import threading

__all__ = ["Counter", "Counters"]


class Counter:
    """A number that only grows; safe among threads."""

    __slots__ = ("_lock", "_value")

    def __init__(self, value: int = 0) -> None:
        self._lock = threading.Lock()
        self._value = value

    def __repr__(self) -> str:
        return f"<Counter {self._value}>"

    def add(self, value: int) -> None:
        """Add a number."""
        with self._lock:
            self._value += value

    def get(self) -> int:
        """Return the number."""
        return self._value

    def forget_lock(self) -> None:
        """Have a lock that nobody holds, in a forked process."""
        self._lock = threading.Lock()


class Counters:
    """The counters of a client: bytes sent and received, operations, hits and misses."""

    __slots__ = ("downloads", "gets", "hits", "misses", "puts", "uploads")

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, Counter())

    uploads: Counter
    downloads: Counter
    gets: Counter
    puts: Counter
    hits: Counter
    misses: Counter

    def forget_locks(self) -> None:
        """Have locks that nobody holds, in a forked process."""
        for name in self.__slots__:
            getattr(self, name).forget_lock()
