"""Watch event streams and poll a resource in one loop: no thread, no await, and no call blocks.

    python examples/watch.py URL [URL ...] --poll URL [--events N]

A stream that is cut is asked for again after its last event, so none is lost and none comes twice.
"""

import argparse
import json
from urllib.parse import urlsplit

from holdfast.flow import Client, ClientDoer, ClusterClient, Doer, Doist


class Watch(ClientDoer):
    """Print the events of one stream until there were enough."""

    def __init__(self, url: str, enough: int) -> None:
        super().__init__(Client(path=url, reconnectable=True, tymeout=0.2))
        self.client.request(headers={"Accept": "text/event-stream"})
        self.url, self.left = url, enough

    def recur(self, tyme: float) -> bool:
        self.client.service()
        for event in self.client.events:
            print(json.dumps({"tyme": tyme, "stream": self.url, **event}))
        self.left -= len(self.client.events)
        self.client.events.clear()
        return self.left <= 0


class Poll(Doer):
    """Ask for a resource every second, until the watches are done."""

    def __init__(self, url: str, watches: list[Watch]) -> None:
        super().__init__()
        parts = urlsplit(url)
        self.cluster, self.path = ClusterClient([parts.netloc]), parts.path
        self.watches, self.due = watches, 0.0

    def recur(self, tyme: float) -> bool:
        if tyme >= self.due:
            self.due = tyme + 1.0
            self.cluster.request(path=self.path)
        self.cluster.service()
        while (response := self.cluster.respond()) is not None:
            print(json.dumps({"tyme": tyme, "status": response.status, "error": response.error}))
        return all(watch.done for watch in self.watches)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("streams", nargs="+", metavar="URL")
    parser.add_argument("--poll", metavar="URL", required=True)
    parser.add_argument("--events", type=int, default=100, help="how many of each stream")
    options = parser.parse_args()
    watches = [Watch(url, options.events) for url in options.streams]
    Doist(real=True, tock=0.01, doers=[*watches, Poll(options.poll, watches)]).do()
