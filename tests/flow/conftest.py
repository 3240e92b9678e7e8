"""Loops that step clients: our doist's and hio's, in simulated time, beside real servers."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest
from hio.base import doing as hio  # type: ignore[import-untyped]

from holdfast.flow import Client, ClientDoer, Doist, Response

#: Seconds of real time after which a condition has failed.
PATIENCE = 20.0

#: Seconds of real time that a turn waits, at most, for a socket to have something.
PAUSE = 0.005


class Loop:
    """A doist with clients in it, stepped until something holds.

    Each turn advances the tyme by ``tock``, whatever time it takes: what depends on tyme alone
    is exact, and an hour is over at once. Between the turns it waits for the clients' sockets, a
    moment at most.
    """

    def __init__(self, doist: Any) -> None:
        self.doist = doist
        self.clients: list[Client] = []

    @property
    def tyme(self) -> float:
        tyme: float = self.doist.tyme
        return tyme

    def tymth(self) -> float:
        return self.tyme

    def run(self, *clients: Client) -> None:
        """Have the loop step clients from now on."""
        for client in clients:
            self.clients.append(client)
            self.doist.deeds.extend(self.doist.enter(doers=[ClientDoer(client)]))

    def by_hand(self, url: str, **kwa: Any) -> Client:
        """Return a client that goes by the loop's tyme and is stepped by the test."""
        client = Client(path=url, tymth=self.tymth, **kwa)
        self.clients.append(client)
        return client

    def client(self, url: str = "", **kwa: Any) -> Client:
        """Return a client for a URL that the loop steps."""
        if url:
            kwa["path"] = url
        client = Client(**kwa)
        self.run(client)
        return client

    def turn(self, count: int = 1) -> None:
        """Give a number of turns, without a pause."""
        for _ in range(count):
            self.doist.recur()

    def until(self, condition: Callable[[], object], tyme: float = 1e9) -> None:
        """Give turns until a condition holds; fail when ``tyme`` seconds were not enough."""
        limit, end = monotonic() + PATIENCE, self.tyme + tyme
        while not condition():
            assert self.tyme < end, f"not within {tyme} s of tyme: {self.clients}"
            assert monotonic() < limit, f"not within {PATIENCE} s: {self.clients}"
            self.turn()
            self.pause()

    def spend(self, seconds: float) -> None:
        """Give turns for so many seconds of tyme."""
        end = self.tyme + seconds
        while self.tyme < end:
            self.turn()

    def pause(self) -> None:
        """Wait for a socket of the clients, for a moment."""
        with selectors.DefaultSelector() as selector:
            for client in self.clients:
                connector = client.connector
                if connector.cs is None or connector.cutoff:
                    continue
                events = selectors.EVENT_READ
                if connector.txbs or not connector.accepted:
                    events |= selectors.EVENT_WRITE
                with suppress(OSError, ValueError, KeyError):
                    selector.register(connector.cs, events)
            # Where all wait for their tyme, no time has to pass.
            waiting = bool(self.clients) and all(each.connector.cutoff for each in self.clients)
            if selector.get_map() or not waiting:
                selector.select(PAUSE)

    def answer(self, client: Client) -> Response:
        """Step until there is a response, and return it."""
        self.until(lambda: client.responses)
        response = client.respond()
        assert response is not None
        return response

    def ask(self, client: Client, *args: Any, **kwa: Any) -> Response:
        """Request, and return the response."""
        client.request(*args, **kwa)
        return self.answer(client)

    def finish(self, generator: Any) -> Any:
        """Drive a generator, a step a turn, and return its result."""
        limit = monotonic() + PATIENCE
        while monotonic() < limit:
            try:
                assert next(generator) == b""
            except StopIteration as end:
                return end.value
            self.turn()
            self.pause()
        raise AssertionError(f"a generator that does not end: {self.clients}")

    def leave(self) -> None:
        """Leave all clients, as the end of the program does."""
        self.doist.exit()
        for client in self.clients:
            client.close()


@pytest.fixture(params=[Doist, hio.Doist], ids=["ours", "hio"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    """Give a loop of our doist's, then one of hio's."""
    loop = Loop(request.param(tock=0.03125))
    try:
        yield loop
    finally:
        loop.leave()
