"""Hosts that the domain name system lists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Protocol

from holdfast import ops
from holdfast.cluster.hosts import Host
from holdfast.errors import ResolveError
from holdfast.policy.checks import choice, positive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.cluster.discovery.protocol import Answer
    from holdfast.ops import Program

__all__ = ["DNS", "Resolver"]

#: The bounds of how long an answer is believed, in seconds, whatever its TTL.
SHORTEST, LONGEST = 1.0, 300.0

_NAME = re.compile(r"[a-z0-9._-]+")


class Resolver(Protocol):
    """What is asked: a ``dns.resolver.Resolver``, or what takes its place in tests."""

    def resolve(self, qname: str, rdtype: str, *, lifetime: float) -> Any:
        """Return a ``dns.resolver.Answer``."""


class DNS:
    """The addresses of a name, asked for again when their time to live is over (1 to 300 s).

    ``kind``: ``"A"`` or ``"AAAA"`` are addresses, with ``port`` (by default the scheme's);
    ``"SRV"`` has names with ports, weights and priorities (RFC 2782); None means SRV for a name
    that begins with an underscore, otherwise A, and AAAA where there is no A. ``scheme`` is
    ``"http"`` or ``"https"``; certificates of hosts found by A and AAAA have to be for addresses.
    ``resolver`` is a ``dns.resolver.Resolver``, by default one for the system's name servers;
    ``timeout`` is how long it may take, in seconds. Needs dnspython: the extra ``holdfast[dns]``.
    """

    def __init__(
        self,
        name: str,
        port: int | None = None,
        kind: Literal["A", "AAAA", "SRV"] | None = None,
        *,
        scheme: Literal["http", "https"] = "http",
        resolver: Resolver | None = None,
        timeout: float = 5.0,
    ) -> None:
        try:
            import dns.resolver  # noqa: F401  so that it fails here, not in a thread
        except ImportError:
            raise ImportError(
                "discovery by DNS needs dnspython: install holdfast[dns]", name="dns"
            ) from None
        self.name = name
        self.port = port
        self.kind = kind
        self.scheme = scheme
        self.timeout = timeout
        choice(self, ("A", "AAAA", "SRV", None), "kind")
        choice(self, ("http", "https"), "scheme")
        positive(self, "timeout")
        if not name or not isinstance(name, str):
            raise ValueError(f"DNS: name must be a host name, not {name!r}")
        if port is not None and (type(port) is not int or not 0 < port < 1 << 16):
            raise ValueError(f"DNS: port must be from 1 to 65535, or None, not {port!r}")
        self._service = kind == "SRV" or (kind is None and name.startswith("_"))
        if self._service and port is not None:
            raise ValueError(f"DNS: port must be None where SRV has the ports, not {port!r}")
        self._resolver = resolver

    def __repr__(self) -> str:
        more = "".join(
            f", {name}={value!r}"
            for name, value in (("port", self.port), ("kind", self.kind))
            if value is not None
        )
        return f"DNS({self.name!r}{more})"

    def refresh(self) -> Program[Answer]:
        """Return the hosts that are listed; raises ResolveError when nobody can tell."""
        answer: Answer = yield ops.Invoke(self._ask)
        return answer

    def _ask(self) -> Answer:
        from dns.exception import DNSException
        from dns.resolver import NoAnswer

        kinds = (self.kind,) if self.kind else ("SRV",) if self._service else ("A", "AAAA")
        for kind in kinds:
            try:
                found = self._resolve(kind)
            except NoAnswer:
                continue
            except (DNSException, OSError, EOFError) as error:
                text = " ".join(str(error).split()) or type(error).__name__
                raise ResolveError(f"{self.name}: {text}") from error
            ttl = min(max(float(found.chaining_result.minimum_ttl), SHORTEST), LONGEST)
            records = list(found)
            return (self._services(records) if self._service else self._hosts(records)), ttl
        raise ResolveError(f"{self.name}: the name has no {' and no '.join(kinds)} record")

    def _resolve(self, kind: str) -> Any:
        if self._resolver is None:
            from dns.resolver import Resolver as SystemResolver

            self._resolver = SystemResolver()
        return self._resolver.resolve(self.name, kind, lifetime=self.timeout)

    def _hosts(self, records: Iterable[Any]) -> list[Host]:
        # Sorted, as servers rotate their answers: the same hosts are then no change.
        places = sorted({self._place(record.address, self.port) for record in records})
        return [Host(place) for place in places]

    def _services(self, records: Iterable[Any]) -> list[Host]:
        weights: dict[tuple[int, str], int] = {}
        for record in records:
            target = record.target.to_text(omit_final_dot=True).lower()
            if target in ("", "."):  # there is no such service
                continue
            if not _NAME.fullmatch(target):  # it might mean a path, a socket or credentials
                raise ResolveError(f"{self.name}: the record {target!r} names no host")
            key = record.priority, self._place(target, record.port)
            weights[key] = weights.get(key, 0) + record.weight
        groups = sorted({priority for priority, _ in weights})
        hosts: dict[str, Host] = {}
        for (priority, place), weight in sorted(weights.items()):
            # RFC 2782 has a weight of 0 chosen as if it were one of 1.
            host = Host(place, float(max(weight, 1)), groups.index(priority))
            hosts.setdefault(place, host)
        return list(hosts.values())

    def _place(self, host: str, port: int | None) -> str:
        host = f"[{host}]" if ":" in host else host
        scheme = "" if self.scheme == "http" else f"{self.scheme}://"
        return f"{scheme}{host}" if port is None else f"{scheme}{host}:{port}"
