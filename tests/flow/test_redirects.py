"""Where redirects lead, with what, and back."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.flow import Client, Connector, TLSConnector, WireLog
from tests.flow.conftest import Loop
from tests.servers import (
    Certificates,
    Close,
    Hold,
    Receive,
    Repeat,
    ScriptedServer,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted

ALWAYS = [Repeat([Receive(), response(200, b"ok")])]

SECRETS = {
    "Authorization": "Bearer secret",
    "Cookie": "session=secret",
    "Proxy-Authorization": "secret",
    "Baggage": "user=secret",
    "X-Plain": "plain",
}


def to(location: str, status: int = 302, *more: tuple[str, str]) -> bytes:
    """Return a response that leads to a location."""
    return response(status, b"moved", [("Location", location), *more])


class TestFollowing:
    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    def test_to_a_path(self, loop: Loop, scripted: StartScripted, status: int) -> None:
        """All kinds are followed on the same connection, and come along with the response."""
        server = scripted([Receive(), to("/there?x=1#part", status), *ALWAYS])
        client = loop.client(f"{server.url}/here")
        client.request(tag=1)
        loop.until(lambda: client.responses)
        found = client.responses.popleft()
        assert (found["status"], found["errored"], found["request"]["tag"]) == (200, False, 1)
        assert [each["status"] for each in found["redirects"]] == [status]
        assert found["redirects"][0]["headers"]["location"] == "/there?x=1#part"
        assert found["redirects"][0]["request"]["path"] == "/here"
        assert found["request"]["path"] == "/there"
        assert [each.target for each in server.requests] == ["/here", "/there?x=1"]
        assert client.respondent.redirected
        assert server.connection_count == 1

    @pytest.mark.parametrize(
        ("location", "target"),
        [
            ("next", "/a/next"),
            ("../up", "/up"),
            ("?q=2", "/a/b?q=2"),
            ("/sp%20ace", "/sp%20ace"),
            ("/sp ace", "/sp%20ace"),
            ("/caf\u00e9", "/caf%E9"),
            ("/a%2Fb", "/a%2Fb"),
            (".", "/a/"),
        ],
    )
    def test_relative(
        self, loop: Loop, scripted: StartScripted, location: str, target: str
    ) -> None:
        """A relative location is meant from the request's own path; it is quoted if need be."""
        server = scripted([Receive(), to(location), *ALWAYS])
        loop.ask(loop.client(f"{server.url}/a/b?q=1"))
        assert server.requests[1].target == target

    @pytest.mark.parametrize(
        ("location", "target"),
        [
            ("/x?flag", "/x?flag"),
            ("/x?flag=&other", "/x?flag=&other"),
            ("/x?q=a%20b+c", "/x?q=a%20b+c"),
            ("/x?a=1&b=2&a=3", "/x?a=1&b=2&a=3"),
            ("/x?a=%2f%2F&b=~,:@/?", "/x?a=%2f%2F&b=~,:@/?"),
            ("/x?a=100%&b", "/x?a=100%&b"),
            ("/x?a=%FF&&b;c=1", "/x?a=%FF&&b;c=1"),
            ("/x?q=a b\u00e9", "/x?q=a%20b%E9"),
            ("/x:y@z,(1)~%7e?s#part", "/x:y@z,(1)~%7e?s"),
            ("?X-Signature=a%2Bb/c%3D%3D&v", "/a/b?X-Signature=a%2Bb/c%3D%3D&v"),
        ],
    )
    def test_target_is_sent_as_the_location_has_it(
        self, loop: Loop, scripted: StartScripted, location: str, target: str
    ) -> None:
        """Path and query are not written anew: a signature holds for their very characters."""
        server = scripted([Receive(), to(location), *ALWAYS])
        assert loop.ask(loop.client(f"{server.url}/a/b?q=1")).status == 200
        assert server.requests[1].target == target

    def test_query_is_also_told_apart(self, loop: Loop, scripted: StartScripted) -> None:
        """The response tells path and query of the request that it answers, taken apart."""
        server = scripted([Receive(), to("/x?flag&a=1%202&b=2&b=3"), *ALWAYS])
        request = loop.ask(loop.client(server.url)).request
        assert request["path"] == "/x"
        assert request["qargs"] == {"flag": "true", "a": "1 2", "b": ["2", "3"]}

    def test_path_with_two_slashes(self, loop: Loop, scripted: StartScripted) -> None:
        """A path that begins with two slashes is one, and no other host."""
        there = scripted(ALWAYS)
        server = scripted([Receive(), to(f"{there.url}//other.example/x")])
        assert loop.ask(loop.client(server.url)).status == 200
        assert there.requests[0].target == "//other.example/x"

    def test_stream_goes_on_where_a_redirect_led(self, loop: Loop, scripted: StartScripted) -> None:
        """A stream that is resumed is asked for with the very target of the redirect."""
        head = response_head(
            200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
        )
        event = b"11\r\nid: 7\ndata: one\n\n\r\n"
        server = scripted(
            [Receive(), to("/x?flag&s=a%20b&n=1&m&n=2"), Receive(), head, event, Close()],
            [Receive(), head, event, Hold()],
        )
        client = loop.client(server.url, reconnectable=True, tymeout=0.5)
        client.request()
        loop.until(lambda: len(client.events) == 2)
        assert [each.target for each in server.requests[1:]] == ["/x?flag&s=a%20b&n=1&m&n=2"] * 2
        assert server.requests[2].header("last-event-id") == "7"

    def test_next_request_has_its_own_target(self, loop: Loop, scripted: StartScripted) -> None:
        """A request after one that was redirected is built from path and query again."""
        server = scripted([Receive(), to("/x?flag"), Repeat([Receive(), response(200, b"ok")])])
        client = loop.client(f"{server.url}/a")
        loop.ask(client)
        loop.ask(client, path="/x", qargs={"flag": "b c"})
        loop.ask(client)
        assert [each.target for each in server.requests] == [
            "/a",
            "/x?flag",
            "/x?flag=b+c",
            "/x?flag=b+c",
        ]

    def test_several(self, loop: Loop, scripted: StartScripted) -> None:
        """Redirects may follow one another; each request has only its own."""
        server = scripted([Receive(), to("/2"), Receive(), to("/3"), *ALWAYS])
        client = loop.client(f"{server.url}/1")
        client.request()
        client.request(path="/4")
        loop.until(lambda: len(client.responses) == 2)
        first, second = client.responses
        assert [each["request"]["path"] for each in first["redirects"]] == ["/1", "/2"]
        assert "redirects" not in second
        assert len(client.redirects) == 0

    def test_shared_list(self, loop: Loop, scripted: StartScripted) -> None:
        """A list of the caller keeps all redirects, for the caller to empty."""
        redirects: list[dict[str, Any]] = []
        server = scripted(
            [Receive(), to("/2"), Receive(), response(), Receive(), to("/3"), *ALWAYS]
        )
        client = loop.client(server.url, redirects=redirects)
        loop.ask(client)
        loop.ask(client)
        assert client.redirects is redirects
        assert [each["headers"]["location"] for each in redirects] == ["/2", "/3"]

    def test_to_another_host_and_back(self, loop: Loop, scripted: StartScripted) -> None:
        """Another host is connected to; the next request goes to the client's own again."""
        other = scripted([Receive(), response(200, b"other")])
        server = scripted([Receive(), to(f"{other.url}/there"), Hold()], ALWAYS)
        client = loop.client(f"{server.url}/here", headers=SECRETS)
        answer = loop.ask(client)
        assert bytes(answer.body) == b"other"
        assert (answer.request["host"], answer.request["port"]) == ("127.0.0.1", other.port)
        assert other.requests[0].header("host") == f"127.0.0.1:{other.port}"
        assert client.connector.port == other.port
        assert bytes(loop.ask(client).body) == b"ok"
        assert client.connector.port == server.port
        back = server.requests[1]
        assert (back.target, back.header("authorization")) == ("/here", "Bearer secret")
        assert back.header("host") == f"127.0.0.1:{server.port}"

    def test_to_another_host_and_back_within_one_request(
        self, loop: Loop, scripted: StartScripted
    ) -> None:
        """A redirect that leads away and back gets no credentials either."""
        server = scripted(ALWAYS)
        other = scripted([Receive(), to(f"{server.url}/back")])
        begin = scripted([Receive(), to(other.url)])
        answer = loop.ask(loop.client(begin.url, headers=SECRETS))
        assert answer.status == 200
        assert server.requests[0].header("authorization") == ""

    @pytest.mark.parametrize("another", [True, False])
    def test_credentials_stay(self, loop: Loop, scripted: StartScripted, another: bool) -> None:
        """Credentials go to the origin that they were given for, and to no other."""
        there = scripted(ALWAYS)
        here = scripted([Receive(), to(f"{there.url if another else ''}/x"), *ALWAYS])
        loop.ask(loop.client(here.url, headers=SECRETS))
        request = there.requests[0] if another else here.requests[1]
        for name, value in SECRETS.items():
            kept = name == "X-Plain" or not another
            assert request.header(name) == (value if kept else "")

    def test_credentials_in_the_location_are_not_sent(
        self, loop: Loop, scripted: StartScripted
    ) -> None:
        """A server cannot hand out credentials for another one."""
        there = scripted(ALWAYS)
        here = scripted([Receive(), to(f"http://user:word@127.0.0.1:{there.port}/")])
        assert loop.ask(loop.client(here.url)).status == 200
        assert there.requests[0].header("authorization") == ""

    @pytest.mark.parametrize(
        ("status", "method", "after", "body"),
        [
            (301, "POST", "GET", b""),
            (302, "POST", "GET", b""),
            (303, "POST", "GET", b""),
            (303, "PUT", "GET", b""),
            (301, "PUT", "PUT", b'{"a":1}'),
            (307, "POST", "POST", b'{"a":1}'),
            (308, "POST", "POST", b'{"a":1}'),
            (303, "HEAD", "HEAD", None),
        ],
    )
    def test_method_and_body(
        self,
        loop: Loop,
        scripted: StartScripted,
        status: int,
        method: str,
        after: str,
        body: bytes | None,
    ) -> None:
        """POST becomes GET as browsers have it; 307 and 308 repeat the request as it was."""
        location = [("Location", "/there")]
        moved = response_head(status, [*location, ("Content-Length", "0")])
        server = scripted([Receive(), moved, Receive(), response_head(204)])
        client = loop.client(server.url)
        loop.ask(client, method, "/here", data=None if method == "HEAD" else {"a": 1})
        second = server.requests[1]
        assert second.method == after
        if body is not None:
            assert second.body == body
            assert second.header("content-type") == (
                "application/json; charset=utf-8" if body else ""
            )

    def test_next_request_repeats_what_was_asked(self, loop: Loop, scripted: StartScripted) -> None:
        """What is unset in the next request is as in the one that was redirected."""
        server = scripted([Receive(), to("/there", 303), *ALWAYS])
        client = loop.client(server.url)
        loop.ask(client, "POST", "/here", qargs={"a": 1}, body=b"x")
        loop.ask(client)
        assert [(each.method, each.target) for each in server.requests] == [
            ("POST", "/here?a=1"),
            ("GET", "/there"),
            ("POST", "/here?a=1"),
        ]

    def test_connection_that_closes(self, loop: Loop, scripted: StartScripted) -> None:
        """After a redirect with `Connection: close` the next request has a new connection."""
        server = scripted([Receive(), to("/2", 302, ("Connection", "close")), Close()], ALWAYS)
        assert loop.ask(loop.client(server.url)).status == 200
        assert server.connection_count == 2

    def test_settings_come_along(self, loop: Loop, scripted: StartScripted) -> None:
        """The connection elsewhere has time, wire log and sizes of the one that was given."""
        other = scripted(ALWAYS)
        server = scripted([Receive(), to(other.url)], ALWAYS)
        log = WireLog()
        own = Connector(
            port=server.port, wl=log, bs=1234, tymeout=3.0, reconnectable=True, tymth=loop.tymth
        )
        client = Client(own)
        loop.run(client)
        loop.ask(client)
        abroad = client.connector
        assert abroad is not own
        assert (abroad.bs, abroad.wl, abroad.tymeout, abroad.reconnectable) == (1234, log, 3, True)
        assert abroad.tyme == loop.tyme
        assert f"127.0.0.1:{other.port}".encode() in log.sent
        loop.ask(client)
        assert client.connector is own
        assert abroad.cs is None


class TestNotFollowing:
    def test_unless_it_is_wanted(self, loop: Loop, scripted: StartScripted) -> None:
        """With `redirectable` false the redirect is the response."""
        server = scripted([Receive(), to("/there"), *ALWAYS])
        client = loop.client(server.url, redirectable=False)
        answer = loop.ask(client)
        assert (answer.status, answer.errored, bytes(answer.body)) == (302, False, b"moved")
        assert loop.ask(client).status == 200

    @pytest.mark.parametrize("status", [300, 302, 304, 305, 399])
    def test_without_location(self, loop: Loop, scripted: StartScripted, status: int) -> None:
        """A response that names no location, or is none of the kinds, is not followed."""
        headers = [("Location", "/x")] if status in (304, 305, 399) else []
        server = scripted([Receive(), response_head(status, [*headers, ("Content-Length", "0")])])
        answer = loop.ask(loop.client(server.url))
        assert (answer.status, answer.errored) == (status, False)

    @pytest.mark.parametrize(
        "location",
        [
            "ftp://127.0.0.1/x",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "http://[::1",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:x/",
            "http://a b/",
            "http://-wrong-/",
            "http+unix://%2Ftmp%2Fx/",
            "http://" + "x" * 300 + "/",
        ],
    )
    def test_to_nowhere(self, loop: Loop, scripted: StartScripted, location: str) -> None:
        """A location that is none is an error of the response, which says so, and no more."""
        server = scripted([Receive(), to(location), *ALWAYS])
        client = loop.client(server.url)
        answer = loop.ask(client)
        assert (answer.status, answer.errored) == (302, True)
        assert answer.error
        after = loop.ask(client)
        assert (after.status, after.errored) == (200, False)

    def test_in_a_loop(self, loop: Loop, scripted: StartScripted) -> None:
        """A loop ends with an error after twenty redirects."""
        server = scripted([Repeat([Receive(), to("/again")])])
        client = loop.client(server.url)
        client.request()
        loop.until(lambda: client.responses)
        found = client.responses.popleft()
        assert (found["status"], found["errored"]) == (302, True)
        assert "more than 20" in found["error"]
        assert len(found["redirects"]) == 21
        assert len(server.requests) == 21

    def test_to_a_host_that_refuses(
        self, loop: Loop, scripted: StartScripted, refusing: tuple[str, int]
    ) -> None:
        """A host that cannot be reached is an error that names it; the next request goes on."""
        server = scripted([Receive(), to(f"http://{refusing[0]}:{refusing[1]}/")], ALWAYS)
        client = loop.client(server.url)
        answer = loop.ask(client)
        assert answer.errored
        assert f":{refusing[1]}" in str(answer.error)
        assert loop.ask(client).status == 200

    def test_by_hand_without_one(self, loop: Loop, scripted: StartScripted) -> None:
        """`redirect` without anything to follow does nothing."""
        client = Client(path=scripted(ALWAYS).url)
        client.redirect()
        assert not client.waited


class TestTLS:
    def secure(self, scripted: StartScripted, certificates: Certificates) -> ScriptedServer:
        return scripted(ALWAYS, tls=certificates.server_context())

    def test_from_http_to_https(
        self, loop: Loop, scripted: StartScripted, certificates: Certificates
    ) -> None:
        """A redirect to https is followed with TLS, by the client's arguments for it."""
        there = self.secure(scripted, certificates)
        here = scripted([Receive(), to(f"{there.url}/s")], ALWAYS)
        client = loop.client(here.url, headers=SECRETS, cafilepath=str(certificates.ca_file))
        assert loop.ask(client).status == 200
        assert isinstance(client.connector, TLSConnector)
        assert there.requests[0].header("authorization") == ""
        assert loop.ask(client).status == 200
        assert type(client.connector) is Connector

    def test_from_https_to_http_is_refused(
        self, loop: Loop, scripted: StartScripted, certificates: Certificates
    ) -> None:
        """What began encrypted never goes on in the clear."""
        there = scripted(ALWAYS)
        here = scripted([Receive(), to(there.url), *ALWAYS], tls=certificates.server_context())
        client = loop.client(here.url, cafilepath=str(certificates.ca_file))
        answer = loop.ask(client)
        assert answer.errored
        assert "from https to http" in str(answer.error)
        assert loop.ask(client).status == 200
        assert there.connection_count == 0

    def test_unverified_server_is_an_error(
        self, loop: Loop, scripted: StartScripted, certificates: Certificates
    ) -> None:
        """A host that a redirect leads to has to be verified as any other."""
        there = self.secure(scripted, certificates)
        here = scripted([Receive(), to(there.url)], ALWAYS)
        answer = loop.ask(loop.client(here.url))
        assert answer.errored
        assert "TLS" in str(answer.error)
        assert there.request_count == 0

    def test_given_context_goes_along_and_comes_back(
        self, loop: Loop, scripted: StartScripted, certificates: Certificates
    ) -> None:
        """A connector with a context of its own keeps it, there and back."""
        there = self.secure(scripted, certificates)
        here = scripted(
            [Receive(), to(f"{there.url}/s")], ALWAYS, tls=certificates.server_context()
        )
        own = TLSConnector(port=here.port, context=certificates.client_context())
        client = Client(own)
        loop.run(client)
        assert loop.ask(client).status == 200
        assert client.connector is not own
        assert loop.ask(client).status == 200
        assert client.connector is own

    def test_identity_is_not_for_other_hosts(
        self, loop: Loop, scripted: StartScripted, certificates: Certificates
    ) -> None:
        """The client's certificate, and the name that it verifies, are for its own host alone."""
        there = self.secure(scripted, certificates)
        here = scripted(
            [Receive(), to(f"https://localhost:{there.port}/")],
            tls=certificates.server_context("one.example", client_required=True),
        )
        client = loop.client(
            here.url,
            cafilepath=str(certificates.ca_file),
            certpath=str(certificates.client_file),
            certedhost="one.example",
        )
        assert loop.ask(client).status == 200
        assert isinstance(client.connector, TLSConnector)
        assert (client.connector.certpath, client.connector.certedhost) == (None, "localhost")

    def test_file_that_has_gone_is_an_error(
        self, loop: Loop, scripted: StartScripted, certificates: Certificates
    ) -> None:
        """What TLS would need and cannot be read raises nothing out of `service`."""
        there = self.secure(scripted, certificates)
        here = scripted([Receive(), to(there.url), *ALWAYS])
        client = loop.client(here.url, cafilepath="/nowhere/at/all.pem")
        answer = loop.ask(client)
        assert (answer.status, answer.errored) == (302, True)
        assert loop.ask(client).status == 200
