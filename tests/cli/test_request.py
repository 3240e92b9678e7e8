import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, Execute, Invoke, OnTerminal
from tests.servers import Certificates, EchoServer, Receive, response, response_head
from tests.servers.fixtures import StartScripted

REQUEST = ("request", "GET", "/x")


def answer(result: Any) -> Any:
    """Return the JSON that a command printed."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_get(invoke: Invoke, echo: EchoServer) -> None:
    """A call prints the answer, laid out, with query and headers as told."""
    result = invoke(
        "request", "get", "/x?a=0", "--host", echo.address, "--param", "a=1", "--param", "b=x=y z",
        "-H", "X-One: 1", "--header", "x-two:2 ",
    )  # fmt: skip
    got = answer(result)
    assert result.stdout.startswith('{\n  "method": "GET",\n')
    assert got["query"] == {"a": ["0", "1"], "b": ["x=y z"]}
    assert got["headers"]["x-one"] == "1"
    assert got["headers"]["x-two"] == "2"
    assert result.stderr == ""


@pytest.mark.parametrize("where", ["inline", "file", "stdin"])
@pytest.mark.parametrize(
    ("option", "kind"),
    [("--json", "application/json"), ("-d", "application/x-www-form-urlencoded")],
)
def test_bodies(
    invoke: Invoke, echo: EchoServer, tmp_path: Path, where: str, option: str, kind: str
) -> None:
    """A body is given inline, by a file or on the standard input, and goes as it is."""
    text = '{"a": 1.50, "a": "\u00e9"}'
    (tmp_path / "body").write_text(text, "utf-8")
    value = {"inline": text, "file": f"@{tmp_path / 'body'}", "stdin": "-"}[where]
    got = answer(
        invoke("request", "POST", "/", "--host", echo.address, option, value, input=text.encode())
    )
    assert got["headers"]["content-type"] == kind
    assert got["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_content_type_may_be_given(invoke: Invoke, echo: EchoServer) -> None:
    """A header says what type a body has."""
    got = answer(
        invoke(
            "request", "PUT", "/", "--host", echo.address, "-d", "x", "-H", "content-type: text/csv"
        )
    )
    assert got["headers"]["content-type"] == "text/csv"


def test_failover(invoke: Invoke, echo: EchoServer, refusing: tuple[str, int]) -> None:
    """When one host refuses, another answers, and --explain shows both attempts."""
    dead = f"{refusing[0]}:{refusing[1]}"
    result = invoke(
        *REQUEST, "--host", dead, "--host", echo.address, "--balancer", "round-robin", "--explain"
    )
    assert answer(result)["path"] == "/x"
    head, _, first, second = result.stderr.splitlines()
    assert head.split() == ["attempt", "endpoint", "outcome", "ms"]
    assert first.split()[:4] == ["1", dead, "connection", "refused"]
    assert second.split()[:3] == ["2", echo.address, "200"]


@pytest.mark.parametrize("explain", [False, True])
def test_failure(invoke: Invoke, refusing: tuple[str, int], explain: bool) -> None:
    """A failed call ends with status 1 and a sentence that names host and attempts."""
    dead = f"{refusing[0]}:{refusing[1]}"
    options = ("--explain",) if explain else ()
    result = invoke(*REQUEST, "--host", dead, "--retries", "1", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    *table, sentence = result.stderr.splitlines()
    assert sentence.startswith(f"holdfast: GET /x: {dead}: ")
    assert len(table) == (4 if explain else 0)
    assert ("[2 attempts: 1. " in sentence) is not explain


def test_timeout(invoke: Invoke, echo: EchoServer) -> None:
    """The whole call ends within the time that is given."""
    result = invoke("request", "GET", "/slow", "--host", echo.address, "--timeout", "0.05")
    assert result.exit_code == 1
    assert "deadline" in result.stderr


@pytest.mark.parametrize("retries", [0, 1])
def test_retries(invoke: Invoke, echo: EchoServer, retries: int) -> None:
    """So many further attempts are made."""
    result = invoke(
        "request", "GET", "/status/503", "--host", echo.address, "--retries", str(retries)
    )
    assert answer(result)["path"] == "/status/503"
    assert echo.request_count == 1 + retries


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (302, 0), (404, 3), (500, 4), (503, 4)])
@pytest.mark.parametrize("output", [False, True])
def test_fail(
    invoke: Invoke, echo: EchoServer, tmp_path: Path, status: int, expected: int, output: bool
) -> None:
    """With --fail the status of the answer becomes that of the command, and no body is written."""
    file = tmp_path / "body"
    options = ("-o", str(file)) if output else ()
    result = invoke("request", "GET", f"/status/{status}", "--host", echo.address, "-f", *options)
    assert result.exit_code == expected
    assert bool(result.stdout or file.exists()) == (expected == 0)
    assert bool(expected) == (f"holdfast: {status} " in result.stderr)


def test_include(invoke: Invoke, echo: EchoServer) -> None:
    """With --include the status line and the headers come first."""
    result = invoke("request", "GET", "/bytes/3", "--host", echo.address, "-i")
    head, body = result.stdout_bytes.split(b"\n\n", 1)
    assert head.splitlines()[0] == b"HTTP/1.1 200 OK"
    assert b"Content-Length: 3" in head.splitlines()
    assert len(body) == 3


def test_follow(invoke: Invoke, echo: EchoServer) -> None:
    """Redirects are followed when asked for."""
    redirect = ("request", "GET", "/redirect/302?to=/there", "--host", echo.address)
    assert invoke(*redirect).stdout == "{}\n"
    assert answer(invoke(*redirect, "--follow"))["path"] == "/there"


def test_bytes_go_through_pipes_untouched(execute: Execute, echo: EchoServer) -> None:
    """What is no JSON is piped as it came."""
    done = execute("request", "GET", "/bytes/70000", "--host", echo.address)
    assert (done.returncode, len(done.stdout)) == (0, 70000)
    again = execute("request", "GET", "/chunked/70000", "--host", echo.address, "-o", "-")
    assert again.stdout == done.stdout


def test_output(execute: Execute, echo: EchoServer, tmp_path: Path) -> None:
    """A body is streamed to a file, untouched even if it is JSON."""
    file = tmp_path / "body"
    done = execute("request", "GET", "/x", "--host", echo.address, "--output", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert b"\n" not in file.read_bytes()
    assert json.loads(file.read_bytes())["path"] == "/x"


def test_output_that_breaks_off(invoke: Invoke, scripted: StartScripted, tmp_path: Path) -> None:
    """A body that breaks off is an error that tells how much of it the file has."""
    server = scripted([Receive(), response_head(200, [("Content-Length", "20")]) + b"x" * 10])
    file = tmp_path / "body"
    result = invoke(*REQUEST, "--host", server.address, "-o", str(file))
    assert result.exit_code == 1
    assert f"{file} has the first 10 bytes only" in result.stderr
    assert server.address in result.stderr
    assert "[1 attempt: 1. " in result.stderr


def test_output_that_cannot_be_written(invoke: Invoke, echo: EchoServer, tmp_path: Path) -> None:
    """A file that cannot be written is named."""
    file = tmp_path / "nowhere" / "body"
    result = invoke(*REQUEST, "--host", echo.address, "-o", str(file))
    assert result.exit_code == 1
    assert result.stderr == f"holdfast: {file} cannot be written: No such file or directory\n"


def test_reader_that_leaves(echo: EchoServer) -> None:
    """When who reads the output has gone, nothing is said about it."""
    process = subprocess.Popen(
        [*COMMAND, "request", "GET", "/bytes/10000000", "--host", echo.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_json_on_a_terminal(on_terminal: OnTerminal, echo: EchoServer) -> None:
    """On a terminal JSON has colours."""
    status, seen = on_terminal(*REQUEST, "--host", echo.address)
    assert status == 0
    assert '\x1b[1;34m"method"\x1b[0m: \x1b[32m"GET"' in seen


def test_text_on_a_terminal(on_terminal: OnTerminal, scripted: StartScripted) -> None:
    """Text cannot take the terminal over, and ends its line."""
    body = b"caf\xc3\xa9\r\n\x1b[2J\x9b"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Evil", "\x9b2J")]
    server = scripted([Receive(), response(200, body, headers=headers), Receive()])
    status, seen = on_terminal(*REQUEST, "--host", server.address, "-i")
    assert status == 0
    assert seen.endswith("\n\ncafé\n\\x1b[2J\ufffd\n")
    assert "\\x9b2J" in seen
    assert "\x1b" not in seen


@pytest.mark.slow
def test_bytes_on_a_terminal(on_terminal: OnTerminal, echo: EchoServer) -> None:
    """Bytes are not shown on a terminal, but --output writes them and says how many."""
    get = ("request", "GET", "/bytes/1000", "--host", echo.address)
    status, seen = on_terminal(*get)
    assert status == 0
    assert "1,000 bytes" in seen
    assert "--output FILE" in seen
    assert on_terminal(*get, "-o", "/dev/null") == (0, "1,000 bytes in /dev/null\n")


def test_tls(invoke: Invoke, certificates: Certificates) -> None:
    """The certificate is checked, against --ca if given, unless --no-verify."""
    with EchoServer(tls=certificates.server_context()) as server:
        call = (*REQUEST, "--host", f"https://localhost:{server.port}", "--retries", "0")
        refused = invoke(*call)
        assert refused.exit_code == 1
        assert "certificate" in refused.stderr
        assert invoke(*call, "--ca", str(certificates.ca_file)).exit_code == 0
        assert invoke(*call, "--no-verify").exit_code == 0
        server.failures.clear()


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "options",
    [
        ("--auth", f"me:{SECRET}"),
        ("--bearer", SECRET),
        ("-H", f"Authorization: Bearer {SECRET}"),
        ("-H", f"X-Key: {SECRET}\x01"),
        ("-H", SECRET),
        ("--param", SECRET),
        ("--param", f"key={SECRET}"),
        ("-d", SECRET),
        ("-j", SECRET),
        ("--host", f"http://me:{SECRET}@127.0.0.1:1"),
        ("--host", f"http://me:{SECRET}@127.0.0.1:1", "--host", f"http://me:{SECRET}@127.0.0.1:1"),
        ("--host", f"http://me:{SECRET}@127.0.0.1:99999"),
        ("--host", f"me:{SECRET}@[::zz]:1"),
        ("--auth", f"me:{SECRET}", "--bearer", SECRET),
    ],
)
def test_secrets_are_never_printed(
    invoke: Invoke, refusing: tuple[str, int], options: tuple[str, ...]
) -> None:
    """No message repeats a credential, a header's value or a body."""
    result = invoke(
        "request", "POST", f"/x?key={SECRET}", "--host", f"{refusing[0]}:{refusing[1]}",
        "--explain", *options,
    )  # fmt: skip
    assert result.exit_code in (1, 2)
    assert SECRET not in result.output


def test_credentials_are_sent(invoke: Invoke, echo: EchoServer) -> None:
    """Credentials come from an option, from the environment or from a prompt."""
    call = (*REQUEST, "--host", echo.address)

    def sent(*options: str, **how: Any) -> str:
        return str(answer(invoke(*call, *options, **how))["headers"]["authorization"])

    assert sent("--auth", "me:pass") == "Basic bWU6cGFzcw=="
    assert sent("--auth", "me", input=b"pass\n") == "Basic bWU6cGFzcw=="
    assert sent("--bearer", "abc") == "Bearer abc"
    assert sent(env={"HOLDFAST_BEARER": "abc"}) == "Bearer abc"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("GET", "/x"), "--host"),
        (("GET", "http://me:pw@a:1/x?y", "--host", "b"), "give /x as PATH, and --host http://a:1."),
        (("GET", "/x", "--host", "a", "-H", "nonsense"), "--header"),
        (("GET", "/x", "--host", "a", "--param", "nonsense"), "--param"),
        (("GET", "/x", "--host", "a", "-j", "{"), "not JSON"),
        (("GET", "/x", "--host", "a", "-j", "1", "-d", "1"), "not both"),
        (("GET", "/x", "--host", "a", "-d", "@/nonsense"), "No such file"),
        (("GET", "/x", "--host", "a", "--ca", "/nonsense"), "--ca"),
        (("GET", "/x", "--host", "a", "--ca", __file__), "--ca"),
        (("GET", "/x", "--host", "a", "--ca", __file__, "--no-verify"), "not both"),
        (("GET", "/x", "--host", "a", "--timeout", "0"), "--timeout"),
        (("GET", "/x", "--host", "ftp://a"), "http or https"),
        (("G E T", "/x", "--host", "a"), "not an HTTP method"),
        (("GET", "/x", "--host", "a", "-H", "Content-Length: 3"), "content-length"),
    ],
)
def test_usage(invoke: Invoke, arguments: tuple[str, ...], said: str) -> None:
    """What makes no request is a usage error that says what is wrong."""
    result = invoke("request", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
