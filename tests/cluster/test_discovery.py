"""Where hosts come from: lists, functions, DNS and files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest

from holdfast.cluster.discovery import DNS, Discovery, File, Function, Static
from holdfast.cluster.hosts import Host
from holdfast.drivers import blocking
from holdfast.drivers.simulated import World
from holdfast.errors import ResolveError
from tests.cluster.nameserver import NameServer, name_server


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    """Run one name server for all tests; each has names of its own."""
    with name_server() as names:
        yield names


@pytest.fixture
def names(server: NameServer) -> NameServer:
    """Return the name server as new."""
    server.zone.clear()
    server.asked.clear()
    server.fails = server.silent = server.truncates = False
    return server


def found(discovery: Discovery) -> tuple[list[str], float]:
    """Return what a discovery finds."""
    hosts, seconds = blocking.run(discovery.refresh())
    return [repr(host)[5:-1].replace("'", "") for host in hosts], seconds


# --- lists and functions ----------------------------------------------------------------------


def test_a_list_stays() -> None:
    """It is never asked for again."""
    assert found(Static(["a:1", {"address": "b", "weight": 2}])) == (["a:1", "b, weight=2"], inf)
    assert found(Static("a:1")) == (["a:1"], inf)
    assert repr(Static(["a"])) == "Static([Host('a')])"


def test_a_function_is_asked_every_interval() -> None:
    """It may return whatever hosts can be given as, and is called under every driver."""
    hosts: list[Any] = ["a:1"]
    discovery = Function(lambda: hosts, interval=7)
    assert found(discovery) == (["a:1"], 7)
    hosts.append(Host("b", 2.0))
    assert World().run(discovery.refresh()) == ([Host("a:1"), Host("b", 2.0)], 7)
    assert found(Function(lambda: "a:1")) == (["a:1"], 30)
    assert found(Function(lambda: (host for host in "ab"))) == (["a", "b"], 30)


@pytest.mark.parametrize("returned", [None, 7, {"a:1": 2}, b"a:1", Host("a"), ["a", None]])
def test_a_function_that_returns_no_hosts(returned: Any) -> None:
    """What it returns is refused when it is no list of hosts."""
    with pytest.raises(ValueError, match=r"must return a list of hosts|Host: address"):
        found(Function(lambda: returned))


def test_a_coroutine_function_is_refused() -> None:
    """Nobody would await it in the upkeep's thread."""

    async def hosts() -> list[str]:
        return ["a"]

    with pytest.raises(ValueError, match="coroutine function"):
        found(Function(hosts))  # type: ignore[arg-type]


def test_what_a_function_raises_comes_out() -> None:
    """The upkeep reports it."""

    def broken() -> list[str]:
        raise RuntimeError("no registry")

    with pytest.raises(RuntimeError, match="no registry"):
        found(Function(broken))


# --- files ------------------------------------------------------------------------------------


def write(path: Path, text: str) -> None:
    """Replace a file as one should."""
    other = path.with_name("new")
    other.write_text(text)
    other.replace(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hosts.json", json.dumps(["a:1", {"address": "b", "weight": 2, "priority": 1}])),
        (
            "hosts.json",
            json.dumps({"hosts": ["a:1", {"address": "b", "weight": 2, "priority": 1}]}),
        ),
        ("hosts.toml", 'hosts = ["a:1", {address = "b", weight = 2, priority = 1}]'),
        ("hosts.toml", '[[hosts]]\naddress = "a:1"\n[[hosts]]\naddress="b"\nweight=2\npriority=1'),
    ],
)
def test_a_file_lists_hosts(tmp_path: Path, name: str, text: str) -> None:
    """JSON and TOML, by the suffix."""
    path = tmp_path / name
    path.write_text(text)
    assert found(File(path)) == (["a:1", "b, weight=2, priority=1"], 1)
    assert found(File(str(path), interval=0.5)) == (["a:1", "b, weight=2, priority=1"], 0.5)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """Also when it was replaced by one of the same size, or written in place."""
    path = tmp_path / "hosts.json"
    discovery = File(path)
    for text in ('["a:1"]', '["b:1"]', '["c:1"]'):
        write(path, text)
        assert found(discovery)[0] == json.loads(text)
    path.write_text('["d:1"]')
    assert found(discovery)[0] == ["d:1"]


def test_a_second_change_within_the_clocks_tick(tmp_path: Path) -> None:
    """What cannot be told from the state before by time and size is found at the next look."""
    path = tmp_path / "hosts.json"
    path.write_text('["a:1"]')
    discovery = File(path)
    found(discovery)
    discovery._seen = None
    path.write_text('["b:1"]')
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        discovery._seen = (
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            status.st_size,
        )
    assert found(discovery)[0] == ["b:1"]


def test_an_unchanged_file_is_not_read(tmp_path: Path) -> None:
    """Only its state is looked at, once it was read again after a change."""
    path = tmp_path / "hosts.json"
    path.write_text('["a:1"]')
    discovery = File(path)
    first = blocking.run(discovery.refresh())[0]
    second = blocking.run(discovery.refresh())[0]
    third = blocking.run(discovery.refresh())[0]
    assert first == second
    assert third is second


@pytest.mark.parametrize(
    "text", ["", "[", '{"host": []}', '"a:1"', '[{"adress": "a"}]', "[7]", "[" * 100_000]
)
def test_a_broken_file_keeps_the_last_good_list(tmp_path: Path, text: str) -> None:
    """It is an error once, which names the file; then the old hosts are there as before."""
    path = tmp_path / "hosts.json"
    discovery = File(path)
    write(path, text)
    for _ in range(3):  # nothing to go on with
        with pytest.raises(ValueError, match=r"hosts\.json: "):
            found(discovery)
    write(path, '["a:1"]')
    assert found(discovery) == (["a:1"], 1)
    write(path, text)
    with pytest.raises(ValueError, match=r"hosts\.json: "):
        found(discovery)
    for _ in range(3):
        assert found(discovery) == (["a:1"], 1)
    write(path, '["b:1"]')
    assert found(discovery) == (["b:1"], 1)


def test_a_broken_toml_file(tmp_path: Path) -> None:
    """The same holds for TOML, and for what is no text."""
    path = tmp_path / "hosts.toml"
    for data in (b"hosts = [", b"\xff\xfe", b"host = []"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"hosts\.toml: "):
            found(File(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """That is an OSError, and no end: it may come."""
    path = tmp_path / "hosts.json"
    discovery = File(path)
    with pytest.raises(FileNotFoundError):
        found(discovery)
    path.write_text('["a"]')
    assert found(discovery)[0] == ["a"]


# --- DNS --------------------------------------------------------------------------------------


def test_addresses(names: NameServer) -> None:
    """A and AAAA list hosts, in one order however the server turns them, for their TTL."""
    names.zone["web.test", "A"] = 60, ["10.0.0.2", "10.0.0.1"]
    names.zone["web.test", "AAAA"] = 30, ["fd00::2"]
    resolver = names.resolver()
    assert found(DNS("web.test", 8080, resolver=resolver)) == (
        ["10.0.0.1:8080", "10.0.0.2:8080"],
        60,
    )
    assert found(DNS("web.test", kind="AAAA", port=80, resolver=resolver)) == (["[fd00::2]:80"], 30)
    assert found(DNS("web.test", resolver=resolver)) == (["10.0.0.1", "10.0.0.2"], 60)
    assert found(DNS("web.test", kind="AAAA", scheme="https", resolver=resolver))[0] == [
        "https://[fd00::2]"
    ]


def test_addresses_of_the_only_kind_there_is(names: NameServer) -> None:
    """Where there is no A there may be AAAA."""
    names.zone["six.test", "AAAA"] = 30, ["fd00::2", "fd00::1"]
    assert found(DNS("six.test", resolver=names.resolver())) == (["[fd00::1]", "[fd00::2]"], 30)
    assert [kind for _, _, kind in names.asked] == ["A", "AAAA"]
    with pytest.raises(ResolveError, match=r"six\.test: the name has no A record"):
        found(DNS("six.test", kind="A", resolver=names.resolver()))


def test_services(names: NameServer) -> None:
    """SRV has ports and weights, and priorities, which become 0, 1, 2."""
    names.zone["_http._tcp.web.test", "SRV"] = (
        20,
        [
            "20 5 8080 b.test.",
            "10 60 8080 c.test.",
            "10 0 8081 a.test.",
            "30 1 8080 c.test.",
        ],
    )
    expected = ["a.test:8081", "c.test:8080, weight=60", "b.test:8080, weight=5, priority=1"]
    kinds: tuple[Any, ...] = ("SRV", None)
    for kind in kinds:
        discovery = DNS("_http._tcp.web.test", kind=kind, resolver=names.resolver())
        assert found(discovery) == (expected, 20)


def test_a_service_that_there_is_not(names: NameServer) -> None:
    """The root as the target says so: no host is listed."""
    names.zone["_http._tcp.web.test", "SRV"] = 20, ["0 0 0 ."]
    assert found(DNS("_http._tcp.web.test", resolver=names.resolver())) == ([], 20)


def test_names_in_capitals_are_the_same_names(names: NameServer) -> None:
    """A service that is listed twice is one host."""
    records = ["10 5 80 A.test.", "10 6 80 a.test."]
    names.zone["_http._tcp.web.test", "SRV"] = 20, records
    resolver = names.resolver()
    assert found(DNS("_http._tcp.web.test", resolver=resolver))[0] == ["a.test:80, weight=11"]


@pytest.mark.parametrize("target", ["evil/admin", "me:secret@evil", "unix:/run/x", "a b", "[x]"])
def test_a_service_of_what_is_no_host_name(names: NameServer, target: str) -> None:
    """Whoever answers may say where a host is, but not what else an address can say."""
    escaped = "".join(f"\\{ord(one):03d}" for one in target)
    names.zone["_http._tcp.web.test", "SRV"] = 20, [f"10 5 80 {escaped}.test."]
    with pytest.raises(ResolveError, match=r"web\.test: the record .* names no host"):
        found(DNS("_http._tcp.web.test", resolver=names.resolver()))


@pytest.mark.parametrize(("ttl", "seconds"), [(0, 1), (1, 1), (300, 300), (86400, 300)])
def test_the_time_to_live_has_bounds(names: NameServer, ttl: int, seconds: float) -> None:
    """Nobody is asked more than once a second, or less than every five minutes."""
    names.zone["web.test", "A"] = ttl, ["10.0.0.1"]
    assert found(DNS("web.test", resolver=names.resolver()))[1] == seconds


def test_a_long_answer_comes_over_tcp(names: NameServer) -> None:
    """What does not fit into a datagram is asked for again."""
    names.zone["web.test", "A"] = 60, [f"10.0.{n}.1" for n in range(200)]
    names.truncates = True
    hosts, _ = found(DNS("web.test", resolver=names.resolver()))
    assert len(hosts) == 200
    assert [transport for transport, _, _ in names.asked] == ["udp", "tcp"]


def test_names_that_nobody_knows(names: NameServer) -> None:
    """A name that does not exist, a server that fails: both are errors that name the name."""
    with pytest.raises(ResolveError, match=r"web\.test: .*does not exist"):
        found(DNS("web.test", resolver=names.resolver()))
    names.fails = True
    with pytest.raises(ResolveError, match=r"web\.test: .*SERVFAIL"):
        found(DNS("web.test", resolver=names.resolver()))


def test_a_silent_server(names: NameServer) -> None:
    """Its silence is borne for the time limit."""
    names.silent = True
    with pytest.raises(ResolveError, match=r"web\.test: .*expired"):
        found(DNS("web.test", resolver=names.resolver(), timeout=0.05))


def test_dns_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error at once says what to install."""
    monkeypatch.setitem(sys.modules, "dns.resolver", None)
    with pytest.raises(ImportError, match=r"holdfast\[dns\]"):
        DNS("web.test")


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "fields", "message"),
    [
        (Function, (None,), {}, "Function: function .*None"),
        (Function, (list, 0), {}, "Function: interval .*0"),
        (File, ("hosts.yaml",), {}, "File: path .*'hosts.yaml'"),
        (File, ("hosts.json", -1), {}, "File: interval .*-1"),
        (DNS, ("",), {}, "DNS: name .*''"),
        (DNS, ("a", 0), {}, "DNS: port .*0"),
        (DNS, ("a", 1 << 16), {}, "DNS: port .*65536"),
        (DNS, ("a", True), {}, "DNS: port .*True"),
        (DNS, ("_a", 80), {}, "DNS: port .*80"),
        (DNS, ("a",), {"kind": "MX"}, "DNS: kind .*'MX'"),
        (DNS, ("a",), {"scheme": "ftp"}, "DNS: scheme .*'ftp'"),
        (DNS, ("a",), {"timeout": 0}, "DNS: timeout .*0"),
        (Static, (["a", 7],), {}, "Host: address .*7"),
    ],
)
def test_wrong_values_are_refused(
    kind: type[Any], arguments: tuple[Any, ...], fields: dict[str, Any], message: str
) -> None:
    """An error names the class, the field and the value."""
    with pytest.raises(ValueError, match=f"^{message}"):
        kind(*arguments, **fields)


def test_they_show_themselves() -> None:
    """Each prints what it was made of, but no arguments, which may be secret."""
    bound = Function(partial(list, "secret"), 5)
    assert repr(bound) == "Function(partial, interval=5)"
    assert repr(Function(list, 5)) == "Function(list, interval=5)"
    assert repr(File("a.json")) == "File('a.json', interval=1)"
    assert repr(DNS("a", 80, "A")) == "DNS('a', port=80, kind='A')"
