"""Run every Python example of the README, and of the page on blocks, against live servers.

An example is a script of its own: it sees only `hosts`, three "127.0.0.1:port" strings, and
`services`, the URLs of three block services, and may use `await` at the top level. Each host
answers every path with a JSON echo of the request; `/status/N` answers with status N, and
`/bytes/N` with N bytes.
"""

import ast
import asyncio
import inspect
import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "docs" / "blocks.md"]


class Example(NamedTuple):
    page: Path
    heading: str
    line: int
    source: str

    @property
    def name(self) -> str:
        return f"{re.sub(r'[^a-z0-9]+', '-', self.heading.lower()).strip('-')}:{self.line}"


def examples(page: Path) -> Iterator[Example]:
    """Yield the blocks fenced as ```python, each with its heading and its first line."""
    text = page.read_text(encoding="utf-8")
    heading, language, fence, start = "", "", None, 0
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if fence is None and (opened := re.match(r"(```+|~~~+)(.*)", line)):
            fence, language, start = opened[1], opened[2].strip(), number
        elif fence is None and (title := re.match(r"#+ (.*)", line)):
            heading = title[1]
        elif fence is not None and line.rstrip() == fence:
            if language == "python":
                yield Example(page, heading, start + 1, "\n".join(lines[start : number - 1]))
            fence = None


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one piece

    def answer(self) -> None:
        body = self.received()
        target = urlsplit(self.path)
        asked = re.fullmatch(r"/(status|bytes)/(\d+)", target.path)
        status, kind = 200, "application/json"
        if asked and asked[1] == "bytes":
            kind, content = "application/octet-stream", bytes(int(asked[2]))
        else:
            if asked:
                status = int(asked[2])
            content = json.dumps(
                {
                    "method": self.command,
                    "path": target.path,
                    "query": dict(parse_qsl(target.query, keep_blank_values=True)),
                    "body": body,
                }
            ).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def received(self) -> object:
        """Read the request's body and return it as JSON, else as text, else as None."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            content = b"".join(iter(self.chunk, b""))
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not content:
            return None
        try:
            decoded: object = json.loads(content)
        except ValueError:
            return content.decode(errors="replace")
        return decoded

    def chunk(self) -> bytes:
        content = self.rfile.read(int(self.rfile.readline().split(b";")[0], 16))
        self.rfile.readline()
        return content

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what a test prints is the example's."""


class EchoServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # examples connect in bursts


@contextmanager
def serving() -> Iterator[str]:
    """Serve echoes from a thread and give the server's "127.0.0.1:port"."""
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[str]]:
    """Give the addresses of three live servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving()) for _ in range(3)]


@pytest.fixture(scope="module")
def services() -> Iterator[list[str]]:
    """Give the URLs of three live block services."""
    pytest.importorskip("uvicorn", reason="the services of blocks need it")
    from holdfast.blocks.server.memory import MemoryVolume
    from tests.blocks.server.services import QUIET, running

    with ExitStack() as stack:
        yield [stack.enter_context(running([MemoryVolume()], QUIET)).url for _ in range(3)]


def run(example: Example, namespace: dict[str, object]) -> None:
    """Run an example as a script whose lines count as in the README, for tracebacks."""
    source = "\n" * (example.line - 1) + example.source
    code = compile(
        source, str(example.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    result = eval(code, namespace)
    if inspect.iscoroutine(result):
        asyncio.run(result)


EXAMPLES = [example for page in PAGES for example in examples(page)]


def test_pages_have_examples() -> None:
    """Each page shows how it is used."""
    assert {example.page for example in EXAMPLES} == set(PAGES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(
    example: Example,
    hosts: list[str],
    services: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An example runs as it stands."""
    monkeypatch.chdir(tmp_path)
    run(example, {"__name__": "__main__", "hosts": list(hosts), "services": list(services)})


def test_commands() -> None:
    """Every `make` command that the README names exists."""
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(code(README.read_text("utf-8")))))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert named <= targets


def code(text: str) -> Iterator[str]:
    """Yield what stands in fences and in backticks."""
    yield from re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", text)
