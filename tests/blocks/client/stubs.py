"""Keep services in a simulated world: they store what they are sent, unless told otherwise."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from holdfast.simulation import Asked, Reply
from holdfast.testing import Answer, ScriptedHost, ScriptedWorld, scripted
from tests.blocks.client.clients import TOKEN, Api, item, md5

SIGNATURE = f"+A{'5' * 40}@7fffffff"


class Service:
    """One service: ``plan`` is what it does instead of the usual, one for each request."""

    def __init__(self, number: int, kind: str = "disk", **more: Any) -> None:
        self.host = f"10.0.0.{number}"
        self.item = item(number, self.host, kind=kind, **more)
        self.kind = kind
        self.root = f"http://{self.host}/"
        self.blocks: dict[str, bytes] = {}
        self.plan: deque[Answer | Callable[[Asked], Answer]] = deque()
        self.always: Answer | Callable[[Asked], Answer] | None = None
        self.asked: list[Asked] = []
        self.copies_stored = 0
        self.log: list[tuple[str, str]] = []

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        self.log.append((self.host, asked.method))
        assert asked.headers["authorization"] == f"Bearer {TOKEN}"
        assert asked.headers["x-request-id"]
        planned = self.plan.popleft() if self.plan else self.always
        if planned is not None:
            return (
                planned(asked) if callable(planned) and not isinstance(planned, type) else planned
            )
        return self.usual(asked)

    def usual(self, asked: Asked) -> Reply:
        """Do what a service does."""
        name = asked.target[1:33]
        if asked.method == "PUT":
            if md5(asked.body) != name:
                return Reply(400, b"the hash is another\n")
            self.blocks[name] = asked.body
            copies = 1
            if self.kind == "proxy":
                copies = int(asked.headers["x-keep-desired-replicas"])
            self.copies_stored += copies
            text = f"{name}+{len(asked.body)}{SIGNATURE}\n".encode()
            return Reply(200, text, {"X-Keep-Replicas-Stored": str(copies)})
        block = self.blocks.get(name)
        if block is None:
            return Reply(404, b"no such block\n")
        return Reply(200, block if asked.method == "GET" else b"")


class Stubs:
    """Services in a world of their own, and clients of both kinds for them."""

    def __init__(self, count: int = 3, kind: str = "disk", seed: int = 0) -> None:
        self.log: list[tuple[str, str]] = []
        self.services = [Service(number, kind) for number in range(1, count + 1)]
        self.world: ScriptedWorld = scripted({}, seed=seed)
        for service in self.services:
            self.listen(service)
        self.api = Api([service.item for service in self.services])

    def add(self, service: Service) -> Service:
        """Have one more service, listed as well."""
        self.services.append(service)
        self.listen(service)
        self.api.items.append(service.item)
        return service

    def listen(self, service: Service) -> None:
        """Let a service be there, though not listed."""
        service.log = self.log
        self.world.hosts[service.host] = ScriptedHost(
            self.world, f"{service.host}:80", service.answer
        )

    def order(self, name: str) -> list[Service]:
        """Return the services in the order for a hash, by the formula."""
        return sorted(
            self.services,
            key=lambda one: md5((name + one.item["uuid"][-15:]).encode()),
            reverse=True,
        )

    @property
    def asked(self) -> list[str]:
        """Who was asked, in order."""
        return [host for host, _ in self.log]

    def put(self, data: bytes, *services: Service) -> str:
        """Let services, or all, have a block; returns its locator."""
        for service in services or self.services:
            service.blocks[md5(data)] = data
        return f"{md5(data)}+{len(data)}"
