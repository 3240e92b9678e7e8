"""Requests and responses on one connection: queues, framing, keeping, what goes wrong."""

from __future__ import annotations

import socket
import threading
from collections import deque
from itertools import pairwise
from typing import Any

import pytest
from hio.core import wiring  # type: ignore[import-untyped]

from holdfast.flow import (
    Client,
    Connector,
    Requester,
    Respondent,
    Response,
    TLSConnector,
    Tymist,
    WireLog,
)
from tests.faults import Fault
from tests.flow.conftest import Loop
from tests.servers import (
    Close,
    EchoServer,
    HalfClose,
    Hold,
    Receive,
    ReceiveBody,
    ReceiveEnd,
    Repeat,
    Reset,
    Send,
    SendSlowly,
    Wait,
    chunked,
    json_response,
    pattern,
    response,
    response_head,
)
from tests.servers.fixtures import StartFaultProxy, StartScripted

ALWAYS = [Repeat([Receive(), response(200, b"ok")])]


class TestRequests:
    def test_first_of_all(self, loop: Loop, scripted: StartScripted) -> None:
        """A request is sent and its response comes as a named tuple with nine fields."""
        server = scripted([Receive(), json_response({"a": [1]})])
        client = loop.client(f"{server.url}/x?q=1")
        client.request()
        answer = loop.answer(client)
        assert (answer.version, answer.status, answer.reason) == ((1, 1), 200, "OK")
        assert answer.headers["Content-Type"] == "application/json"
        assert (bytes(answer.body), answer.data) == (b'{"a": [1]}', {"a": [1]})
        assert (answer.errored, answer.error) == (False, None)
        assert answer.request["path"] == "/x"
        assert answer.request["qargs"] == {"q": "1"}
        assert (answer.request["host"], answer.request["port"]) == ("127.0.0.1", server.port)
        assert (answer.request["method"], answer.request["scheme"]) == ("GET", "http")
        assert client.respond() is None
        assert not client.waited

    def test_is_a_dictionary_in_the_queue(self, loop: Loop, scripted: StartScripted) -> None:
        """A response in the queue is a dictionary with the nine keys, which can be attrified."""
        server = scripted(ALWAYS)
        client = loop.client(server.url)
        client.request()
        loop.until(lambda: client.responses)
        found = client.responses.popleft()
        assert set(found) == set(Response._fields)
        assert Client.attrify(found) == Response(**found)
        assert Client.attrify(dict(found, redirects=[])).status == 200

    def test_are_sent_in_order_on_one_connection(self, loop: Loop, scripted: StartScripted) -> None:
        """A queue is worked through in order, one request outstanding at a time."""
        server = scripted(
            [step for n in range(20) for step in (Receive(), response(200, b"%d" % n))]
        )
        client = loop.client(server.url)
        for n in range(20):
            client.request(path=f"/{n}", tag=n)
        loop.until(lambda: len(client.responses) == 20)
        found = list(client.responses)
        assert [bytes(each["body"]) for each in found] == [b"%d" % n for n in range(20)]
        assert [each["request"]["tag"] for each in found] == list(range(20))
        assert [each.path for each in server.requests] == [f"/{n}" for n in range(20)]
        assert server.connection_count == 1

    def test_one_is_outstanding_at_a_time(self, loop: Loop, scripted: StartScripted) -> None:
        """The next request leaves only when the last one is answered."""
        gate = threading.Event()
        server = scripted([Receive(), Wait(gate), response(200, b"1"), *ALWAYS])
        client = loop.client(server.url)
        client.request(path="/1")
        client.request(path="/2")
        server_has = server.requests
        loop.until(lambda: server_has)
        loop.turn(50)
        assert (len(server.requests), len(client.requests), client.waited) == (1, 1, True)
        gate.set()
        loop.until(lambda: len(client.responses) == 2)

    def test_repeat_what_is_not_given(self, loop: Loop, scripted: StartScripted) -> None:
        """Unset values are those of the last request, but never its body."""
        server = scripted(ALWAYS)
        client = loop.client(server.url, headers={"X-One": "1"})
        loop.ask(client, "POST", "/a", qargs={"b": "c"}, body=b"body")
        loop.ask(client)
        loop.ask(client, "PUT", data={"x": 1})
        loop.ask(client, "PUT")
        first, again, third, fourth = server.requests
        assert (first.method, first.target, first.body) == ("POST", "/a?b=c", b"body")
        assert (again.method, again.target, again.body) == ("POST", "/a?b=c", b"")
        assert (third.method, third.body) == ("PUT", b'{"x":1}')
        assert fourth.body == b""
        assert all(each.header("x-one") == "1" for each in server.requests)

    def test_reply_and_extra_keywords_ride_along(self, loop: Loop, scripted: StartScripted) -> None:
        """What is not part of a request comes back with its response, and is not sent."""
        server = scripted(ALWAYS)
        client = loop.client(server.url)
        reply = {"rid": 7, "deck": deque()}
        answer = loop.ask(client, path="/a", reply=reply, colour="blue")
        assert answer.request["reply"] is reply
        assert answer.request["colour"] == "blue"
        assert "reply" not in loop.ask(client, path="/b").request
        assert b"blue" not in server.requests[0].head

    def test_extra_keywords_do_not_hide_what_was_sent(
        self, loop: Loop, scripted: StartScripted
    ) -> None:
        """An extra keyword with the name of a field leaves the field as it is."""
        server = scripted(ALWAYS)
        answer = loop.ask(loop.client(server.url), host="another", port=1)
        assert (answer.request["host"], answer.request["port"]) == ("127.0.0.1", server.port)

    def test_shared_queues(self, loop: Loop, scripted: StartScripted) -> None:
        """Several clients can work off one queue of requests into one of responses."""
        server = scripted(ALWAYS)
        requests: deque[dict[str, Any]] = deque()
        responses: deque[dict[str, Any]] = deque()
        for _ in range(3):
            loop.client(server.url, requests=requests, responses=responses)
        for n in range(12):
            requests.append({"path": f"/{n}"})
        loop.until(lambda: len(responses) == 12)
        assert sorted(each["request"]["path"] for each in responses) == sorted(
            f"/{n}" for n in range(12)
        )
        assert server.connection_count == 3

    def test_first_values_are_sent_by_transmit(self, loop: Loop, scripted: StartScripted) -> None:
        """Without arguments, `transmit` sends what the client was made with."""
        server = scripted(ALWAYS)
        client = loop.client(
            f"{server.url}/a", method="POST", headers={"X": "1"}, qargs={"b": "c"}, data=[1]
        )
        client.transmit()
        assert client.waited
        assert loop.answer(client).status == 200
        request = server.requests[0]
        assert (request.method, request.target, request.body) == ("POST", "/a?b=c", b"[1]")

    def test_transmit_before_the_connection_is_opened(
        self, loop: Loop, scripted: StartScripted
    ) -> None:
        """What is transmitted before there is a connection is sent once there is one."""
        server = scripted(ALWAYS)
        client = Client(path=server.url)
        client.transmit("PUT", "/early", body=b"x", tag=3)
        loop.run(client)  # which opens it
        answer = loop.answer(client)
        assert (answer.status, answer.request["tag"]) == (200, 3)
        assert not client.responses

    def test_transmit_sends_at_once(self, loop: Loop, scripted: StartScripted) -> None:
        """`transmit` does not wait for the next turn."""
        server = scripted(ALWAYS)
        client = loop.client(server.url)
        loop.until(lambda: client.connector.connected)
        client.transmit(path="/now")
        server.wait_for_requests(1)
        assert loop.answer(client).status == 200

    def test_transmit_of_nonsense_is_a_value_error(
        self, loop: Loop, scripted: StartScripted
    ) -> None:
        """What makes no request is an error of the caller, and leaves the client as it was."""
        server = scripted(ALWAYS)
        client = loop.client(server.url)
        loop.ask(client, path="/good", headers={"A": "1"})
        for wrong in ({"path": "http://other.example/"}, {"headers": {"a b": "c"}}):
            with pytest.raises(ValueError, match=r"the path names|not a header name"):
                client.transmit(**wrong)
            assert not client.waited
        assert loop.ask(client).status == 200
        assert [each.target for each in server.requests] == ["/good", "/good"]
        assert server.requests[1].header("a") == "1"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"path": "http://other.example/"},
            {"path": "/a\r\nX: y"},
            {"headers": {"X": "a\r\nY: b"}},
            {"method": "G ET"},
            {"method": "POST", "data": {1, 2}},
            {"method": "POST", "body": 17},
            {"qargs": 17},
            {"path": b"/bytes"},
        ],
        ids=repr,
    )
    def test_of_nonsense_are_answered_with_an_error(
        self, loop: Loop, scripted: StartScripted, wrong: dict[str, Any]
    ) -> None:
        """A request that is none gives an error in its turn; those around it are not touched."""
        server = scripted(ALWAYS)
        client = loop.client(server.url)
        client.request(path="/1")
        client.request(**wrong, tag="wrong")
        client.request()
        loop.until(lambda: len(client.responses) == 3)
        before, bad, after = (client.respond() for _ in range(3))
        assert before is not None
        assert bad is not None
        assert after is not None
        assert (bad.errored, bad.status, bad.request["tag"]) == (True, None, "wrong")
        assert "it makes no request" in str(bad.error)
        assert (before.status, after.status) == (200, 200)
        assert [each.target for each in server.requests] == ["/1", "/1"]

    def test_of_any_rubbish_in_the_queue(self, loop: Loop, scripted: StartScripted) -> None:
        """What others put into a shared queue raises nothing out of `service`."""
        server = scripted(ALWAYS)
        client = loop.client(server.url)
        rubbish: list[Any] = [None, 17, "GET", {1: 2}, {"headers": 5}, {"path": 5}]
        client.requests.extend(rubbish)
        client.request(path="/fine")
        loop.until(lambda: len(client.responses) == 7)
        assert [each["errored"] for each in client.responses] == [True] * 6 + [False]


class TestConstruction:
    def test_url_wins(self) -> None:
        """Parts of a URL in the path win over the other arguments."""
        client = Client(path="http://Host.example:81/a?b=c#d", hostname="x", port=9, scheme="https")
        connector, requester = client.connector, client.requester
        assert (connector.host, connector.port) == ("host.example", 81)
        assert (requester.scheme, requester.port) == ("http", 81)
        requester.build()
        assert (requester.path, requester.qargs, requester.fragment) == ("/a", {"b": "c"}, "d")

    @pytest.mark.parametrize(
        ("kwa", "place"),
        [
            ({}, ("http", "127.0.0.1", 80)),
            ({"scheme": "https"}, ("https", "127.0.0.1", 443)),
            ({"scheme": "HTTPS", "hostname": "a.example"}, ("https", "a.example", 443)),
            ({"hostname": "a.example", "port": 81}, ("http", "a.example", 81)),
            ({"hostname": "a.example:82"}, ("http", "a.example", 82)),
            ({"hostname": "[::1]", "port": 83}, ("http", "::1", 83)),
            ({"hostname": "[::1]:84"}, ("http", "::1", 84)),
            ({"hostname": "::1"}, ("http", "::1", 80)),
            ({"path": "//b.example/x"}, ("http", "b.example", 80)),
            ({"path": "https://b.example/x", "port": 8443}, ("https", "b.example", 8443)),
            ({"path": "http://[::1]:85/"}, ("http", "::1", 85)),
        ],
        ids=repr,
    )
    def test_place(self, kwa: dict[str, Any], place: tuple[str, str, int]) -> None:
        """Scheme, host and port come from where they are given, in any accepted form."""
        client = Client(**kwa)
        requester, connector = client.requester, client.connector
        assert (requester.scheme, requester.hostname, requester.port) == place
        assert (connector.host, connector.port) == place[1:]
        assert isinstance(connector, TLSConnector) == (place[0] == "https")

    @pytest.mark.parametrize("scheme", ["ftp", "ws", "httpx"])
    def test_other_schemes_are_refused(self, scheme: str) -> None:
        """Only http and https are spoken."""
        with pytest.raises(ValueError, match="scheme"):
            Client(path=f"{scheme}://a.example/")

    def test_unknown_arguments_are_refused(self) -> None:
        """An argument that nobody knows is an error, not ignored."""
        with pytest.raises(TypeError):
            Client(reconectable=True)

    def test_tls_arguments_are_for_later(self) -> None:
        """A plain client accepts TLS's arguments: a redirect may need them."""
        assert type(Client(certify=0, hostify=False).connector) is Connector

    def test_credentials_of_the_url(self, loop: Loop, scripted: StartScripted) -> None:
        """User and password in the URL become an Authorization header."""
        server = scripted(ALWAYS)
        client = loop.client(f"http://me:p%40ss@127.0.0.1:{server.port}/")
        loop.ask(client)
        assert server.requests[0].header("authorization") == "Basic bWU6cEBzcw=="
        assert "me:" not in repr(client)

    def test_with_its_own_parts(self, loop: Loop, scripted: StartScripted) -> None:
        """A connector, a requester and a respondent can be given, with their own queues."""
        server = scripted([Receive(), json_response({"a": 1})])
        events: deque[dict[str, Any]] = deque()
        connector = Connector(host=server.host, port=server.port)
        requester = Requester(server.host, server.port, path="/mine", headers={"X": "1"})
        respondent = Respondent(events=events, dictable=True)
        client = Client(connector, requester, respondent)
        assert client.connector is connector
        assert client.requester is requester
        assert client.respondent is respondent
        assert client.events is events
        loop.run(client)
        assert loop.ask(client).data == {"a": 1}
        request = server.requests[0]
        assert (request.path, request.header("x")) == ("/mine", "1")

    def test_given_parts_take_the_queues_that_are_given(self) -> None:
        """Queues of the client's own arguments win over those of a respondent."""
        events: deque[dict[str, Any]] = deque()
        redirects: list[dict[str, Any]] = []
        respondent = Respondent(events=deque(), redirects=[])
        client = Client(respondent=respondent, events=events, redirects=redirects, dictable=True)
        assert respondent.events is client.events is events
        assert respondent.redirects is client.redirects is redirects
        assert respondent.msg is client.connector.rxbs
        assert respondent.dictable

    def test_requester_alone_says_where_to(self, loop: Loop, scripted: StartScripted) -> None:
        """With a requester and no connector, the connection goes where the requester says."""
        server = scripted(ALWAYS)
        client = Client(requester=Requester(server.host, server.port, path="/r"))
        loop.run(client)
        assert loop.ask(client).status == 200
        assert server.requests[0].header("host") == f"127.0.0.1:{server.port}"

    def test_connector_says_where_to(self, loop: Loop, scripted: StartScripted) -> None:
        """A requester that was made for another place is for the connector's from then on."""
        server = scripted(ALWAYS)
        connector = Connector(host="127.0.0.1", port=server.port)
        client = Client(connector, Requester("other.example", 99, "https"))
        loop.run(client)
        answer = loop.ask(client)
        assert (answer.status, answer.request["scheme"]) == (200, "http")
        assert server.requests[0].header("host") == f"127.0.0.1:{server.port}"

    def test_https_is_never_sent_in_the_clear(self) -> None:
        """A scheme that the given connector does not speak is refused."""
        with pytest.raises(ValueError, match="https"):
            Client(Connector(port=1), path="https://127.0.0.1:1/")
        with pytest.raises(ValueError, match="http"):
            Client(TLSConnector(port=1), scheme="http")

    def test_host_other_than_the_connectors_is_refused(self) -> None:
        """A URL that leads elsewhere than the given connector is refused."""
        with pytest.raises(ValueError, match=r"a\.example"):
            Client(Connector(host="127.0.0.1", port=1), path="http://a.example:1/")

    def test_buffer_to_use(self, loop: Loop, scripted: StartScripted) -> None:
        """A bytearray of the caller can be the receive buffer."""
        server = scripted(ALWAYS)
        msg = bytearray()
        client = loop.client(server.url, msg=msg)
        assert client.connector.rxbs is msg
        assert client.respondent.msg is msg
        assert loop.ask(client).status == 200


class TestFraming:
    @pytest.mark.parametrize(
        ("raw", "body"),
        [
            (response_head(200, [("Transfer-Encoding", "chunked")]) + chunked(b"abc", 1), b"abc"),
            (
                response_head(200, [("Transfer-Encoding", "chunked")])
                + b"3;x=y\r\nabc\r\n0\r\nTrail: er\r\n\r\n",
                b"abc",
            ),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + response(200, b"abc"), b"abc"),
            (
                b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
                b"HTTP/1.1 102 Processing\r\n\r\n" + response(200, b"abc"),
                b"abc",
            ),
            (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b""),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
            (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        ],
        ids=["chunked", "extensions", "continue", "hints", "204", "304", "1.0"],
    )
    def test_leaves_the_connection_usable(
        self, loop: Loop, scripted: StartScripted, raw: bytes, body: bytes
    ) -> None:
        """A response with a known end is followed by the next one on the same connection."""
        server = scripted([Receive(), raw, Receive(), response(200, b"next")])
        client = loop.client(server.url)
        assert bytes(loop.ask(client).body) == body
        assert bytes(loop.ask(client).body) == b"next"
        assert server.connection_count == 1

    def test_head(self, loop: Loop, scripted: StartScripted) -> None:
        """The answer to HEAD has no body whatever its length says."""
        long = response_head(200, [("Content-Length", "1000")])
        server = scripted([Receive(), long, Receive(), response(200, b"body")])
        client = loop.client(server.url)
        answer = loop.ask(client, "HEAD")
        assert (bytes(answer.body), answer.headers["content-length"]) == (b"", "1000")
        assert bytes(loop.ask(client, "GET").body) == b"body"
        assert server.connection_count == 1

    @pytest.mark.parametrize(
        "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["1.1", "1.0"]
    )
    def test_until_the_end(self, loop: Loop, scripted: StartScripted, head: bytes) -> None:
        """A body without length ends with the connection, and the next request has a new one."""
        server = scripted([Receive(), head, Send(b"until "), Send(b"here"), Close()], ALWAYS)
        client = loop.client(server.url)
        answer = loop.ask(client)
        assert (bytes(answer.body), answer.errored) == (b"until here", False)
        assert loop.ask(client).status == 200
        assert server.connection_count == 2

    def test_byte_by_byte(self, loop: Loop, scripted: StartScripted) -> None:
        """A response that trickles in is the same."""
        pace = threading.Semaphore(0)
        raw = response_head(200, [("Transfer-Encoding", "chunked")]) + chunked(b"hello", 2)
        server = scripted([Receive(), SendSlowly(raw, pace=pace), *ALWAYS])
        client = loop.client(server.url)
        client.request()

        def next_byte() -> bool:
            pace.release()
            return bool(client.responses)

        loop.until(next_byte)
        answer = client.respond()
        assert answer is not None
        assert (bytes(answer.body), answer.errored) == (b"hello", False)

    def test_connection_close(self, loop: Loop, scripted: StartScripted) -> None:
        """After `Connection: close`, of either side, the next request has a new connection."""
        closing = response(200, b"1", [("Connection", "close")])
        server = scripted([Receive(), closing, ReceiveEnd()], ALWAYS)
        client = loop.client(server.url)
        loop.ask(client)
        loop.ask(client)
        assert server.connection_count == 2

    def test_close_is_asked_for(self, loop: Loop, scripted: StartScripted) -> None:
        """The same when the client asks for it, and the server closes without a word."""
        server = scripted([Receive(), response(200, b"1"), Close()], ALWAYS)
        client = loop.client(server.url)
        client.request(headers={"Connection": "close"})
        client.request(headers={})
        loop.until(lambda: len(client.responses) == 2)
        assert not any(each["errored"] for each in client.responses)
        assert server.connection_count == 2

    def test_closed_while_idle(self, loop: Loop, scripted: StartScripted) -> None:
        """A kept connection that the server has closed meanwhile is replaced for a request."""
        server = scripted([Receive(), response(200, b"1"), Close()], ALWAYS)
        client = loop.client(server.url)
        loop.ask(client)
        server.wait_for(lambda: not server.open_connections)
        assert loop.ask(client).status == 200
        loop.until(lambda: not client.waited)
        assert server.connection_count == 2

    def test_closed_while_idle_and_noticed(self, loop: Loop, scripted: StartScripted) -> None:
        """The same when the client was stepped on meanwhile, and knows."""
        server = scripted([Receive(), response(200, b"1"), Close()], ALWAYS)
        client = loop.client(server.url)
        loop.ask(client)
        loop.until(lambda: client.connector.cutoff)
        loop.turn(20)
        assert server.connection_count == 1  # nobody has asked for another one
        assert loop.ask(client).status == 200

    def test_bytes_that_nobody_asked_for(self, loop: Loop, scripted: StartScripted) -> None:
        """What comes between two responses is never taken for the second one."""
        poison = response(200, b"poison")
        server = scripted([Receive(), response(200, b"1"), poison, *ALWAYS], ALWAYS)
        client = loop.client(server.url)
        assert bytes(loop.ask(client).body) == b"1"
        loop.pause()
        assert bytes(loop.ask(client).body) == b"ok"
        assert server.connection_count == 2

    def test_bytes_that_come_with_the_response(self, loop: Loop, scripted: StartScripted) -> None:
        """A second response in the same piece is not the answer to the next request."""
        server = scripted([Receive(), response(200, b"1") + response(200, b"2"), Hold()], ALWAYS)
        client = loop.client(server.url)
        client.request()
        client.request()
        loop.until(lambda: len(client.responses) == 2)
        assert [bytes(each["body"]) for each in client.responses] == [b"1", b"ok"]

    def test_bytes_before_any_request(self, loop: Loop, scripted: StartScripted) -> None:
        """A server that speaks first is not listened to."""
        server = scripted([response(200, b"poison"), Hold()], ALWAYS)
        client = loop.client(server.url)
        assert client.connector.opened
        loop.until(lambda: not client.connector.opened)
        assert bytes(loop.ask(client).body) == b"ok"


class TestFailures:
    PHASES = (
        (b"", "before a response came"),
        (b"HTTP/1.1 200", "in the middle of the head"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "in the middle of the head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "in the middle of the body (0 of 5"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "in the middle of the body (2 of 5"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            "in the middle of the body (2 bytes)",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
            "in the middle of the body (2 bytes)",
        ),
    )

    @pytest.mark.parametrize("end", [Close(), Reset()], ids=["closed", "reset"])
    @pytest.mark.parametrize(("raw", "where"), PHASES)
    def test_ends_early(
        self, loop: Loop, scripted: StartScripted, raw: bytes, where: str, end: Any
    ) -> None:
        """A connection that ends in any phase gives an error that says where, and goes on."""
        gate = threading.Event()
        server = scripted([Receive(), raw, Wait(gate), end], ALWAYS)
        client = loop.client(server.url)
        client.request(path="/1")
        # So that a reset finds nothing unread, which it would destroy.
        loop.until(lambda: server.request_count and client.waited)
        for _ in range(3):
            loop.turn()
            loop.pause()
        gate.set()
        answer = loop.answer(client)
        assert answer.errored
        assert where in str(answer.error)
        assert f"127.0.0.1:{server.port}" in str(answer.error)
        assert loop.ask(client, path="/2").status == 200

    def test_reset_ends_no_body(self, loop: Loop, scripted: StartScripted) -> None:
        """A body that ends with the connection is not whole when that was reset."""
        gate = threading.Event()
        server = scripted([Receive(), b"HTTP/1.0 200 OK\r\n\r\nhalf", Wait(gate), Reset()])
        client = loop.client(server.url)
        client.request()
        loop.until(lambda: client.respondent.body)
        gate.set()
        answer = loop.answer(client)
        assert (answer.errored, bytes(answer.body)) == (True, b"half")

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x00\x01\x02\x03\x04\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/9.9 200 OK\r\n\r\n",
            b"HTTP/1.1 two OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 " + b"x" * 200_000,
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(50_000)) + b"\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        ],
        ids=lambda raw: repr(raw[:50]),
    )
    def test_garbage(self, loop: Loop, scripted: StartScripted, raw: bytes) -> None:
        """What is no response gives an error, and the next request a new connection."""
        server = scripted([Receive(), raw, Hold()], ALWAYS)
        client = loop.client(server.url)
        answer = loop.ask(client)
        assert answer.errored
        assert answer.error
        assert loop.ask(client).status == 200
        assert server.connection_count == 2

    def test_refused(self, loop: Loop, refusing: tuple[str, int]) -> None:
        """A refused connection is an error of each request, and nothing hangs."""
        client = loop.client(hostname=refusing[0], port=refusing[1])
        for _ in range(3):
            answer = loop.ask(client)
            assert (answer.errored, answer.status, answer.version) == (True, None, None)
            assert "connection refused" in str(answer.error)
            assert f"{refusing[0]}:{refusing[1]}" in str(answer.error)
            assert (len(answer.headers), bytes(answer.body)) == (0, b"")

    def test_refused_and_then_there(self, loop: Loop, scripted: StartScripted) -> None:
        """Each request has its own attempt: once the server is back, it is answered."""
        server = scripted(ALWAYS)
        server.stop()
        client = loop.client(server.url)
        assert loop.ask(client).errored
        server.start()
        assert loop.ask(client).status == 200

    def test_unknown_name(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host name that nobody knows is an error that says so."""

        def unknown(*args: Any, **kwa: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        answer = loop.ask(loop.client("http://no-such-host.invalid/"))
        assert answer.errored
        assert "no-such-host.invalid" in str(answer.error)
        assert "name" in str(answer.error)

    def test_unknown_zone(self, loop: Loop) -> None:
        """An address in a zone that is not there is an error, and is not raised."""
        answer = loop.ask(loop.client(hostname="fe80::1%nosuchzone", port=9))
        assert answer.errored

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(drop=True),
            Fault(cut_after=0),
            Fault(reset_after=0),
            Fault(cut_after=20),
            Fault(reset_after=20),
            Fault(cut_after=0, direction="request"),
            Fault(reset_after=10, direction="request"),
        ],
        ids=repr,
    )
    def test_faults_of_the_network(
        self, loop: Loop, echo: EchoServer, fault_proxy: StartFaultProxy, fault: Fault
    ) -> None:
        """Whatever the network does is an error of the response, then all is well again."""
        proxy = fault_proxy(echo, [fault])
        client = loop.client(proxy.url)
        answer = loop.ask(client, "POST", "/", body=b"x" * 1000)
        assert answer.errored
        assert answer.error
        assert loop.ask(client, "GET", "/").status == 200

    def test_answer_before_the_request_was_sent_whole(
        self, loop: Loop, scripted: StartScripted
    ) -> None:
        """An early answer counts, the rest is not sent, and the connection is not used again."""
        gate = threading.Event()
        server = scripted(
            [Receive(body=False), response(413, b"too much"), Wait(gate), Close()], ALWAYS
        )
        client = loop.client(server.url)
        answer = loop.ask(client, "POST", body=bytes(1 << 26))
        gate.set()
        assert (answer.status, bytes(answer.body), answer.errored) == (413, b"too much", False)
        assert not client.connector.txbs
        assert loop.ask(client, "GET").status == 200
        assert server.connection_count == 2

    def test_answer_and_reset_before_the_request_was_sent_whole(
        self, loop: Loop, scripted: StartScripted
    ) -> None:
        """The same when sending has failed already; the next request is not harmed by it."""
        server = scripted([Receive(body=False), response(413, b"too much"), Close()], ALWAYS)
        client = loop.client(server.url)
        client.request("POST", body=bytes(1 << 26))
        client.request("GET", "/next")
        loop.until(lambda: len(client.responses) == 2)
        first, second = client.responses
        assert first["status"] in (413, None)  # a reset may destroy what was not received yet
        assert (second["status"], second["errored"]) == (200, False)

    def test_half_closed_by_the_server(self, loop: Loop, scripted: StartScripted) -> None:
        """A server that ends its side before it answers gives an error."""
        server = scripted([Receive(), HalfClose(), Hold()], ALWAYS)
        client = loop.client(server.url)
        assert loop.ask(client).errored
        assert loop.ask(client).status == 200

    def test_reopened_while_outstanding(self, loop: Loop, scripted: StartScripted) -> None:
        """Opening anew ends what is outstanding with an error, and the queue goes on."""
        server = scripted([Receive(), Hold()], ALWAYS)
        client = loop.client(server.url)
        client.request(path="/1", tag=1)
        client.request(path="/2", tag=2)
        loop.until(lambda: server.requests)
        assert client.reopen()
        loop.until(lambda: len(client.responses) == 2)
        first, second = client.responses
        assert (first["errored"], first["request"]["tag"]) == (True, 1)
        assert "anew" in first["error"]
        assert (second["status"], second["request"]["tag"]) == (200, 2)

    def test_closed_while_outstanding(self, loop: Loop, scripted: StartScripted) -> None:
        """Closing forgets what is outstanding; the client can be used again."""
        server = scripted([Receive(), Hold()], ALWAYS)
        client = loop.client(server.url)
        client.request(path="/1")
        loop.until(lambda: server.requests)
        client.close()
        client.close()
        assert (client.waited, client.connector.opened, client.connector.cs) == (
            False,
            False,
            None,
        )
        assert loop.ask(client, path="/2").status == 200


class TestReconnecting:
    def test_after_the_tymeout(self, loop: Loop, scripted: StartScripted) -> None:
        """A reconnectable connection that is cut is opened again after `tymeout`, idle or not."""
        server = scripted([Close()], [Hold()])
        client = loop.client(server.url, reconnectable=True, tymeout=5.0)
        loop.until(lambda: client.connector.cutoff)
        cut = loop.tyme
        loop.spend(4.75)
        assert (client.connector.cutoff, server.connection_count) == (True, 1)
        loop.until(lambda: client.connector.connected and not client.connector.cutoff)
        assert loop.tyme - cut >= 5.0
        server.wait_for(lambda: server.connection_count == 2)

    def test_not_without_a_tymeout(self, loop: Loop, scripted: StartScripted) -> None:
        """With a `tymeout` of zero, or not reconnectable, nothing is opened by itself."""
        server = scripted([Close()])
        clients = [
            loop.client(server.url, reconnectable=True),
            loop.client(server.url, tymeout=1.0),
        ]
        loop.until(lambda: all(client.connector.cutoff for client in clients))
        loop.spend(100.0)
        assert server.connection_count == 2

    def test_request_waits_for_the_connection(self, loop: Loop, scripted: StartScripted) -> None:
        """A request that was not sent yet is sent when there is a connection, just once."""
        server = scripted(ALWAYS)
        server.stop()
        client = loop.client(server.url, reconnectable=True, tymeout=1.0)
        client.request(path="/1")
        client.request(path="/2")
        loop.spend(20.0)
        assert not client.responses
        server.start()
        loop.until(lambda: len(client.responses) == 2)
        assert [each.path for each in server.requests] == ["/1", "/2"]
        assert not any(each["errored"] for each in client.responses)

    def test_request_that_was_sent_is_not_repeated(
        self, loop: Loop, scripted: StartScripted
    ) -> None:
        """It may have been carried out, so its end is told; the next one goes on."""
        server = scripted([Receive(), Close()], ALWAYS)
        client = loop.client(server.url, reconnectable=True, tymeout=1.0)
        assert loop.ask(client, "POST", "/1", body=b"x").errored
        assert loop.ask(client, "POST", "/2", body=b"x").status == 200
        assert [each.path for each in server.requests] == ["/1", "/2"]

    def test_at_once_after_an_end_that_was_told(self, loop: Loop, scripted: StartScripted) -> None:
        """A connection that ends as it was announced is no loss: a request has a new one."""
        ended = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
        server = scripted([Receive(), ended, Close()], ALWAYS)
        client = loop.client(server.url, reconnectable=True, tymeout=1e8)
        client.request()
        client.request()
        loop.until(lambda: len(client.responses) == 2, tyme=1e6)

    def test_hour_of_refusals(self, loop: Loop, refusing: tuple[str, int]) -> None:
        """An hour of attempts, every ten seconds of tyme, takes a moment."""
        client = loop.client(
            hostname=refusing[0], port=refusing[1], reconnectable=True, tymeout=10.0
        )
        attempts: list[float] = []
        connector = client.connector
        reopen = connector.reopen

        def noted() -> bool:
            attempts.append(loop.tyme)
            return reopen()

        connector.reopen = noted  # type: ignore[method-assign]
        loop.doist.tock = 0.25
        loop.spend(3600.0)
        assert 340 <= len(attempts) <= 360
        gaps = [after - before for before, after in pairwise(attempts)]
        assert min(gaps) >= 10.0
        assert max(gaps) <= 11.0

    def test_wound_anew(self, loop: Loop, scripted: StartScripted) -> None:
        """Another time can be wound in: what waits begins to wait by it."""
        server = scripted([Close()], [Hold()])
        client = loop.client(server.url, reconnectable=True, tymeout=5.0)
        loop.until(lambda: client.connector.cutoff)
        other = Tymist(tyme=1000.0, tock=1.0)
        client.wind(other.tymen())
        loop.spend(10.0)
        assert client.connector.cutoff
        other.tick(5.0)
        loop.until(lambda: client.connector.connected and not client.connector.cutoff)
        assert client.connector.tyme == 1005.0
        assert client.connector.tymer.tyme == 1005.0


class TestSizes:
    SIZE = 1 << 26

    def test_download(self, loop: Loop, scripted: StartScripted) -> None:
        """A body of 64 MiB comes whole, in steps of bounded size."""
        body = pattern(self.SIZE)
        server = scripted([Receive(), response(200, body), *ALWAYS])
        client = loop.client(server.url, bufsize=65536)
        client.request()
        largest = before = 0

        def done() -> bool:
            nonlocal largest, before
            size = len(client.respondent.body)
            largest, before = max(largest, size - before), size
            assert len(client.connector.rxbs) == 0
            return bool(client.responses)

        loop.until(done)
        found = client.responses.popleft()
        assert found["body"] == body
        assert largest <= 16 * 65536
        assert loop.ask(client).status == 200

    def test_upload(self, loop: Loop, scripted: StartScripted) -> None:
        """A body of 64 MiB goes whole, and no turn waits for the server."""
        gate = threading.Event()
        body = pattern(self.SIZE)
        server = scripted([Receive(body=False), Wait(gate), ReceiveBody(), response(201), *ALWAYS])
        client = loop.client(server.url)
        client.request("PUT", body=body)
        loop.until(lambda: server.requests)
        loop.turn(100)
        assert client.connector.txbs
        gate.set()
        assert loop.answer(client).status == 201
        assert server.requests[0].body == body
        assert loop.ask(client, "GET").status == 200


class TestGenerator:
    def test_with_an_answer(self, loop: Loop, scripted: StartScripted) -> None:
        """`serviceWhileGen` returns the response, as a named tuple."""
        server = scripted(ALWAYS)
        client = loop.by_hand(server.url)
        client.request(tag=1)
        answer = loop.finish(client.serviceWhileGen(tymeout=1e6))
        assert isinstance(answer, Response)
        assert (answer.status, answer.request["tag"]) == (200, 1)

    def test_one_after_the_other(self, loop: Loop, scripted: StartScripted) -> None:
        """Each run returns one response, in order."""
        server = scripted(ALWAYS)
        client = loop.by_hand(server.url)
        for n in range(5):
            client.request(path=f"/{n}")
        found = [loop.finish(client.serviceWhileGen(tymeout=1e6)) for _ in range(5)]
        assert [each.request["path"] for each in found] == [f"/{n}" for n in range(5)]

    def test_with_tymeout(self, loop: Loop, scripted: StartScripted) -> None:
        """Without an answer it returns None, after exactly the tymeout."""
        server = scripted([Receive(), Hold()])
        client = loop.by_hand(server.url)
        client.request()
        begun = loop.tyme
        assert loop.finish(client.serviceWhileGen(tymeout=2.0)) is None
        assert loop.tyme - begun == 2.0
        assert client.waited

    def test_after_a_long_rest(self, loop: Loop, scripted: StartScripted) -> None:
        """A connection that was closed while nobody stepped the client is not used."""
        server = scripted([Receive(), response(200, b"1"), Close()], ALWAYS)
        client = loop.by_hand(server.url)
        client.request(path="/1")
        client.request(path="/2")
        assert loop.finish(client.serviceWhileGen(tymeout=1e6)).status == 200
        server.wait_for(lambda: not server.open_connections)
        assert loop.finish(client.serviceWhileGen(tymeout=1e6)).status == 200


class TestPieceByPiece:
    def test_as_hios_programs_do(self, loop: Loop, scripted: StartScripted) -> None:
        """The parts of `service` can be called one by one."""
        server = scripted(ALWAYS)
        client = loop.by_hand(server.url)
        client.reopen()
        while not client.connector.connected:
            client.connector.serviceConnect()
            loop.pause()
        client.request(path="/parts")
        client.serviceRequests()
        assert (client.waited, len(client.requests)) == (True, 0)
        while client.connector.txbs:
            client.connector.serviceSends()
        while not client.responses:
            client.serviceResponse()
            loop.pause()
        assert client.responses.popleft()["status"] == 200
        assert server.requests[0].path == "/parts"


class TestWireLog:
    def test_ours(self, loop: Loop, scripted: StartScripted) -> None:
        """A wire log has every byte that was sent and received."""
        server = scripted(ALWAYS)
        log = WireLog()
        client = loop.client(server.url, wl=log)
        loop.ask(client, path="/1")
        loop.ask(client, path="/2")
        assert bytes(log.sent) == b"".join(each.head for each in server.requests)
        assert bytes(log.received) == response(200, b"ok") * 2

    def test_hios(self, loop: Loop, scripted: StartScripted) -> None:
        """Hio's wire log can be used, and knows the other side."""
        server = scripted(ALWAYS)
        with wiring.openWL(samed=True) as log:
            client = loop.client(server.url, wl=log)
            loop.ask(client)
            text = log.readRx()
        assert server.requests[0].head in text
        assert response(200, b"ok") in text
        assert str(server.port).encode() in text

    def test_of_a_given_connector(self, loop: Loop, scripted: StartScripted) -> None:
        """A wire log can be given together with a connector."""
        server = scripted(ALWAYS)
        log = WireLog()
        client = Client(Connector(port=server.port), wl=log)
        loop.run(client)
        loop.ask(client)
        assert log.sent.startswith(b"GET / HTTP/1.1\r\n")
