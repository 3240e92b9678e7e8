"""Tokens, client certificates, TLS and rules."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from holdfast.jobs.dispatcher.config import Config, ConfigError, Listen
from holdfast.jobs.dispatcher.rules import Rule, hash_token
from holdfast.jobs.dispatcher.service import Service
from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit
from tests.servers.certificates import CLIENT_NAME, Certificates

ALL = Rule("all", hash=hash_token("all-token"))
WEB = Rule("web", ("web01", "db*"), ("echo", "hold"), hash_token("web-token"))
TOKENS = {"tokens": (ALL, WEB)}


def test_tokens(dispatch: Dispatch) -> None:
    """Without a token that is known nothing is answered but that."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("echo", 1, token="all-token")
        requests: list[dict[str, Any]] = [
            {"host": "web01", "procedure": "echo", "arguments": []},
            *({name: job_id} for name in ("cancel", "get_result", "get_status")),
            *({name: job_id} for name in ("follow_stream", "read_stream")),
            {"hosts": "*"},
        ]
        for request in requests:
            for token in ({}, {"token": "wrong"}, {"token": WEB.hash}):
                reply = await peer.ask(**request, **token)
                assert reply["error"]["type"] == "auth_error"
        assert await peer.ask(get_result=job_id, token="all-token") == {"result": [1]}

    dispatch(test, **TOKENS)


def test_rules(dispatch: Dispatch) -> None:
    """A token calls only what its rule allows, and sees only jobs of such calls."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("echo", 1, token="web-token")
        assert await peer.ask(get_result=job_id, token="web-token") == {"result": [1]}
        for host, procedure in (("web02", "echo"), ("web01", "count"), ("WEB01", "echo")):
            asked = {"host": host, "procedure": procedure, "arguments": [1], "token": "web-token"}
            assert (await peer.ask(**asked))["error"]["type"] == "access_denied"
        others = [
            await peer.call("count", 1, token="all-token"),
            await peer.call("hold", host="web02", token="all-token"),
        ]
        for other in others:
            for name in ("cancel", "get_result", "get_status", "follow_stream", "read_stream"):
                reply = await peer.ask(**{name: other}, token="web-token")
                assert reply["error"]["type"] == "access_denied"
                assert reply["error"]["message"] == "web may not use this job"
        assert await peer.ask(hosts="*", token="web-token") == {"hosts": ["web01"]}
        assert await peer.ask(cancel=others[1], token="all-token") == {"cancelled": True}

    dispatch(test, **TOKENS)


def test_log_of_decisions(dispatch: Dispatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every decision is logged with who, what and whether, and never with a token."""
    caplog.set_level("INFO")

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("echo", token="web-token")
        await peer.ask(get_status=job_id, token="web-token")
        await peer.ask(host="x", procedure="y", arguments=[], token="web-token")
        await peer.ask(cancel="none", token="web-token")
        await peer.ask(get_result=job_id, token="wrong-token")
        await peer.ask(get_result=job_id)
        await peer.ask(hosts="*", token="web-token")

    dispatch(test, **TOKENS)
    lines = [one.getMessage() for one in caplog.records if one.name.endswith("security")]
    assert [line.split(" from ")[0] for line in lines] == [
        "allowed: web call",
        "allowed: web status",
        "denied: web call",
        "allowed: web cancel",
        "denied: nobody result",
        "denied: nobody result",
        "allowed: web hosts",
    ]
    assert lines[-1].endswith("1 of 2 hosts that match")
    assert "'y' on 'x'" in lines[2]
    assert "-token" not in caplog.text
    assert "sha256:" not in caplog.text


def test_open_without_rules(dispatch: Dispatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without security a token is no matter, and there is no log of decisions."""
    caplog.set_level("INFO")

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("echo", token="any")
        assert await peer.ask(get_result=job_id) == {"result": []}

    dispatch(test)
    assert not [one for one in caplog.records if one.name.endswith("security")]


def test_recorded_without_token(dispatch: Dispatch, tmp_path: Path) -> None:
    """A token is not in what is recorded."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        await peer.ask(get_result=await peer.call("echo", token="all-token"), token="all-token")
        for path in (tmp_path / "jobs").iterdir():
            assert b"all-token" not in path.read_bytes()

    dispatch(test, **TOKENS)


def test_tls(dispatch: Dispatch, certificates: Certificates) -> None:
    """The client port may speak TLS, with everything as ever."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer(ssl=certificates.client_context())
        job_id = await peer.call("count", 1000)
        peer.send(follow_stream=job_id, since=0)
        packets, end = await peer.stream()
        assert [number for number, _ in packets] == list(range(1000))
        assert end == {"result": 1000}
        plain = await kit.peer()
        plain.send(hosts="*")
        assert b"hosts" not in await plain.rest()

    dispatch(test, certfile=certificates.server_file, keyfile=certificates.server_file)


def tls_options(certificates: Certificates) -> dict[str, Any]:
    """Return the options for TLS with certificates of clients."""
    return {
        "certfile": certificates.server_file,
        "keyfile": certificates.server_file,
        "client_ca_file": certificates.ca_file,
    }


def test_client_certificates(dispatch: Dispatch, certificates: Certificates) -> None:
    """With an authority for clients, only its certificates are let in."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer(ssl=certificates.client_context(certificate=True))
        assert await peer.result(await peer.call("echo", 1)) == {"result": [1]}
        # In TLS 1.3 the client learns of it when it reads.
        stranger = await kit.peer(ssl=certificates.client_context())
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await stranger.ask(hosts="*")

    dispatch(test, **tls_options(certificates))


@pytest.mark.parametrize("name", [CLIENT_NAME, "somebody.else"])
def test_rules_of_certificates(dispatch: Dispatch, certificates: Certificates, name: str) -> None:
    """Rules for certificates go by the names in them."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer(ssl=certificates.client_context(certificate=True))
        reply = await peer.ask(host="web01", procedure="count", arguments=[1])
        if name == "somebody.else":
            assert reply["error"]["type"] == "auth_error"
        else:
            assert reply["error"]["type"] == "access_denied"
            assert await peer.result(await peer.call("echo", 1)) == {"result": [1]}

    rule = Rule(name, procedures=("echo",))
    dispatch(test, certificates=(rule,), **tls_options(certificates))


def test_certificate_or_token(dispatch: Dispatch, certificates: Certificates) -> None:
    """Where there are both, either does."""

    async def test(kit: Kit) -> None:
        with_token = await kit.peer(ssl=certificates.client_context())
        await with_token.call("echo", token="all-token")
        assert (await with_token.ask(hosts="*"))["error"]["type"] == "auth_error"
        with_certificate = await kit.peer(ssl=certificates.client_context(certificate=True))
        await with_certificate.call("echo")
        reply = await with_certificate.ask(hosts="*", token="wrong")
        assert reply["error"]["type"] == "auth_error"

    dispatch(test, **TOKENS, **tls_options(certificates))


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"listen": (Listen("127.0.0.1", 0),)}, None),
        ({"listen": (Listen("", 0),)}, "anybody who reaches *:0"),
        ({"listen": (Listen("0.0.0.0", 0),)}, "anybody who reaches 0.0.0.0:0"),
        ({"listen": (Listen("", 0),), **TOKENS}, "tokens travel in clear"),
        ({"listen": (Listen("127.0.0.1", 0),), **TOKENS}, None),
    ],
)
def test_warning(
    dispatch: Dispatch,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    warning: str | None,
) -> None:
    """Listening to the world without security prints a warning."""

    async def test(kit: Kit) -> None:
        pass

    dispatch(test, **options)
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == (warning is not None)
    assert all(warning in one for one in warnings if warning)


def test_bad_certificates(tmp_path: Path) -> None:
    """Files that hold no certificates are named before anything starts."""
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    options: list[dict[str, Any]] = [
        {"ca_file": bad},
        {"known_certs_file": bad},
        {"ca_file": tmp_path / "none"},
        {"certfile": bad, "keyfile": bad},
    ]
    for one in options:
        with pytest.raises(ConfigError, match=next(iter(one))):
            Service(Config(**one))


def test_secrets_in_answers(dispatch: Dispatch) -> None:
    """What is wrong with a request is told without its token."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for fields in ({"token": 1}, {"token": "t" * 5000}, {"token": "hidden", "cancel": 1}):
            reply = await peer.ask(**{"hosts": "*", **fields})
            assert "hidden" not in json.dumps(reply)
            assert "ttt" not in json.dumps(reply)

    dispatch(test, **TOKENS)
