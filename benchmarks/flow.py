"""The benchmark of the stepped client: `python -m benchmarks flow`.

Beside it hio's own client, with the same calls: their names are the same. Neither waits for
anything, so the loops spin, and a row's CPU time is its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from benchmarks import machine, server, serving
from benchmarks.results import Goal, Group, Results
from benchmarks.rounds import Contestant, Effort, Run, measure, progress_ends

__all__ = ["flow"]

FULL = Effort(rounds=9, seconds=0.5)
QUICK = Effort(rounds=3, seconds=0.1)

PACKAGES = ("holdfast", "httptools", "hio")
OURS = "holdfast"
HIO = "hio"

#: How many clients one loop steps.
FEW, MANY = 100, 1000


def flow(quick: bool) -> Results:
    """Measure requests, clients and events, in about two minutes, or in a tenth when `quick`."""
    effort = QUICK if quick else FULL
    machine.allow_sockets()
    core = machine.take_cores()
    about = machine.machine(core)
    with serving.serve(1, core) as target:
        groups = [
            Group(
                "requests",
                "A small JSON GET, one connection",
                measure("requests", contestants(one_after_another, target), effort),
                unit="requests/s",
                cpu_unit="CPU µs a request",
                has_ceiling=False,
            ),
            *(
                Group(
                    f"clients-{count}",
                    f"The same GET by {count:,} clients in one loop",
                    measure(
                        f"{count} clients",
                        contestants(partial(side_by_side, count), target),
                        effort,
                        count,
                    ),
                    unit="requests/s",
                    cpu_unit="CPU µs a request",
                    has_ceiling=False,
                )
                for count in (FEW, MANY)
            ),
            Group(
                "events",
                f"A stream of {server.EVENTS:,} events",
                measure("events", contestants(events, target), Effort(effort.rounds, 0.001)),
                unit="events/s",
                units=server.EVENTS,
                cpu_unit="CPU µs an event",
                cpu_us=server.EVENTS,
                has_ceiling=False,
            ),
        ]
    progress_ends()
    about["load_after"] = machine.load()
    return Results(
        groups,
        [],
        goals({group.key: group for group in groups}),
        about,
        machine.versions(PACKAGES),
        {"rounds": effort.rounds, "seconds": effort.seconds},
        benchmark="flow",
    )


def goals(groups: dict[str, Group]) -> list[Goal]:
    """Compare with what the project has promised."""

    def ratio(key: str) -> float | None:
        return groups[key].row(OURS).ratio(groups[key].row(HIO))

    few, many = (groups[f"clients-{count}"].row(OURS).cpu_us for count in (FEW, MANY))
    growth = many / few if few and many else None
    return [
        Goal("requests: holdfast / hio", ratio("requests"), 3),
        Goal("events: holdfast / hio", ratio("events"), 5),
        Goal(f"CPU a request, {MANY:,} clients / {FEW} clients", growth, 1.5, at_most=True),
    ]


def our_client(**arguments: Any) -> Any:
    """Return a client of holdfast's."""
    from holdfast.flow import Client

    return Client(**arguments)


def hio_client(**arguments: Any) -> Any:
    """Return a client of hio's."""
    from hio.base import tyming  # type: ignore[import-untyped]
    from hio.core.http import clienting  # type: ignore[import-untyped]

    return clienting.Client(tymth=tyming.Tymist().tymen(), **arguments)


def contestants(work: Callable[..., Any], target: serving.Target) -> list[Contestant]:
    """Have both do the work."""
    return [
        Contestant(OURS, partial(work, our_client, target), ours=True),
        Contestant(HIO, partial(work, hio_client, target)),
    ]


@contextmanager
def opened(make: Callable[..., Any], target: serving.Target) -> Iterator[Any]:
    """Open a connection."""
    host, port = target.address
    client = make(hostname=host, port=port)
    try:
        client.reopen()
        while not client.connector.connected:
            client.connector.serviceConnect()
        yield client
    finally:
        client.close()


def take(responses: deque[dict[str, Any]]) -> int:
    """Count the responses, all of which have to be right, and forget them."""
    count = len(responses)
    for response in responses:
        if response["status"] != 200 or len(response["body"]) != serving.SMALL_BODY:
            raise RuntimeError(f"not the answer that was asked for: {response}")
    responses.clear()
    return count


@contextmanager
def one_after_another(make: Callable[..., Any], target: serving.Target) -> Iterator[Run]:
    """Step one client until its queue of requests is answered."""
    with opened(make, target) as client:

        def run(calls: int) -> None:
            for _ in range(calls):
                client.request(method="GET", path="/small")
            while calls:
                client.service()
                calls -= take(client.responses)

        yield run


@contextmanager
def side_by_side(count: int, make: Callable[..., Any], target: serving.Target) -> Iterator[Run]:
    """Step many clients, each with its own queue of requests."""
    with ExitStack() as stack:
        clients = [stack.enter_context(opened(make, target)) for _ in range(count)]

        def run(calls: int) -> None:
            for client in clients:
                for _ in range(calls // count):
                    client.request(method="GET", path="/small")
            while calls:
                for client in clients:
                    client.service()
                    if client.responses:
                        calls -= take(client.responses)

        yield run


@contextmanager
def events(make: Callable[..., Any], target: serving.Target) -> Iterator[Run]:
    """Step one client until all events of a stream are there: a call is a stream."""

    def run(calls: int) -> None:
        for _ in range(calls):
            with opened(make, target) as client:
                client.request(method="GET", path="/events")
                while len(client.events) < server.EVENTS:
                    client.service()
                if client.events[-1]["id"] != str(server.EVENTS - 1):
                    raise RuntimeError(f"not the last event: {client.events[-1]}")

    yield run
