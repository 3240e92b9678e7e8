"""An HTTP/1.1 server that answers with what it was asked.

Every path that is no route below is answered with 200 and a JSON object: `method`,
`path`, `query` (lists by name), `headers` (names in lower case), `body` (decoded JSON, or
text, or null above a MiB), `length` and `sha256` of the body, `connection` (its number),
and under TLS `tls` with the `server_name` asked for and the `client` certificate's names.

| route | answer |
|---|---|
| `/status/N` | the same object with status N |
| `/bytes/N` | `pattern(N)` |
| `/chunked/N` | the same in the chunked coding; `?chunk=SIZE` |
| `/gzip` `/deflate` `/br` `/zstd` | the object, compressed; `/deflate?raw=1` without zlib's frame |
| `/redirect/CODE?to=URL` | a redirection |
| `/close` | the object, and the connection is closed |
| `/drop` | nothing: the connection is closed |
| `/reject` | 417 before the body is read, and the connection is closed |
| `/slow` | the object, once the test sets `server.gate`; `?seconds=S` without a test |
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib
import json
import os
import ssl
import threading
import zlib
from dataclasses import dataclass, field
from typing import Any

from tests.servers.connection import Connection
from tests.servers.listening import Listener
from tests.servers.messages import (
    BadRequest,
    PeerClosed,
    Request,
    chunked,
    json_response,
    pattern,
    response_head,
)

TEXT_LIMIT = 1 << 20
SLOW_LIMIT = 30.0
BODILESS = {204, 304}


@dataclass
class Answer:
    """A response before it is put into bytes."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunk: int | None = None
    close: bool = False


class EchoServer(Listener):
    """Serve the routes above; start and stop as often as wanted, on the same address.

    `gate` lets the requests to `/slow` go on, `waiting` is how many of them wait.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        port: int = 0,
        path: str | os.PathLike[str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Reserve the address."""
        super().__init__(host, port=port, path=path, tls=tls)
        self.gate = threading.Event()
        self.waiting = 0

    def serve(self, connection: Connection) -> None:
        """Answer requests until the client or an answer ends the connection."""
        try:
            while self._answer_next(connection):
                pass
        except TimeoutError:
            pass  # An idle connection ends like this in any server.
        except BadRequest as error:
            connection.send(json_response({"error": str(error)}, 400, [("Connection", "close")]))
            raise

    def _answer_next(self, connection: Connection) -> bool:
        request = connection.reader.head()
        if request.path == "/reject":
            self.note(request)
            connection.send(json_response({}, 417, [("Connection", "close")]))
            return False
        if request.expects_continue:
            connection.send(response_head(100))
        connection.reader.body(request)
        self.note(request)
        answer = self._route(request, connection)
        answer.close = answer.close or not request.keeps_alive
        for piece in _pieces(request, answer):
            connection.send(piece)
        return not answer.close

    def _route(self, request: Request, connection: Connection) -> Answer:
        _, route, *rest = request.path.split("/")
        argument = rest[0] if rest else ""
        if argument.isdigit() and route in {"status", "bytes", "chunked", "redirect"}:
            return self._numbered(route, int(argument), request, connection)
        described = self._describe(request, connection)
        match route:
            case "gzip" | "deflate" | "br" | "zstd":
                return _compressed(route, described, raw="raw" in request.query)
            case "close":
                return Answer(body=described, close=True)
            case "drop":
                raise PeerClosed
            case "slow":
                self._hold(request, connection)
        return Answer(body=described)

    def _numbered(
        self, route: str, number: int, request: Request, connection: Connection
    ) -> Answer:
        match route:
            case "status":
                return Answer(number, self._describe(request, connection))
            case "redirect":
                location = request.query.get("to", ["/"])[0]
                return Answer(number, b"{}", headers=[("Location", location)])
        chunk = int(request.query.get("chunk", ["8192"])[0]) if route == "chunked" else None
        return Answer(body=pattern(number), content_type="application/octet-stream", chunk=chunk)

    def _hold(self, request: Request, connection: Connection) -> None:
        with self.changed:
            self.waiting += 1
            self.changed.notify_all()
        try:
            seconds = float(request.query.get("seconds", [str(SLOW_LIMIT)])[0])
            connection.wait(self.gate, min(seconds, SLOW_LIMIT))
        finally:
            with self.changed:
                self.waiting -= 1
                self.changed.notify_all()

    def _describe(self, request: Request, connection: Connection) -> bytes:
        names = {name.lower() for name, _ in request.headers}
        described: dict[str, Any] = {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": {name: request.header(name) for name in sorted(names)},
            "body": _decoded(request),
            "length": len(request.body),
            "sha256": hashlib.sha256(request.body).hexdigest(),
            "connection": connection.number,
        }
        if isinstance(connection.sock, ssl.SSLSocket):
            described["tls"] = {
                "server_name": connection.server_name,
                "client": _certificate_names(connection.sock),
            }
        return json.dumps(described).encode()


def _pieces(request: Request, answer: Answer) -> list[bytes]:
    headers = [("Content-Type", answer.content_type), *answer.headers]
    if answer.close:
        headers.append(("Connection", "close"))
    elif request.version == "HTTP/1.0":
        headers.append(("Connection", "keep-alive"))
    # What HTTP/1.0 does not know is left out; its length is told instead.
    chunk = answer.chunk if request.version == "HTTP/1.1" else None
    bodiless = answer.status in BODILESS
    if chunk is not None:
        headers.append(("Transfer-Encoding", "chunked"))
    elif not bodiless:
        headers.append(("Content-Length", str(len(answer.body))))
    head = response_head(answer.status, headers)
    if request.method == "HEAD" or bodiless:
        return [head]
    if chunk is not None:
        return [head, chunked(answer.body, chunk)]
    # Small answers leave in one packet; big ones are not copied for it.
    return [head + answer.body] if len(answer.body) < 1 << 16 else [head, answer.body]


def _decoded(request: Request) -> Any:
    if len(request.body) > TEXT_LIMIT:
        return None
    if "json" in request.header("content-type"):
        with contextlib.suppress(ValueError):
            return json.loads(request.body)
    return request.body.decode("utf-8", "replace")


def _compressed(coding: str, data: bytes, *, raw: bool) -> Answer:
    match coding:
        case "gzip":
            body = gzip.compress(data)
        case "deflate":
            body = zlib.compress(data, wbits=-15 if raw else 15)
        case _:
            module = {"br": "brotli", "zstd": "zstandard"}[coding]
            try:
                body = importlib.import_module(module).compress(data)
            except ImportError:
                return Answer(501, json.dumps({"error": f"no {module} here"}).encode())
    return Answer(body=body, headers=[("Content-Encoding", coding)])


def _certificate_names(sock: ssl.SSLSocket) -> list[str]:
    certificate: Any = sock.getpeercert() or {}
    return [value for _, value in certificate.get("subjectAltName", ())]
