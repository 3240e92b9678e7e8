"""The bytes of requests, beside those of hio where both agree."""

from __future__ import annotations

import email.parser
import email.policy
import json
from random import Random
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import pytest
from hio.core.http.clienting import Requester as HioRequester  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import InvalidRequest
from holdfast.flow.requesting import Requester
from holdfast.http.headers import Headers

OPENING = b"Host: 127.0.0.1:80\r\nAccept-Encoding: identity\r\n"


def start_line(**kwa: Any) -> bytes:
    """Return the start line of the request that the arguments make."""
    return Requester(**kwa).build().partition(b"\r\n")[0]


def host(**kwa: Any) -> str:
    """Return the Host header of the request that the arguments make."""
    requester = Requester(**kwa)
    requester.build()
    return requester.lines[1].decode().removeprefix("Host: ")


class Predictable(Random):
    """Gives the numbers that it was made with."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers = list(numbers)

    def getrandbits(self, k: int, /) -> int:
        assert k == 128
        return self.numbers.pop(0)


#: What hio builds, byte for byte.
SAME = [
    {},
    {"path": ""},
    {"hostname": "localhost", "port": 8080},
    {"hostname": "localhost:8081"},
    {"hostname": "EXAMPLE.com"},
    {"hostname": "bücher.de", "port": 80},
    {"hostname": "[::1]", "port": 8080},
    {"hostname": "example.com", "port": 80, "portOptional": True},
    {"hostname": "example.com", "port": 8080, "portOptional": True},
    {"hostname": "example.com", "port": 443, "scheme": "https"},
    {"hostname": "example.com", "port": 443, "scheme": "https", "portOptional": True},
    {"method": "put"},
    {"path": "/a b/ü"},
    {"path": "/a;b=c/~_-.,:@!$&'()*+"},
    {"path": "/a?x=1&y&z=a%20b+c&e="},
    {"path": "/a?x=1&&y=2&", "qargs": {"k": "v w", "x": "0", "m": "ü&="}},
    {"qargs": {"a": 1, "b": True, "c": None, "d": "~/?:@"}},
    {"path": "http://127.0.0.1/x?y=1"},
    {"path": "HTTP://127.0.0.1:80/x"},
    {"path": "//127.0.0.1/x"},
    {"path": "http://LOCALHOST/x", "hostname": "localhost", "port": 8080},
    {"headers": {"last-event-id": "3", "x-3d": "a", "ETag": "b", "X_a-B": "c"}},
    {"headers": [("x-a", "1"), ("Other", "2"), ("x-a", "3")]},
    {"headers": {"a": 5, "b": b"bytes", "c": "é"}},
    {"headers": {"x": "1", "accept-encoding": "gzip", "host": "elsewhere"}},
    {"method": "POST", "headers": {"content-length": "2", "x": "1"}, "body": b"ab"},
    {"method": "POST"},
    {"method": "POST", "body": "hé"},
    {"method": "POST", "body": bytearray(b"\0\xff")},
    {"method": "HEAD", "body": b"x"},
    {"method": "DELETE", "body": b"x"},
    {"method": "PATCH", "body": b"x", "headers": {"Content-Type": "text/plain"}},
    {"method": "GET", "body": b"x", "data": {"a": 1}, "fargs": {"a": "1"}},
    {"method": "POST", "data": {"a": [1, 2.5, None, True], "ü": "é"}},
    {"method": "POST", "data": {}},
    {"method": "POST", "data": "text"},
    {"method": "POST", "data": 0},
    {"method": "POST", "data": False},
    {"method": "POST", "data": {"a": 1}, "fargs": {"b": "2"}, "body": b"c"},
    {"method": "POST", "data": 1, "headers": {"x": "1", "content-type": "a/b", "y": "2"}},
    {"method": "POST", "fargs": {"a": "1 2", "b": "é", "c": 3}},
    {"method": "POST", "fargs": {}},
    {"method": "POST", "fargs": {"a": "1"}, "body": b"c"},
    {"method": "POST", "fargs": {"a": "1"}, "headers": {"content-type": "multipart/mixed"}},
]


@pytest.mark.parametrize("arguments", SAME, ids=str)
def test_same_bytes_as_hio(arguments: dict[str, Any]) -> None:
    """Each of these requests is what hio sends, and so is the same request built again."""
    ours, theirs = Requester(**arguments), HioRequester(**arguments)
    assert ours.build() == bytes(theirs.build())
    assert ours.lines == theirs.lines
    assert (ours.head, ours.msg) == (theirs.head, theirs.msg)
    for name in ("hostname", "port", "scheme", "method", "path", "qargs", "fragment", "body"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.build() == bytes(theirs.build())


class TestOrder:
    def test_of_all_parts(self) -> None:
        """Everything has its place."""
        requester = Requester(
            hostname="example.com",
            port=8080,
            method="post",
            path="/a?b=1",
            qargs={"c": "2"},
            fragment="d",
            headers=[("x-one", "1"), ("content-type", "text/plain"), ("X-Two", "2")],
            data={"e": 3},
        )
        assert requester.build() == (
            b"POST /a?c=2&b=1#d HTTP/1.1\r\n"
            b"Host: example.com:8080\r\n"
            b"Accept-Encoding: identity\r\n"
            b"Content-Length: 7\r\n"
            b"X-One: 1\r\n"
            b"Content-Type: application/json; charset=utf-8\r\n"
            b"X-Two: 2\r\n"
            b"\r\n"
            b'{"e":3}'
        )
        assert requester.lines[-3:] == [b"X-Two: 2", b"", b""]
        assert requester.head + b'{"e":3}' == requester.msg

    def test_before_anything_is_built(self) -> None:
        """Nothing is kept of a request that was not built."""
        requester = Requester()
        assert (requester.lines, requester.head, requester.msg) == ([], b"", b"")

    def test_what_the_caller_gives_is_not_repeated(self) -> None:
        """Host, Accept-Encoding and Content-Length stand where the caller has them."""
        headers = {"accept-encoding": "br", "content-length": "1", "host": "a"}
        message = Requester(method="PUT", headers=headers, body=b"x").build()
        assert message == (
            b"PUT / HTTP/1.1\r\nAccept-Encoding: br\r\nContent-Length: 1\r\nHost: a\r\n\r\nx"
        )


class TestHost:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"scheme": "https"}, "127.0.0.1:443"),
            ({"scheme": "https", "portOptional": True}, "127.0.0.1"),
            ({"scheme": "https", "port": 80, "portOptional": True}, "127.0.0.1:80"),
            ({"scheme": ""}, "127.0.0.1:80"),
            ({"scheme": "HTTPS", "portOptional": True}, "127.0.0.1"),
            ({"hostname": "::1", "port": 8080}, "[::1]:8080"),
            ({"hostname": "::1", "portOptional": True}, "[::1]"),
            ({"hostname": "[::1]:81"}, "[::1]:81"),
            ({"hostname": "fe80::1%eth0"}, "[fe80::1]:80"),
            ({"hostname": "straße.example"}, "strasse.example:80"),
        ],
    )
    def test_forms(self, arguments: dict[str, Any], expected: str) -> None:
        """The default port is the scheme's, IPv6 is in brackets, names are ASCII."""
        assert host(**arguments) == expected

    @pytest.mark.parametrize(
        "hostname",
        ["", "a b", "a\r\nX: y", "a\0", "a/b", "user@a", "a?b", "a#b", "a\\b", ":::", "a:b", "[x]"],
    )
    def test_what_is_none(self, hostname: str) -> None:
        """What is no host name is refused."""
        with pytest.raises(InvalidRequest):
            Requester(hostname=hostname).build()

    @pytest.mark.parametrize("port", [0, -1, 65536])
    def test_ports_that_are_none(self, port: int) -> None:
        """What is no port is refused."""
        with pytest.raises(InvalidRequest):
            Requester(port=port).build()

    @pytest.mark.parametrize("scheme", ["ftp", "ht tp", "http\r\n"])
    def test_schemes_that_are_none(self, scheme: str) -> None:
        """What is not http or https is refused."""
        with pytest.raises(InvalidRequest):
            Requester(scheme=scheme).build()


class TestTarget:
    @pytest.mark.parametrize(
        ("path", "target"),
        [
            ("a/b", b"/a/b"),
            ("?q=1", b"/?q=1"),
            ("/a%20b%2Fc", b"/a%20b%2Fc"),
            ("/100%/%zz%4", b"/100%25/%25zz%254"),
            ("/did:x:y", b"/did%3Ax%3Ay"),
            ("did:x:y", b"/did%3Ax%3Ay"),
            ("/a?b=1;c=2", b"/a?b=1%3Bc%3D2"),
            ("/a?b=%FF%26", b"/a?b=%FF%26"),
            ("/a?b=1&c=2&b=3", b"/a?b=1&b=3&c=2"),
            ("/a?b=c=d&=e", b"/a?b=c%3Dd&=e"),
            ("/a?b&c=", b"/a?b=true&c="),
            ("/a#b?c d", b"/a#b?c%20d"),
            ("/a?b=1#", b"/a?b=1"),
            ("/a?#b", b"/a#b"),
            ("http://127.0.0.1?a=1", b"/?a=1"),
            ("HTTP://127.0.0.1:80", b"/"),
            ("///a", b"/a"),
            ("*", b"/%2A"),
        ],
    )
    def test_forms(self, path: str, target: bytes) -> None:
        """A path is quoted but for its escapes, a query taken over, a fragment sent."""
        assert start_line(path=path) == b"GET " + target + b" HTTP/1.1"

    def test_of_the_server_itself(self) -> None:
        """OPTIONS can ask about the server as a whole."""
        assert start_line(method="OPTIONS", path="*") == b"OPTIONS * HTTP/1.1"

    def test_names_are_quoted_too(self) -> None:
        """A query's names cannot bring in more of a query."""
        assert start_line(qargs={"a b&c=": "d"}) == b"GET /?a+b%26c%3D=d HTTP/1.1"

    def test_values_may_be_several(self) -> None:
        """A list of values repeats its name, and pairs may repeat a name."""
        assert start_line(qargs={"a": ["1", 2], "b": ()}) == b"GET /?a=1&a=2 HTTP/1.1"
        pairs = [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]
        assert start_line(qargs=pairs) == b"GET /?a=1&a=3&a=4&b=2 HTTP/1.1"

    def test_the_query_of_the_path_wins(self) -> None:
        """New names come after those of ``qargs``; for the same one, the path's value is sent."""
        qargs = {"a": "1", "b": "2"}
        requester = Requester(path="/p?c=3&a=4", qargs=qargs)
        assert requester.build().startswith(b"GET /p?a=4&b=2&c=3 ")
        assert (requester.path, requester.qargs) == ("/p", {"a": "4", "b": "2", "c": "3"})
        assert qargs == {"a": "1", "b": "2"}

    def test_the_fragment_of_the_path_wins(self) -> None:
        """A fragment in the path is taken over."""
        requester = Requester(path="/p#new", fragment="old")
        assert requester.build().startswith(b"GET /p#new ")
        assert (requester.path, requester.fragment) == ("/p", "new")

    @pytest.mark.parametrize(
        "path",
        [
            "https://127.0.0.1/x",
            "ftp://127.0.0.1/x",
            "http://other/x",
            "//other/x",
            "http://127.0.0.1:81/x",
            "http://127.0.0.1.evil/x",
            "http://127.0.0.1@evil/x",
            "http://127.0.0.1:80@evil/x",
            "http://user:pass@127.0.0.1/x",
            "http://[::1/x",
            "http://127.0.0.1:x/",
        ],
    )
    def test_another_place_is_refused(self, path: str) -> None:
        """A path that leads elsewhere is refused, and nothing of a password is told."""
        with pytest.raises(InvalidRequest) as raised:
            Requester(path=path).build()
        assert "pass@" not in str(raised.value)

    @pytest.mark.parametrize("character", ["\r", "\n", "\0", "\t", "\x7f", "\r\nX: y"])
    @pytest.mark.parametrize("form", ["/a{}b", "{}/a", "/a{}", "/a?b={}", "/a#b{}", "h{}ttp://x/"])
    def test_injection_is_refused(self, form: str, character: str) -> None:
        """Control characters in a path are refused, not dropped and not sent."""
        with pytest.raises(InvalidRequest):
            Requester(path=form.format(character)).build()

    def test_injection_by_the_fragment_is_refused(self) -> None:
        """Control characters in a fragment are refused."""
        with pytest.raises(InvalidRequest):
            Requester(fragment="a\r\nb").build()

    def test_injection_by_the_query_is_quoted(self) -> None:
        """Line breaks in a query's values are data."""
        assert start_line(qargs={"a": "\r\nX: y"}) == b"GET /?a=%0D%0AX%3A+y HTTP/1.1"

    @pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "G\0T", "GÉT", "GET /x", "CONNECT"])
    def test_methods_that_are_none(self, method: str) -> None:
        """What is no method, or not for this, is refused."""
        with pytest.raises(InvalidRequest):
            Requester(method=method).build()

    def test_target_is_sent_as_it_is(self) -> None:
        """A target is sent instead of path, query and fragment, once, and changes none of them."""
        requester = Requester(path="/p")
        plain = requester.build()
        assert requester.build(target="/?flag&a=%2f#:~").startswith(b"GET /?flag&a=%2f#:~ HTTP")
        assert (requester.path, requester.qargs, requester.fragment) == ("/p", {}, "")
        assert requester.build() == plain
        assert requester.build(target="/x").startswith(b"GET /x ")

    @pytest.mark.parametrize("target", ["", "/a b", "/a\r\nX: y", "/a\0", "/\u00e9", "/\ud800"])
    def test_targets_that_are_none(self, target: str) -> None:
        """A target that would not stay one is refused, not mended."""
        with pytest.raises(InvalidRequest):
            Requester().build(target=target)

    def test_lone_surrogates_are_refused(self) -> None:
        """What has no bytes is refused."""
        for arguments in ({"path": "/\ud800"}, {"qargs": {"a": "\ud800"}}, {"fragment": "\ud800"}):
            with pytest.raises(InvalidRequest):
                Requester(**arguments).build()

    @given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
    def test_paths_come_back(self, text: str) -> None:
        """Any text that has no marks of its own is what the server unquotes."""
        path = "/" + text.replace("?", "").replace("#", "").replace("%", "").lstrip("/")
        target = start_line(path=path).split(b" ")[1].decode("ascii")
        assert unquote(target) == path

    @given(st.dictionaries(st.text(), st.text() | st.lists(st.text(), min_size=1)))
    def test_queries_come_back(self, qargs: dict[str, str | list[str]]) -> None:
        """Any query is what the standard library reads from the target."""
        target = start_line(qargs=qargs).split(b" ")[1].decode("ascii")
        read = parse_qs(urlsplit(target).query, keep_blank_values=True)
        assert read == {
            name: value if isinstance(value, list) else [value] for name, value in qargs.items()
        }

    @given(st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20, exclude_characters="#")))
    def test_queries_of_paths_come_back(self, query: str) -> None:
        """A query in a path means the same on the wire, pair by pair of a name."""
        target = start_line(path="/?" + query).split(b" ")[1].decode("ascii")
        # The standard library gives a bare name no value, here it is true.
        bare = [item for item in query.split("&") if item and "=" not in item]
        expected = parse_qsl(
            "&".join(f"{item}=true" if item in bare else item for item in query.split("&")),
            keep_blank_values=True,
            errors="surrogateescape",
        )
        read = parse_qsl(urlsplit(target).query, keep_blank_values=True, errors="surrogateescape")
        assert sorted(read) == sorted(expected)


class TestHeaders:
    def test_are_kept(self) -> None:
        """Headers can be asked for in any case, and came in order."""
        requester = Requester(headers=[("B", "1"), ("a", "2"), ("b", "3")])
        assert isinstance(requester.headers, Headers)
        assert requester.headers["b"] == "1, 3"
        assert requester.headers.multi_items() == [("B", "1"), ("a", "2"), ("b", "3")]

    @pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "a\n", "a\0", "é", "a "])
    def test_names_that_are_none(self, name: str) -> None:
        """What is no header name is refused."""
        with pytest.raises(InvalidRequest):
            Requester(headers={name: "x"}).build()

    @pytest.mark.parametrize("end", ["\r\nB: c", "\n", "\r", "\0", "€", b"\n"])
    def test_values_that_are_none(self, end: str | bytes) -> None:
        """What could inject, or is not Latin-1, is refused, and the value is not told."""
        value: Any = "key" + end if isinstance(end, str) else b"key" + end
        with pytest.raises(InvalidRequest, match="Authorization") as raised:
            Requester(headers={"authorization": value}).build()
        assert "key" not in str(raised.value)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"method": "POST", "body": b"ab", "headers": {"Content-Length": "5"}},
            {"method": "POST", "headers": {"Content-Length": "5"}},
            {"method": "GET", "body": b"ab", "headers": {"Content-Length": "2"}},
            {
                "method": "POST",
                "body": b"ab",
                "headers": [("Content-Length", "2"), ("content-length", "2")],
            },
            {"method": "POST", "body": b"ab", "headers": {"Transfer-Encoding": "chunked"}},
        ],
    )
    def test_false_framing_is_refused(self, arguments: dict[str, Any]) -> None:
        """A length that is not the body's would make two requests of one."""
        with pytest.raises(InvalidRequest):
            Requester(**arguments).build()

    def test_an_error_says_nothing_of_the_last_message(self) -> None:
        """After a refused request, the message before it is still what was built last."""
        requester = Requester()
        message = requester.build()
        with pytest.raises(InvalidRequest):
            requester.rebuild(headers={"a b": "c"})
        assert requester.msg == message


class TestBodies:
    @pytest.mark.parametrize("body", [b"abc", bytearray(b"abc"), memoryview(b"abc"), "abc"])
    def test_kinds(self, body: Any) -> None:
        """Bytes of any kind, and text."""
        message = Requester(method="POST", body=body).build()
        assert message.endswith(b"Content-Length: 3\r\n\r\nabc")

    @pytest.mark.parametrize("body", ["€", 5, [b"a"], {"a": 1}])
    def test_what_is_none(self, body: Any) -> None:
        """What cannot be sent as it is, is refused."""
        with pytest.raises(InvalidRequest):
            Requester(method="POST", body=body).build()

    @pytest.mark.parametrize("data", [{1, 2}, b"a", float("nan"), {(1,): 2}, object()])
    def test_what_is_no_json(self, data: Any) -> None:
        """What has no form in JSON is refused."""
        with pytest.raises(InvalidRequest, match="JSON"):
            Requester(method="POST", data=data).build()

    def test_json_that_contains_itself(self) -> None:
        """Data without an end is refused."""
        data: list[Any] = []
        data.append(data)
        with pytest.raises(InvalidRequest, match="JSON"):
            Requester(method="POST", data=data).build()

    def test_form_values_are_quoted(self) -> None:
        """A form's names and values cannot bring in more fields."""
        message = Requester(method="POST", fargs={"a=b": "c=d&e f", "g": ["1", "2"]}).build()
        assert message.endswith(b"\r\n\r\na%3Db=c%3Dd%26e+f&g=1&g=2")

    @given(st.dictionaries(st.text(), st.text()))
    def test_forms_come_back(self, fargs: dict[str, str]) -> None:
        """Any form is what the standard library reads from the body."""
        body = Requester(method="POST", fargs=fargs).build().partition(b"\r\n\r\n")[2]
        assert dict(parse_qsl(body.decode("ascii"), keep_blank_values=True)) == fargs

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        )
    )
    def test_json_comes_back(self, data: Any) -> None:
        """Any data is what the standard library reads from the body, which is ASCII."""
        if data is None:
            return
        body = Requester(method="POST", data=data).build().partition(b"\r\n\r\n")[2]
        assert json.loads(body.decode("ascii")) == data


class TestMultipart:
    def test_bytes(self) -> None:
        """Each field is a part; the Content-Type stands where the caller's does."""
        requester = Requester(
            method="POST",
            headers=[("x", "1"), ("content-type", "Multipart/form-data; charset=x"), ("y", "2")],
            fargs={"a": "1 2", 'b"\r\n': "é"},
            random=Predictable(255),
        )
        mark = b"0" * 30 + b"ff"
        assert requester.build() == (
            b"POST / HTTP/1.1\r\n" + OPENING + b"Content-Length: 298\r\n"
            b"X: 1\r\n"
            b"Content-Type: multipart/form-data; boundary=" + mark + b"\r\n"
            b"Y: 2\r\n"
            b"\r\n"
            b"--" + mark + b"\r\n"
            b'Content-Disposition: form-data; name="a"\r\n'
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"\r\n"
            b"1 2\r\n"
            b"--" + mark + b"\r\n"
            b'Content-Disposition: form-data; name="b%22%0D%0A"\r\n'
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"\r\n"
            b"\xc3\xa9\r\n"
            b"--" + mark + b"--\r\n"
        )

    def test_of_nothing(self) -> None:
        """A form without fields is the end mark alone."""
        headers = {"Content-Type": "multipart/form-data"}
        message = Requester(method="POST", headers=headers, fargs={}, random=Predictable(1)).build()
        assert message.endswith(b"\r\n\r\n--" + b"0" * 31 + b"1--\r\n")

    def test_boundary_is_not_in_the_data(self) -> None:
        """A boundary that a field contains is not taken."""
        requester = Requester(
            method="POST",
            headers={"Content-Type": "multipart/form-data"},
            fargs={"a": f"--{1:032x}", f"{2:032x}": "b"},
            random=Predictable(1, 2, 3),
        )
        assert requester.build().endswith(f"--{3:032x}--\r\n".encode())

    @given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.binary()))
    def test_comes_back(self, fargs: dict[str, bytes]) -> None:
        """Any fields, with line breaks and all, are what the standard library reads."""
        requester = Requester(
            method="POST", headers={"content-type": "multipart/form-data"}, fargs=fargs
        )
        body = requester.build().partition(b"\r\n\r\n")[2]
        boundary = requester.headers["content-type"].partition("boundary=")[2].encode()
        parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
        assert parts[0] == b""
        assert parts[-1] == b"--\r\n"
        assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == list(fargs.values())

    def test_is_read_by_others(self) -> None:
        """The standard library's parser finds the fields."""
        requester = Requester(
            method="POST",
            headers={"Content-Type": "multipart/form-data"},
            fargs={"name": "fame", "many": ["1", "2"]},
        )
        head, _, body = requester.build().partition(b"\r\n\r\n")
        parser = email.parser.BytesParser(policy=email.policy.HTTP)
        message = parser.parsebytes(head.partition(b"\r\n")[2] + b"\r\n\r\n" + body)
        assert [
            (part.get_param("name", header="content-disposition"), part.get_payload())
            for part in message.walk()
            if not part.is_multipart()
        ] == [("name", "fame"), ("many", "1"), ("many", "2")]


class TestAgain:
    def test_what_is_not_given_stays(self) -> None:
        """The next request differs in what is given; bodies are never repeated."""
        requester = Requester(
            method="POST", path="/a?b=1", headers={"X": "1"}, fragment="c", body=b"body"
        )
        requester.build()
        assert requester.rebuild() == b"POST /a?b=1#c HTTP/1.1\r\n" + OPENING + b"X: 1\r\n\r\n"
        assert requester.rebuild(method="GET", path="/d") == (
            b"GET /d?b=1#c HTTP/1.1\r\n" + OPENING + b"X: 1\r\n\r\n"
        )
        assert requester.rebuild(qargs={}, fragment="", headers={}) == (
            b"GET /d HTTP/1.1\r\n" + OPENING + b"\r\n"
        )
        assert (requester.body, requester.data, requester.fargs) == (b"", None, None)

    def test_each_kind_of_body_is_forgotten(self) -> None:
        """One body after another, each of another kind."""
        requester = Requester(method="POST", data={"a": 1})
        assert requester.build().endswith(b'{"a":1}')
        assert requester.rebuild(fargs={"b": "2"}).endswith(b"b=2")
        assert requester.rebuild(body=b"c").endswith(b"\r\n\r\nc")
        assert requester.rebuild().endswith(b"\r\n\r\n")

    def test_a_content_type_that_was_not_given_goes_with_its_body(self) -> None:
        """The type of JSON or a form can be seen in the headers, and is not kept for the next."""
        requester = Requester(method="POST", headers={"X": "1"}, data={})
        requester.build()
        sent = requester.headers
        assert sent["content-type"] == "application/json; charset=utf-8"
        assert b"Content-Type" not in requester.rebuild(method="GET")
        requester.rebuild(method="POST", data={})
        assert b"Content-Type" not in requester.rebuild(headers=sent)
        assert requester.headers == {"x": "1"}

    def test_a_boundary_is_made_anew(self) -> None:
        """Each multipart body has a boundary of its own, in one Content-Type."""
        requester = Requester(
            method="POST",
            headers={"Content-Type": "multipart/form-data"},
            fargs={"a": "1"},
            random=Predictable(1, 2),
        )
        requester.build()
        message = requester.rebuild(fargs={"a": "1"})
        assert f"boundary={2:032x}\r\n".encode() in message
        assert message.count(b"boundary=") == 1

    def test_everything_can_be_changed(self) -> None:
        """Each attribute can be changed, by `reinit` or by itself."""
        requester = Requester()
        requester.reinit(hostname="a", port=1, scheme="https", method="put", path="/b")
        requester.reinit(qargs={"c": "d"}, headers={"e": "f"}, body="g", portOptional=True)
        assert requester.build() == (
            b"PUT /b?c=d HTTP/1.1\r\nHost: a:1\r\nAccept-Encoding: identity\r\n"
            b"Content-Length: 1\r\nE: f\r\n\r\ng"
        )
        requester.hostname, requester.port, requester.method = "h", 443, "post"
        requester.path, requester.qargs, requester.body = "/i", {}, b""
        requester.headers = {"j": "k"}
        assert requester.build() == (
            b"POST /i HTTP/1.1\r\nHost: h\r\nAccept-Encoding: identity\r\nJ: k\r\n\r\n"
        )

    def test_a_default_port_goes_with_its_scheme(self) -> None:
        """Another scheme has another default port; a port that was given stays."""
        requester = Requester()
        requester.reinit(scheme="https")
        assert requester.port == 443
        requester.reinit(port=8443)
        requester.reinit(scheme="http")
        assert requester.port == 8443

    def test_mutable_headers_are_not_shared(self) -> None:
        """Whoever changes a dictionary after giving it changes nothing, until it is given again."""
        headers: dict[str, Any] = {"a": "1", "b": "2"}
        requester = Requester(headers=headers)
        before = requester.build()
        headers["a"] = "3"
        assert requester.rebuild() == before
        assert b"A: 3\r\nB: 2\r\n" in requester.rebuild(headers=headers)
        del headers["a"]
        headers["a"] = "3"
        assert b"B: 2\r\nA: 3\r\n" in requester.rebuild(headers=headers)
        headers["b"] = 2
        assert b"B: 2\r\nA: 3\r\n" in requester.rebuild(headers=headers)
        headers["b"] = True
        assert b"B: True\r\nA: 3\r\n" in requester.rebuild(headers=headers)

    def test_the_same_again_is_remembered(self) -> None:
        """The header lines of a request like the last one are not made anew."""
        headers = {"a": "1"}
        requester = Requester(headers=headers)
        requester.build()
        kept = requester.headers
        requester.rebuild(path="/other", headers=dict(headers))
        assert requester.headers is kept

    @given(st.lists(st.sampled_from(SAME[6:]), max_size=5))
    def test_nothing_remembered_is_wrong(self, requests: list[dict[str, Any]]) -> None:
        """Whatever came before, a request is what a new requester makes of it."""
        requester = Requester()
        for arguments in requests:
            arguments = {
                "hostname": "127.0.0.1", "port": 80, "scheme": "http", "method": "GET",
                "path": "/", "qargs": {}, "fragment": "", "headers": {}, "portOptional": False,
                **arguments,
            }  # fmt: skip
            requester.reinit(**arguments)
            assert requester.build() == Requester(**arguments).build()
