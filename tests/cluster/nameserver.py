"""A small name server on loopback, over UDP and TCP."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset

__all__ = ["NameServer", "name_server"]


class NameServer:
    """What it knows: ``zone[name, kind]`` is a time to live and a list of records.

    ``fails``: answer SERVFAIL. ``silent``: do not answer. ``truncates``: have all ask over TCP.
    ``asked`` are the questions, as (transport, name, kind).
    """

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.fails = self.silent = self.truncates = False
        self.asked: list[tuple[str, str, str]] = []
        self.port = 0

    def resolver(self) -> dns.resolver.Resolver:
        """Return a resolver that asks this server alone."""
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = self.port
        return resolver

    def answer(self, data: bytes, transport: str) -> bytes | None:
        """Return the answer to a question."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((transport, name, kind))
        if self.silent:
            return None
        response = dns.message.make_response(query)
        if self.fails:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif self.truncates and transport == "udp":
            response.flags |= dns.flags.TC
        elif (name, kind) in self.zone:
            ttl, records = self.zone[name, kind]
            if records:
                response.answer.append(
                    dns.rrset.from_text(question.name, ttl, "IN", kind, *records)
                )
        elif not any(known == name for known, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()


class _UDP(socketserver.BaseRequestHandler):
    server: Any

    def handle(self) -> None:
        data, sock = self.request
        answer = self.server.names.answer(data, "udp")
        if answer is not None:
            sock.sendto(answer, self.client_address)


class _TCP(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        (size,) = struct.unpack("!H", self.rfile.read(2))
        answer = self.server.names.answer(self.rfile.read(size), "tcp")
        if answer is not None:
            self.wfile.write(struct.pack("!H", len(answer)) + answer)


@contextmanager
def name_server() -> Iterator[NameServer]:
    """Run a name server, on one port for both transports."""
    names = NameServer()
    udp, tcp = _bound()
    names.port = udp.server_address[1]
    threads = []
    for server in (udp, tcp):
        server.names = names
        threads.append(threading.Thread(target=server.serve_forever, args=(0.01,)))
        threads[-1].start()
    try:
        yield names
    finally:
        for server in (udp, tcp):
            server.shutdown()
        for thread in threads:
            thread.join()
        for server in (udp, tcp):
            server.server_close()


def _bound() -> tuple[Any, Any]:
    """Return a server for each transport; the port of one may be taken in the other."""
    while True:
        udp = socketserver.UDPServer(("127.0.0.1", 0), _UDP)
        try:
            return udp, socketserver.TCPServer(udp.server_address, _TCP)
        except OSError:
            udp.server_close()
