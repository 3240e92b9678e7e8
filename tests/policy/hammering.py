"""Threads that do the same thing at the same time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable


def hammer(work: Callable[[int], None], threads: int = 4) -> None:
    """Run ``work(number)`` in several threads that take turns every few microseconds."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]
