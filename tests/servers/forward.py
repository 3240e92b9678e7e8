"""A forward proxy: requests in absolute form, and tunnels by CONNECT."""

from __future__ import annotations

import base64
import http.client
import select
import socket
from urllib.parse import urlsplit

from tests.servers.connection import Connection
from tests.servers.listening import IDLE_LIMIT, Listener
from tests.servers.messages import (
    RECEIVE_SIZE,
    BadRequest,
    PeerClosed,
    Request,
    response,
    response_head,
)

# RFC 9110 section 7.6.1, and the unofficial Proxy-Connection.
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class ProxyServer(Listener):
    """Forward requests and record them as they came, credentials and all, in `requests`.

    With `credentials`, "user:password", others are answered with 407. `tunnel_status` is
    the answer to CONNECT, to play a proxy that refuses.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        credentials: str | None = None,
        tunnel_status: int = 200,
    ) -> None:
        """Reserve an address."""
        super().__init__(host)
        self.requests: list[Request] = []
        self._tunnel_status = tunnel_status
        self._authorization = (
            None
            if credentials is None
            else "Basic " + base64.b64encode(credentials.encode()).decode()
        )

    @property
    def tunnels(self) -> list[str]:
        """Return the targets of the CONNECT requests."""
        return [request.target for request in self.requests if request.method == "CONNECT"]

    def note(self, request: Request) -> None:
        """Record a request."""
        with self.changed:
            self.requests.append(request)
            super().note(request)

    def serve(self, connection: Connection) -> None:
        """Serve requests until the end or a tunnel."""
        while True:
            request = connection.reader.head()
            if request.expects_continue:
                connection.send(response_head(100))
            connection.reader.body(request)
            self.note(request)
            if self._unauthorized(request):
                challenge = ("Proxy-Authenticate", 'Basic realm="tests"')
                connection.send(response(407, b"", [challenge]))
            elif request.method == "CONNECT":
                self._tunnel(request, connection)
                return
            else:
                self._forward(request, connection)
            if not request.keeps_alive:
                return

    def _unauthorized(self, request: Request) -> bool:
        expected = self._authorization
        return expected is not None and request.header("proxy-authorization") != expected

    def _forward(self, request: Request, connection: Connection) -> None:
        url = urlsplit(request.target)
        if url.scheme != "http" or url.hostname is None:
            raise BadRequest(f"not the absolute form: {request.target!r}")
        origin = http.client.HTTPConnection(url.hostname, url.port, timeout=IDLE_LIMIT)
        try:
            origin.connect()
            self._adopt(origin.sock, connection)
            connection.send(self._exchange(request, origin))
        except (OSError, http.client.HTTPException) as error:
            connection.send(response(502, str(error).encode()))
        finally:
            origin.close()

    def _exchange(self, request: Request, origin: http.client.HTTPConnection) -> bytes:
        url = urlsplit(request.target)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        origin.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
        skipped = {*HOP_BY_HOP, "content-length", "expect"}
        for name, value in request.headers:
            if name.lower() not in skipped:
                origin.putheader(name, value)
        if request.body or request.header("content-length"):
            origin.putheader("Content-Length", str(len(request.body)))
        origin.endheaders(request.body)
        answer = origin.getresponse()
        body = answer.read()
        headers = [item for item in answer.getheaders() if item[0].lower() not in HOP_BY_HOP]
        if request.method == "HEAD" or answer.status in {204, 304}:
            return response_head(answer.status, headers)
        headers = [item for item in headers if item[0].lower() != "content-length"]
        return response(answer.status, body, headers)

    def _tunnel(self, request: Request, connection: Connection) -> None:
        if self._tunnel_status != 200:
            connection.send(response(self._tunnel_status))
            return
        host, _, port = request.target.rpartition(":")
        if not host or not port.isdigit():
            raise BadRequest(f"not the authority form: {request.target!r}")
        try:
            upstream = socket.create_connection((host.strip("[]"), int(port)), IDLE_LIMIT)
        except OSError as error:
            connection.send(response(502, str(error).encode()))
            return
        self._adopt(upstream, connection)
        connection.send(response_head(200))
        early = connection.reader.take()
        self._relay(connection.sock, upstream, early)

    def _relay(self, client: socket.socket, upstream: socket.socket, early: bytes) -> None:
        peers = {client: upstream, upstream: client}
        try:
            upstream.sendall(early)
            while peers:
                readable, _, _ = select.select(list(peers), [], [], IDLE_LIMIT)
                if not readable:
                    return
                for source in readable:
                    data = source.recv(RECEIVE_SIZE)
                    if data:
                        peers[source].sendall(data)
                    else:
                        peers.pop(source).shutdown(socket.SHUT_WR)
        except OSError as error:
            raise PeerClosed from error

    def _adopt(self, upstream: socket.socket, connection: Connection) -> None:
        """Let the server's end be the end of an upstream connection as well."""
        with self.changed:
            connection.upstreams = [upstream]
            if self.stopping:
                connection.shut_down()
