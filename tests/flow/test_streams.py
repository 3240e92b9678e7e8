"""Streams of events: cut, resumed, timed; nothing lost, nothing twice."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import pytest

from holdfast.flow import Client
from tests.faults import Fault
from tests.flow.conftest import Loop
from tests.servers import (
    Certificates,
    Close,
    Hold,
    Listener,
    Receive,
    Reset,
    Script,
    Wait,
    chunked,
    json_response,
    response,
    response_head,
)
from tests.servers.connection import Connection
from tests.servers.fixtures import StartFaultProxy, StartScripted

ACCEPT = {"Accept": "text/event-stream"}

CHUNKED = response_head(
    200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
)
UNTIL_END = response_head(200, [("Content-Type", "text/event-stream")])
OLD = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(number: int) -> bytes:
    """Return an event, whose data is its id."""
    return b"id: %d\ndata: %d\n\n" % (number, number)


def numbers(client: Client) -> list[int]:
    """Return the numbers of the events that came."""
    return [int(each["data"]) for each in client.events]


def watch(loop: Loop, url: str, **kwa: Any) -> Client:
    """Return a client that has asked for a stream and keeps at it."""
    client = loop.client(url, **{"reconnectable": True, "tymeout": 1.0, **kwa})
    client.request(headers=ACCEPT)
    return client


class TestStream:
    @pytest.mark.parametrize(
        ("head", "coded"),
        [(CHUNKED, True), (UNTIL_END, False), (OLD, False)],
        ids=["chunked", "until the end", "HTTP/1.0"],
    )
    def test_arrives_as_it_comes(
        self, loop: Loop, scripted: StartScripted, head: bytes, coded: bool
    ) -> None:
        """Each event is there as soon as it is complete, and there is no response meanwhile."""
        gates = [threading.Event() for _ in range(3)]
        script: list[Any] = [Receive(), head]
        for number, gate in enumerate(gates):
            script += [chunk(event(number)) if coded else event(number), Wait(gate)]
        client = watch(loop, scripted([*script, Hold()]).url)
        for number, gate in enumerate(gates):
            loop.until(lambda number=number: len(client.events) == number + 1)  # type: ignore[misc]
            gate.set()
        assert next(iter(client.events)) == {"id": "0", "name": "", "data": "0"}
        assert (client.waited, len(client.responses)) == (True, 0)
        assert client.respondent.evented
        assert client.respondent.leid == "2"

    def test_shared_queue(self, loop: Loop, scripted: StartScripted) -> None:
        """Several streams can share a queue of events."""
        events: deque[dict[str, Any]] = deque()
        server = scripted([Receive(), CHUNKED, chunk(event(7)), Hold()])
        for _ in range(3):
            watch(loop, server.url, events=events)
        loop.until(lambda: len(events) == 3)

    def test_data_as_json(self, loop: Loop, scripted: StartScripted) -> None:
        """With `dictable`, data that is JSON is there as such."""
        server = scripted([Receive(), UNTIL_END, b'data: {"a": 1}\n\ndata: [\n\n', Hold()])
        client = watch(loop, server.url, dictable=True)
        loop.until(lambda: len(client.events) == 2)
        assert [each["data"] for each in client.events] == [{"a": 1}, "["]

    @pytest.mark.parametrize("script", [[UNTIL_END, event(1)], [CHUNKED, chunked(event(1))]])
    def test_that_is_not_to_be_resumed(
        self, loop: Loop, scripted: StartScripted, script: list[bytes]
    ) -> None:
        """Without reconnecting, its end in good order is a response."""
        server = scripted([Receive(), *script, Close()])
        client = watch(loop, server.url, reconnectable=False)
        answer = loop.answer(client)
        assert (answer.status, answer.errored, numbers(client)) == (200, False, [1])

    def test_that_is_cut_and_not_to_be_resumed(self, loop: Loop, scripted: StartScripted) -> None:
        """Without reconnecting, a cut is an error, after the events that were complete."""
        server = scripted([Receive(), CHUNKED, chunk(event(1)), chunk(b"data: half"), Close()])
        client = watch(loop, server.url, reconnectable=False)
        answer = loop.answer(client)
        assert (answer.errored, numbers(client)) == (True, [1])

    def test_answer_that_is_no_stream(self, loop: Loop, scripted: StartScripted) -> None:
        """A stream that the server ends by another answer is over, and the queue goes on."""
        server = scripted(
            [Receive(), CHUNKED, chunk(event(1)), Close()],
            [Receive(), response_head(204), Receive(), json_response(1)],
        )
        client = watch(loop, server.url)
        client.request(headers={}, path="/next")
        loop.until(lambda: len(client.responses) == 2)
        assert [each["status"] for each in client.responses] == [204, 200]
        assert numbers(client) == [1]

    def test_garbage_ends_it(self, loop: Loop, scripted: StartScripted) -> None:
        """What is no chunk ends the stream with an error, and is not asked for again."""
        server = scripted([Receive(), CHUNKED, chunk(event(1)), b"zz\r\n", Hold()])
        client = watch(loop, server.url)
        answer = loop.answer(client)
        assert (answer.errored, numbers(client)) == (True, [1])
        loop.spend(10.0)
        assert server.connection_count == 1


class TestResumption:
    CUTS: tuple[list[bytes], ...] = (
        [],
        [b"HTTP/1.1 2"],
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/ev"],
        [CHUNKED],
        [CHUNKED, b"1"],
        [CHUNKED, chunk(b"id: 2\nda")],
        [CHUNKED, chunk(b"id: 2\ndata: 2\n")],
        [CHUNKED, b"f\r\nid: 2\n"],
        [UNTIL_END],
        [UNTIL_END, b"id: 2\ndata: 2"],
        [OLD, b"id: 2\ndata: 2\n"],
        [CHUNKED, chunked(b"")],
        [CHUNKED, chunked(b"id: 2\ndata: 2\n")],
    )

    @pytest.mark.parametrize("end", [Close(), Reset()], ids=["closed", "reset"])
    @pytest.mark.parametrize("cut", CUTS, ids=repr)
    def test_after_a_cut(
        self, loop: Loop, scripted: StartScripted, cut: list[bytes], end: Any
    ) -> None:
        """Wherever the second connection is cut, the third begins after the last whole event."""
        server = scripted(
            [Receive(), CHUNKED, chunk(event(1)), Close()],
            [Receive(), *cut, end],
            [Receive(), CHUNKED, chunk(event(2) + event(3)), Hold()],
        )
        client = watch(loop, server.url)
        loop.until(lambda: len(client.events) >= 3)
        assert numbers(client) == [1, 2, 3]
        assert not client.responses
        assert [each.header("last-event-id") for each in server.requests] == ["", "1", "1"]
        assert all(each.header("accept") == ACCEPT["Accept"] for each in server.requests)

    @pytest.mark.parametrize("cut", [[], [b"HTTP/1.1 200 O"]], ids=["before", "in the head"])
    def test_after_a_cut_at_first(
        self, loop: Loop, scripted: StartScripted, cut: list[bytes]
    ) -> None:
        """Who says that it is a stream that is wanted gets it, even if the first try fails."""
        server = scripted([Receive(), *cut, Close()], [Receive(), CHUNKED, chunk(event(1)), Hold()])
        client = watch(loop, server.url)
        loop.until(lambda: client.events)
        assert not client.responses
        assert server.requests[1].header("last-event-id") == ""

    def test_on_the_same_connection(self, loop: Loop, scripted: StartScripted) -> None:
        """A stream that ends in good order is resumed on its connection, after the retry."""
        server = scripted(
            [
                Receive(),
                CHUNKED,
                chunked(b"retry: 2000\n" + event(1)),
                Receive(),
                CHUNKED,
                chunk(event(2)),
                Hold(),
            ]
        )
        client = watch(loop, server.url)
        loop.until(lambda: client.events)
        begun = loop.tyme
        loop.until(lambda: len(client.events) == 2)
        assert loop.tyme - begun >= 2.0
        assert server.requests[1].header("last-event-id") == "1"
        assert server.connection_count == 1

    def test_while_the_server_refuses(self, loop: Loop, scripted: StartScripted) -> None:
        """A server that is gone for a while is asked again and again."""
        server = scripted(
            [Receive(), CHUNKED, chunk(b"retry: 500\n" + event(1)), Hold()],
            [Receive(), CHUNKED, chunk(event(2)), Hold()],
        )
        client = watch(loop, server.url)
        loop.until(lambda: client.events)
        server.stop()
        loop.spend(60.0)
        assert not client.responses
        server.start()
        loop.until(lambda: len(client.events) == 2)
        assert server.requests[1].header("last-event-id") == "1"

    @pytest.mark.parametrize(("retry", "pause"), [(b"", 0.1), (b"retry: 30000\n", 30.0)])
    def test_honours_retry(
        self, loop: Loop, scripted: StartScripted, retry: bytes, pause: float
    ) -> None:
        """A stream is asked for again after its retry, in tyme, whatever `tymeout` is."""
        server = scripted(
            [Receive(), UNTIL_END, retry + event(1), Close()],
            [Receive(), UNTIL_END, event(2), Hold()],
        )
        client = watch(loop, server.url, tymeout=7.0)
        loop.until(lambda: client.connector.cutoff)
        cut = loop.tyme
        loop.turn(int(pause / loop.doist.tock))
        assert client.connector.cutoff or not client.connector.connected
        loop.until(lambda: not client.connector.cutoff)
        assert pause <= loop.tyme - cut <= pause + 3 * loop.doist.tock
        loop.until(lambda: len(client.events) == 2)

    def test_tymeout_holds_again_after_the_stream(
        self, loop: Loop, scripted: StartScripted
    ) -> None:
        """When the stream is over, its retry is of no meaning any more."""
        server = scripted(
            [Receive(), UNTIL_END, b"retry: 50\n" + event(1), Close()],
            [Receive(), response(200), Close()],
            [Hold()],
        )
        client = watch(loop, server.url, tymeout=20.0)
        loop.answer(client)
        loop.until(lambda: client.connector.cutoff)
        cut = loop.tyme
        loop.until(lambda: not client.connector.cutoff)
        assert loop.tyme - cut >= 20.0

    def test_absurd_retry(self, loop: Loop, scripted: StartScripted) -> None:
        """A retry with a thousand digits raises nothing out of `service`."""
        server = scripted(
            [Receive(), UNTIL_END, b"retry: " + b"9" * 1000 + b"\n" + event(1), Close()],
            [Receive(), UNTIL_END, event(2), Hold()],
        )
        client = watch(loop, server.url)
        loop.until(lambda: client.connector.cutoff)
        loop.turn(10)

    @pytest.mark.parametrize(
        ("id", "sent"),
        [
            ("caf\u00e9", "caf\u00e9"),
            ("\u65e5\u672c", "\u65e5\u672c"),
            ("a b;c,d", "a b;c,d"),
            ("\u00e9", "\u00e9"),
            ("", ""),
        ],
    )
    def test_of_any_id(self, loop: Loop, scripted: StartScripted, id: str, sent: str) -> None:
        """Any id is given back in UTF-8; an empty one is none."""
        named = f"id: {id}\ndata: 1\n\n".encode()
        server = scripted(
            [Receive(), UNTIL_END, event(5), named, Close()],
            [Receive(), Close()],
            [Receive(), UNTIL_END, event(2), Hold()],
        )
        client = watch(loop, server.url)
        loop.until(lambda: len(client.events) == 3)
        for request in server.requests[1:]:
            assert request.header("last-event-id").encode("latin-1").decode() == sent
        assert [each["id"] for each in client.events] == ["5", id, "2"]

    def test_id_that_fits_in_no_header(self, loop: Loop, scripted: StartScripted) -> None:
        """A stream whose place cannot be named ends with an error, not with an exception."""
        server = scripted([Receive(), UNTIL_END, b"id: a\x01b\ndata: 1\n\n", Close()], [Hold()])
        client = watch(loop, server.url)
        answer = loop.answer(client)
        assert answer.errored
        assert "cannot be resumed" in str(answer.error)
        assert len(client.events) == 1

    def test_from_where_the_caller_wants(self, loop: Loop, scripted: StartScripted) -> None:
        """A caller can begin after an event, and that holds until there is another one."""
        server = scripted([Receive(), Close()], [Receive(), UNTIL_END, event(8), Hold()])
        client = loop.client(server.url, reconnectable=True, tymeout=1.0)
        client.request(headers={**ACCEPT, "Last-Event-ID": "7"})
        loop.until(lambda: client.events)
        assert [each.header("last-event-id") for each in server.requests] == ["7", "7"]

    def test_id_is_not_for_the_next_request(self, loop: Loop, scripted: StartScripted) -> None:
        """What comes after a stream that was resumed says nothing of its events."""
        server = scripted(
            [Receive(), UNTIL_END, event(1), Close()],
            [Receive(), response_head(204), Receive(), UNTIL_END, event(1), Hold()],
        )
        client = watch(loop, server.url)
        loop.answer(client)
        client.request(path="/another")
        loop.until(lambda: len(client.events) == 2)
        assert [each.header("last-event-id") for each in server.requests] == ["", "1", ""]
        assert server.requests[2].header("accept") == ACCEPT["Accept"]

    def test_of_a_post(self, loop: Loop, scripted: StartScripted) -> None:
        """A stream that was asked for with data is asked for with the same again."""
        server = scripted(
            [Receive(), UNTIL_END, event(1), Close()], [Receive(), UNTIL_END, event(2), Hold()]
        )
        client = loop.client(server.url, reconnectable=True, tymeout=1.0)
        client.request("POST", "/ask", data={"model": "x"}, headers=ACCEPT)
        loop.until(lambda: len(client.events) == 2)
        assert [each.body for each in server.requests] == [b'{"model":"x"}'] * 2
        assert [each.method for each in server.requests] == ["POST", "POST"]

    def test_where_a_redirect_has_led(self, loop: Loop, scripted: StartScripted) -> None:
        """A stream behind a redirect is resumed where it was found."""
        there = scripted(
            [Receive(), CHUNKED, chunk(event(1)), Close()],
            [Receive(), CHUNKED, chunk(event(2)), Hold()],
        )
        here = scripted([Receive(), response(307, b"", [("Location", f"{there.url}/s")]), Hold()])
        client = watch(loop, here.url)
        loop.until(lambda: len(client.events) == 2)
        assert there.requests[1].header("last-event-id") == "1"
        assert len(here.requests) == 1

    def test_that_a_redirect_answers(self, loop: Loop, scripted: StartScripted) -> None:
        """A stream that has moved meanwhile is resumed at its new place, after the same event."""
        there = scripted(
            [Receive(), Close()], [Receive(), UNTIL_END, event(2), Close()], [Receive(), Hold()]
        )
        named = "id: caf\u00e9\ndata: 1\n\n".encode()
        here = scripted(
            [Receive(), UNTIL_END, named, Close()],
            [Receive(), response(307, b"", [("Location", there.url)]), Hold()],
        )
        client = watch(loop, here.url)
        loop.until(lambda: len(there.requests) == 3)
        ids = [each.header("last-event-id") for each in there.requests]
        assert ids == ["caf\u00c3\u00a9", "caf\u00c3\u00a9", "2"]
        assert len(client.events) == 2

    def test_that_was_never_reached(self, loop: Loop, refusing: tuple[str, int]) -> None:
        """Before there was a stream, `tymeout` says how often its server is asked."""
        client = loop.client(
            hostname=refusing[0], port=refusing[1], reconnectable=True, tymeout=10.0
        )
        client.request(headers=ACCEPT)
        loop.until(lambda: client.connector.cutoff)
        refused = loop.tyme
        loop.until(lambda: not client.connector.cutoff or loop.tyme - refused > 9.5)
        assert loop.tyme - refused > 9.5

    def test_by_tls(self, loop: Loop, scripted: StartScripted, certificates: Certificates) -> None:
        """A stream by TLS is resumed as well, with or without TLS's own end."""
        server = scripted(
            [Receive(), UNTIL_END, event(1), Close()],
            [Receive(), UNTIL_END, event(2), Reset()],
            [Receive(), UNTIL_END, event(3), Hold()],
            tls=certificates.server_context(),
        )
        client = watch(loop, server.url, cafilepath=str(certificates.ca_file))
        loop.until(lambda: len(client.events) == 3 or client.responses)
        assert numbers(client) in ([1, 2, 3], [1, 3])  # a reset may destroy what is on its way

    def test_others_wait_behind_it(self, loop: Loop, scripted: StartScripted) -> None:
        """What is requested behind a stream waits for its end."""
        scripts: list[Script] = [[Receive(), UNTIL_END, event(n), Close()] for n in range(5)]
        server = scripted(*scripts, [Hold()])
        client = watch(loop, server.url)
        client.request(path="/behind")
        loop.until(lambda: len(client.events) == 5)
        assert len(client.requests) == 1
        assert all(each.path == "/" for each in server.requests)


class Journal(Listener):
    """A server of one stream, which begins after the event that the client names.

    Each connection sends ``share`` events, in pieces, and then what was planned happens to it.
    """

    def __init__(self, total: int, share: int) -> None:
        super().__init__()
        self.total, self.share = total, share
        self.asked: list[str] = []

    def serve(self, connection: Connection) -> None:
        request = connection.reader.request()
        self.note(request)
        named = request.header("last-event-id")
        self.asked.append(named)
        first = int(named) + 1 if named else 0
        connection.send(CHUNKED)
        data = b"".join(event(n) for n in range(first, min(first + self.share, self.total)))
        for start in range(0, len(data), 7):
            connection.send(chunk(data[start : start + 7]))
        if first + self.share >= self.total:
            connection.wait(None, 30.0)


class TestNothingIsLost:
    def test_by_cuts_anywhere(self, loop: Loop, fault_proxy: StartFaultProxy) -> None:
        """Cut after every number of bytes, a stream comes whole, in order, and once."""
        with Journal(total=60, share=1000) as server:
            plan = [
                Fault(**{("cut_after", "reset_after")[size % 2]: size})  # type: ignore[arg-type]
                for size in range(40, 240, 9)
            ]
            proxy = fault_proxy(server, plan)
            client = watch(loop, proxy.url)
            loop.until(lambda: len(client.events) >= 60 or client.responses)
            assert numbers(client) == list(range(60))
            assert not client.responses

    def test_by_an_hour_of_restarts(self, loop: Loop) -> None:
        """A server that ends after every few events, each minute, for an hour of tyme."""
        with Journal(total=300, share=5) as server:
            loop.doist.tock = 1.0
            client = watch(loop, server.url, tymeout=60.0)
            client.respondent.retry = 60_000
            loop.until(lambda: len(client.events) >= 300 or client.responses)
            assert numbers(client) == list(range(300))
            assert server.asked == ["", *(str(n) for n in range(4, 295, 5))]
            assert loop.tyme >= 59 * 60.0
