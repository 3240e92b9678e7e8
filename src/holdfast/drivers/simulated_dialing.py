"""How a simulated connection comes about: SYNs are repeated until somebody answers."""

from __future__ import annotations

import errno
import os
from math import inf
from typing import TYPE_CHECKING

from holdfast.drivers.simulated_streams import Stream

if TYPE_CHECKING:
    from holdfast.drivers.simulated_tasks import Task

__all__ = ["knock"]

#: Seconds to the first repetition of a SYN and how many there are: Linux (TCP_TIMEOUT_INIT,
#: net.ipv4.tcp_syn_retries). Each wait is twice the one before.
_FIRST_SYN = 1.0
_SYNS = 6


def knock(task: Task, turn: int) -> None:
    """Send a SYN, and have it repeated when nothing will answer it."""
    if turn != task.turn:
        return
    world, name, source = task.world, task.target, task.origin
    listener = world.listeners.get(name)
    there = world.delay(source, name, 0, _FIRST_SYN)
    back = world.delay(name, source, 0, _FIRST_SYN) if there < inf else inf
    took = there + back + (listener.after if listener is not None else 0.0)
    if took < inf:
        world.push(world.now + took, _answered, task, turn)
        return
    wait = _FIRST_SYN * 2**task.tries
    world.push(world.now + wait, knock if task.tries < _SYNS else _unheard, task, turn)
    task.tries += 1


def _answered(task: Task, turn: int) -> None:
    if turn != task.turn:
        return
    world, name, source = task.world, task.target, task.origin
    if name in world.dark:
        knock(task, turn)
        return
    listener = world.listeners.get(name)
    if listener is not None and not world.network.refuses(source, name):
        stream = Stream(world, source, name)
        try:
            stream.connection.peer = listener.accept(stream.connection)
        except OSError as error:
            world.throw(task, error)
            return
        if stream.connection.peer is not None:
            world.step(task, stream)
            return
    number = errno.ENOENT if name.startswith("unix:") else errno.ECONNREFUSED
    world.throw(task, OSError(number, os.strerror(number)))


def _unheard(task: Task, turn: int) -> None:
    if turn == task.turn:
        task.world.throw(task, OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
