"""One loop that watches event streams while their servers are killed, and polls a resource."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from holdfast.cli.demo.callers import settings
from holdfast.console.report import Watched
from holdfast.flow import Client, ClientDoer, ClusterClient, Doer, Doist

if TYPE_CHECKING:
    from holdfast.cli.demo.servers import ServerProcess

__all__ = ["EVENTS", "run"]

#: Of each stream.
EVENTS = 2_000
#: Seconds between two polls.
_POLL_EVERY = 0.02
#: Seconds that all may take.
_LIMIT = 60.0


def run(servers: list[ServerProcess]) -> Watched:
    """Watch a stream of each server, each of which is killed once and started again.

    Raises ServerFailed when one does not start again.
    """
    watches = [_Watch(server, servers) for server in servers]
    poll = _Poll(servers, watches)
    doist = Doist(real=True, tock=0.002, limit=_LIMIT, doers=[*watches, poll])
    began = monotonic()
    doist.do()
    return Watched(
        streams=len(watches),
        events=EVENTS * len(watches),
        received=sum(len(watch.seen) for watch in watches),
        once=all(watch.seen == list(range(EVENTS)) for watch in watches),
        kills=sum(watch.killed for watch in watches),
        reconnects=sum(watch.reconnects for watch in watches),
        polls=poll.answered,
        failed_polls=poll.failed,
        seconds=monotonic() - began,
    )


class _Watch(ClientDoer):
    """Take note of each event; kill the server on the way, and start it again."""

    def __init__(self, server: ServerProcess, servers: list[ServerProcess]) -> None:
        client = Client(
            path=f"http://{server.host}/events/{EVENTS}", reconnectable=True, tymeout=0.05
        )
        super().__init__(client)
        client.request(headers={"Accept": "text/event-stream"})
        self.server = server
        self.servers = servers
        self.kill_at = EVENTS // 10
        self.seen: list[int] = []
        self.reconnects = 0
        self._connected = True
        self.killed = False

    def recur(self, tyme: float) -> bool:
        """Step the client; true when all events are there."""
        client = self.client
        client.service()
        self.seen += [int(event["id"]) for event in client.events]
        client.events.clear()
        connected = client.connector.connected and not client.connector.cutoff
        self.reconnects += connected and not self._connected and bool(self.seen)
        self._connected = connected
        # One at a time: the resource that is polled is to stay within reach.
        others_up = all(server.serving() for server in self.servers)
        if len(self.seen) >= self.kill_at and not self.killed and others_up:
            self.killed = True
            self.server.kill()
            self.server.start()
        return len(self.seen) >= EVENTS


class _Poll(Doer):
    """Ask for a resource, of all servers as one, until the watches are done."""

    def __init__(self, servers: list[ServerProcess], watches: list[_Watch]) -> None:
        super().__init__()
        self.cluster = ClusterClient([server.host for server in servers], **settings(retry=True))
        self.watches = watches
        self.due = 0.0
        self.answered = self.failed = 0

    def recur(self, tyme: float) -> bool:
        """Step the cluster; true when nobody watches any more."""
        if tyme >= self.due:
            self.due = tyme + _POLL_EVERY
            self.cluster.request(path=f"/echo/{self.answered}")
        self.cluster.service()
        while (response := self.cluster.respond()) is not None:
            if response.status == 200:
                self.answered += 1
            else:
                self.failed += 1
        return all(watch.done for watch in self.watches) and not self.cluster.requests

    def exit(self) -> None:
        """Close the connections."""
        self.cluster.close()
