"""No credential gets out."""

from __future__ import annotations

import time

import pytest

from holdfast.telemetry.redaction import redacted, redacted_target


@pytest.mark.parametrize(
    "text",
    [
        "GET http://ann:hunter2@h:80/x failed",
        "http://ann:hunter2@home@h/",
        "bad host 'ann:hunter2@h:80'",
        "401 for url 'https://h/x?key=hunter2&b=1'",
        "(/x?hunter2)",
        "see /x?q='hunter2'.",
        "Authorization: Basic hunter2hunter2",
        "{'Authorization': 'Bearer hunter2', 'Accept': '*/*'}",
        "proxy-authorization=hunter2",
        "Set-Cookie: sid=1; hunter2",
        "sent Bearer hunter2.hunter2",
        "password=hunter2",
        "'api_key': 'hunter2'",
        "db_password: hunter2",
        "{'password': 'correct hunter2 battery', 'a': 1}",
        '"api_key": "correct hunter2"',
        "pwd=hunter2 passphrase=hunter2 private_key=hunter2 credentials=hunter2",
        "bad host ann:p@hunter2@h:80",
        "bad host http://ann:a/hunter2@h:80/x",
        "x" * 980 + " http://ann:hunter2hunter2hunter2hunter2@h/",
    ],
)
def test_what_is_redacted(text: str) -> None:
    """Userinfo, queries, headers with credentials, and values that are named as secrets."""
    assert "hunter2" not in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1:80: the connection was reset",
        "GET /x: no attempt is left [2 attempts: 1. a:80: 503 (1.5 ms)]",
        "http://[::1]:8001/base/x answered 500",
        "http://[::1]:8001/@x http://h:80/@x http://h/@x answered 500",
        "really? yes",
        "écrit à Zoë",
        "",
    ],
)
def test_what_stays(text: str) -> None:
    """Hosts, ports, paths and ordinary words."""
    assert redacted(text) == text


def test_what_surrounds_a_query_stays() -> None:
    """The quotation is closed, the sentence goes on."""
    assert redacted("(for 'http://h/x?a=b'), then") == "(for 'http://h/x?REDACTED'), then"


def test_no_text_makes_lines_of_its_own() -> None:
    """Line breaks and escape sequences are shown, not written."""
    assert redacted("a\r\nERROR b\x1b[31m\x85") == "a\\r\\nERROR b\\x1b[31m\\x85"


def test_a_text_has_a_limit() -> None:
    """What is longer ends at a word, and takes no more time."""
    assert len(redacted("word " * 10_000)) <= 1002
    began = time.process_time()
    for hostile in ("a" * 100_000 + "@", "://" * 50_000 + "@", "?'" * 50_000, ":" * 999 + "@"):
        redacted(hostile)
    assert time.process_time() - began < 1


def test_a_target() -> None:
    """Of a query is told that there is one."""
    assert redacted_target("/a/b?token=1") == "/a/b?REDACTED"
    assert redacted_target("/a/b") == "/a/b"
