"""How each operation is performed in virtual time: ``PERFORM`` has a function for each."""

from __future__ import annotations

import socket
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from holdfast import ops
from holdfast.drivers.simulated_dialing import knock
from holdfast.drivers.simulated_tasks import Group, Task

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PERFORM", "await_data"]


def _round_trip(task: Task, operation: ops.RoundTrip) -> None:
    world = task.world
    if operation.deadline <= world.now:
        raise TimeoutError
    stream: Any = operation.stream
    stream.check()
    data = operation.data
    if data.__class__ is not bytes:
        data = bytes(data)
    if stream.send(data, task):
        await_data(task, operation)
    else:
        world.until(task, operation.deadline)


def _send(task: Task, operation: ops.Send) -> None:
    world = task.world
    if operation.deadline <= world.now:
        raise TimeoutError
    stream: Any = operation.stream
    stream.check()
    if stream.send(bytes(operation.data), task):
        world.push(world.now, Task.resume, task, task.turn)
    else:
        world.until(task, operation.deadline)


def _receive(task: Task, operation: ops.Receive | ops.ReceiveInto) -> None:
    if operation.deadline <= task.world.now:
        raise TimeoutError
    await_data(task, operation)


def await_data(task: Task, operation: ops.RoundTrip | ops.Receive | ops.ReceiveInto) -> None:
    """Go on with a task when its stream has received something."""
    world = task.world
    stream: Any = operation.stream
    if stream.pieces or stream.ended or stream.closed:
        world.push(world.now, world.receive, task, task.turn)
        return
    task.limit = -1 if isinstance(operation, ops.ReceiveInto) else operation.limit
    stream.waiter = task
    world.until(task, operation.deadline)


def _sleep(task: Task, operation: ops.Sleep) -> None:
    world = task.world
    until = operation.until
    if until < inf:
        if until < world.now or ops.instant:
            until = world.now
        world.push(until, Task.resume, task, task.turn)


def _wait(task: Task, operation: ops.Wait) -> None:
    world = task.world
    turn = task.turn
    if operation.signal.listen(partial(_fired, task, turn)):
        world.push(world.now, Task.resume, task, turn)
    elif operation.deadline <= world.now:
        operation.signal.listen(None)
        raise TimeoutError
    else:
        world.until(task, operation.deadline)


def _fired(task: Task, turn: int) -> None:
    world = task.world
    world.push(world.now, Task.resume, task, turn)


def _invoke(task: Task, operation: ops.Invoke) -> None:
    world = task.world
    task.running = True  # as long as what it calls
    try:
        value = operation.function(*operation.arguments)
    except Exception as error:
        world.later(task, error=error)
        return
    finally:
        task.running = False
    if task.closing:
        task.cancel(task.reason)
    elif task.asynchronous and hasattr(value, "__await__"):
        world.bridge.wait(task, value)
        world.until(task, operation.deadline)
    else:
        world.later(task, value)


def _resolve(task: Task, operation: ops.Resolve) -> None:
    world = task.world
    host = operation.host
    addresses = world.names.get(host)
    if addresses is None and _address(host, operation.port) in world.known:
        addresses = [host]
    if addresses is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    world.later(task, [(_family(name), (name, operation.port)) for name in addresses])


def _connect(task: Task, operation: ops.Connect) -> None:
    world = task.world
    if operation.deadline <= world.now:
        raise TimeoutError
    family, address = operation.address
    name = f"unix:{address}" if family == socket.AF_UNIX else _address(*address[:2])
    task.target = name
    task.origin = operation.source[0] if operation.source is not None else task.source
    task.tries = 0
    world.until(task, operation.deadline)
    knock(task, task.turn)


def _together(task: Task, operation: ops.All | ops.First) -> None:
    world = task.world
    first = isinstance(operation, ops.First)
    if not operation.programs:
        if first:
            raise ValueError("First needs a program")
        world.later(task, [])
        return
    task.children = Group(task, first)
    for program in operation.programs:
        child = Task(task.world, program, task.source, world.number(), None, task.children)
        child.asynchronous = task.asynchronous
        task.children.tasks.append(child)
        world.push(world.now, Task.begin, child, None)
    task.children.left = len(task.children.tasks)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


#: What begins an operation; what it raises is thrown into the program.
PERFORM: dict[type, Callable[[Task, Any], None]] = {
    ops.RoundTrip: _round_trip,
    ops.Send: _send,
    ops.Receive: _receive,
    ops.ReceiveInto: _receive,
    ops.Sleep: _sleep,
    ops.Wait: _wait,
    ops.Invoke: _invoke,
    ops.Connect: _connect,
    ops.Resolve: _resolve,
    ops.All: _together,
    ops.First: _together,
}
