"""Client, dispatcher and host daemons, each as it is used: as processes, over TCP and TLS."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import trustme

from holdfast.jobs import (
    CALL_CANCELLED,
    CALL_NOT_FINISHED,
    CancelledException,
    CommunicationError,
    HarpCaller,
    RemoteCall,
    RemoteError,
    RemoteException,
)
from holdfast.jobs.dispatcher.administration import ask
from holdfast.jobs.dispatcher.rules import hash_token
from tests.faults.proxy import Fault, FaultProxy
from tests.jobs.agent.daemons import until, wait_for_exit
from tests.jobs.site import Line, Site, registered, running
from tests.servers.certificates import Certificates
from tests.servers.fixtures import StartFaultProxy
from tests.servers.ports import refusing_address, unanswering_address

LIMIT = 30.0

NewLine = Callable[[], Line]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Site]:
    """Give a site that tests share, with hosts that are wrong in one way each."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("site")
        _, refuses = stack.enter_context(refusing_address())
        _, silent = stack.enter_context(unanswering_address())
        more = registered("refuses", refuses) + registered("silent", silent)
        site = stack.enter_context(running(folder, certificates, 2, more))
        locked = registered("locked", site.agents[0].port, "a-guess")
        with (folder / "hosts").open("a") as hosts:
            hosts.write(locked)
        site.dispatcher.kill()
        site.dispatcher.start()
        yield site


@pytest.fixture
def rpc(site: Site) -> Iterator[HarpCaller]:
    """Give a client of the shared site."""
    with site.caller() as caller:
        yield caller


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Site]:
    """Give a site with one host, for what is well again after it was treated badly."""
    with running(tmp_path_factory.mktemp("lasting"), certificates) as site:
        yield site


@pytest.fixture
def own(tmp_path: Path, certificates: Certificates) -> Iterator[Site]:
    """Give a site with one host, to be treated badly."""
    with running(tmp_path, certificates) as site:
        yield site


@pytest.fixture
def line(tmp_path: Path) -> Iterator[NewLine]:
    """Give a function that makes named pipes."""
    with ExitStack() as stack:
        made: list[Line] = []

        def make() -> Line:
            made.append(stack.enter_context(Line(tmp_path / f"line{len(made)}")))
            return made[-1]

        yield make


class Follower:
    """Follows a job on a thread of its own; `next` waits for a packet, `all` for the end."""

    def __init__(self, site: Site | FaultProxy, job: RemoteCall) -> None:
        self.seen: list[tuple[int, Any]] = []
        self._coming: SimpleQueue[tuple[int, Any] | None] = SimpleQueue()
        self._job = job.id()
        self._ended: Future[Any] = Future()
        threading.Thread(target=self._follow, args=(site,), daemon=True).start()

    def _follow(self, site: Site | FaultProxy) -> None:
        try:
            with HarpCaller(site.host, site.port) as caller:
                job = caller.job(self._job)
                for packet in job.follow(since=0, numbered=True):
                    self.seen.append(packet)
                    self._coming.put(packet)
                self._ended.set_result(job.result(wait=True))
        except BaseException as error:
            self._ended.set_exception(error)
        self._coming.put(None)

    def next(self) -> tuple[int, Any]:
        packet = self._coming.get(timeout=LIMIT)
        assert packet is not None, self._ended
        return packet

    def end(self) -> Any:
        return self._ended.result(LIMIT)


def error_of(job: RemoteCall) -> str:
    """Wait for a job's end, and return the type of its error."""
    result = job.result(wait=True)
    assert isinstance(result, RemoteError), result
    return result.type


def command(site: Site, name: str, **options: Any) -> list[Any]:
    """Give the dispatcher an administrative command."""
    return list(ask(site.dispatcher.socket, name, options, timeout=LIMIT))


# What comes of a call.


def test_results(rpc: HarpCaller) -> None:
    """A result comes back as it was returned, and the job can be asked for all it is."""
    value = ["ž\u2028\n\0😀", 2**70, -0.5, None, True, {"": [[]]}]
    job = rpc.web01(info={"user": 7}).echo(*value)
    assert job.get() == value
    assert rpc.job(job.id()).result() == value
    assert (job.host(), job.procedure(), job.args()) == ("web01", "echo", value)
    assert job.info() == {"user": 7}
    start, end = job.start_time(), job.end_time()
    assert start is not None
    assert end is not None
    assert job.submit_time() <= start <= end
    assert rpc.web02.echo(a=1, b=value).get() == {"a": 1, "b": value}
    large = "ž" * (250 << 10)
    assert rpc.web02.echo(large).get() == [large]


def test_exceptions(rpc: HarpCaller) -> None:
    """What a procedure raises is raised, also in the middle of its stream."""
    with pytest.raises(RemoteException, match="nothing here") as raised:
        rpc.web01.fails("nothing here").get()
    assert raised.value.type == "LookupError"
    job = rpc.web01.breaks()
    assert job.follow(since=0).all() == [0]
    end = job.result(wait=True)
    assert isinstance(end, RemoteException)
    assert (end.type, end.message) == ("LookupError", "in the middle")


@pytest.mark.parametrize(
    ("host", "procedure", "kind"),
    [
        ("nowhere", "echo", "unknown_host"),
        ("refuses", "echo", "network_error"),
        ("locked", "echo", "auth_error"),
        ("web01", "nothing", "no_such_procedure"),
        ("web01", "fails", "invalid_argument_list"),
    ],
)
def test_errors(rpc: HarpCaller, host: str, procedure: str, kind: str) -> None:
    """What the system cannot do is told by its type, and never with a password."""
    job = getattr(rpc.host(host), procedure)()
    with pytest.raises(RemoteError) as raised:
        job.get()
    assert raised.value.type == kind
    assert "a-guess" not in str(raised.value)


def test_two_followers(site: Site, rpc: HarpCaller, line: NewLine) -> None:
    """Two clients follow one stream as it comes, and both see all of it."""
    source = line()
    job = rpc.web01.relay(source.path)
    assert job.get(wait=False) is CALL_NOT_FINISHED
    followers = [Follower(site, job) for _ in range(2)]
    number, pid = followers[0].next()
    assert (number, followers[1].next()) == (0, (0, pid))
    for number, text in enumerate("abc", 1):
        source.say(text)
        assert [one.next() for one in followers] == [(number, text)] * 2
    assert job.stream(recent=2).all() == ["b", "c"]
    latest = job.follow(numbered=True)
    source.say("d")
    assert next(latest) == (4, "d")
    source.close()
    assert [one.end() for one in followers] == [4, 4]
    assert [one.seen for one in followers] == [[(0, pid), *enumerate("abcd", 1)]] * 2
    assert latest.all() == []
    assert rpc.job(job.id()).stream(since=3).all() == ["c", "d"]


@pytest.mark.slow
def test_long_stream(site: Site, rpc: HarpCaller) -> None:
    """A stream of many packets comes whole and in order to each of its followers."""
    count = 30_000
    job = rpc.web02.count(count)
    followers = [Follower(site, job) for _ in range(2)]
    assert [one.end() for one in followers] == [{"counted": count}] * 2
    expected = [(number, number) for number in range(count)]
    assert all(one.seen == expected for one in followers)


def test_group(rpc: HarpCaller) -> None:
    """A procedure is called on all hosts that a glob means."""
    outcomes = {one.host: one.result for one in rpc.group("web*").echo(1)}
    assert outcomes == {"web01": [1], "web02": [1]}
    outcomes = {one.host: one.result for one in rpc.group(["web02", "nowhere"]).echo(2)}
    assert outcomes["web02"] == [2]
    assert outcomes["nowhere"].type == "unknown_host"
    with pytest.raises(RemoteError, match="no host matches"):
        list(rpc.group("db*").echo(3))


# Queues, cancelling, limits.


def test_queue(rpc: HarpCaller, line: NewLine) -> None:
    """In a queue with a limit jobs start in order, one for each that ends or is cancelled."""
    lines = [line() for _ in range(5)]
    jobs = [
        rpc.host("web01", queue={"of": "relays"}, concurrency=2).relay(one.path) for one in lines
    ]

    def started(job: RemoteCall) -> None:
        with job.follow(since=0) as packets:
            next(packets)

    started(jobs[0])
    started(jobs[1])
    assert [job.start_time() for job in jobs[2:]] == [None] * 3
    assert jobs[2].cancel()
    assert jobs[2].result() is CALL_CANCELLED
    assert jobs[2].start_time() is None
    assert jobs[2].end_time() is not None
    lines[1].close()
    started(jobs[3])
    assert jobs[4].start_time() is None
    assert jobs[3].cancel()
    started(jobs[4])
    for one in lines:
        one.close()
    assert [jobs[number].get() for number in (0, 1, 4)] == [0, 0, 0]


@pytest.mark.slow
def test_queue_under_load(rpc: HarpCaller) -> None:
    """Never do more jobs of a queue run at once than it allows."""
    server = rpc.host("web01", queue={"of": "spans"}, concurrency=3)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: server.span(), range(40)))
    spans = [job.get() for job in jobs]
    for begin, _ in spans:
        assert sum(one <= begin < end for one, end in spans) <= 3


@pytest.mark.parametrize("procedure", ["hold", "relay", "stubborn"])
def test_cancel(rpc: HarpCaller, line: NewLine, procedure: str) -> None:
    """The process of a cancelled job is gone, whether or not it wants to."""
    pipe = line()
    call = getattr(rpc.web01, procedure)
    job = call() if procedure == "stubborn" else call(pipe.path)
    pid = int(pipe.hear() if procedure == "hold" else next(job.follow(since=0)))
    Path(f"/proc/{pid}/status").read_bytes()
    assert job.cancel()
    wait_for_exit(pid)
    with pytest.raises(CancelledException):
        job.get()
    assert not job.cancel()


def test_cancel_at_the_edges(rpc: HarpCaller) -> None:
    """A job is cancelled while its host is still being called, and is not after its end."""
    job = rpc.silent.echo()
    assert job.cancel()
    assert job.result() is CALL_CANCELLED
    job = rpc.web01.echo(1)
    assert job.get() == [1]
    assert not job.cancel()
    assert job.get() == [1]
    with pytest.raises(RemoteError, match="no job has this id"):
        rpc.job("a3f1c0de-0000-4000-8000-000000000001").get()


@pytest.mark.slow
def test_limits(rpc: HarpCaller, line: NewLine) -> None:
    """A job that is silent for too long, or takes too long, ends; its process is gone."""
    pipe = line()
    silent = rpc.host("web01", timeout=2).hold(pipe.path)
    pid = int(pipe.hear())
    chatty = rpc.host("web01", timeout=5, max_exec_time=2).chatters()
    # The time in the queue does not count.
    queued = rpc.host("web01", queue={"of": "waiting"}, timeout=2)
    other = line()
    first, second = queued.hold(other.path), queued.echo(1)
    assert [error_of(job) for job in (silent, chatty, first)] == ["timeout"] * 3
    assert second.get() == [1]
    wait_for_exit(pid)
    assert set(chatty.stream().all()) == {"x"}


# What breaks.


def test_agent_killed(own: Site, line: NewLine) -> None:
    """The job of a host that dies ends so, with all that was recorded; nothing is left there."""
    pipe = line()
    with own.caller() as rpc:
        job = rpc.web01.relay(pipe.path)
        follower = Follower(own, job)
        _, pid = follower.next()
        pipe.say("a")
        assert follower.next() == (1, "a")
        own.agents[0].process.kill()
        end = follower.end()
        assert isinstance(end, RemoteError)
        assert end.type == "network_error"
        wait_for_exit(pid)
        assert job.stream().all() == [pid, "a"]
        assert error_of(rpc.web01.echo()) == "network_error"


def test_stopped_in_order(own: Site, line: NewLine) -> None:
    """A host that stops says so, and so does a dispatcher; neither is taken for a lost one."""
    pipe = line()
    with own.caller() as rpc:
        job = rpc.web01.relay(pipe.path)
        follower = Follower(own, job)
        _, pid = follower.next()
        own.agents[0].signal(signal.SIGTERM)
        end = follower.end()
        assert isinstance(end, RemoteError)
        assert end.type == "shutdown"
        wait_for_exit(pid)
        assert job.result(wait=True).type == "shutdown"
        own.dispatcher.signal(signal.SIGTERM)
        assert own.dispatcher.wait() == 0
        with pytest.raises(CommunicationError):
            rpc.web01.echo()
        own.dispatcher.start()
        assert job.stream().all() == [pid]


@pytest.mark.slow
def test_agent_stopped(lasting: Site, line: NewLine) -> None:
    """A host that hangs is given up after the idle limit; the call ends when it goes on."""
    pipe = line()
    agent = lasting.agents[0].process
    with lasting.caller() as rpc:
        host = rpc.host("web01", timeout=2)
        job = host.relay(pipe.path)
        pid = next(job.follow(since=0))
        agent.send_signal(signal.SIGSTOP)
        try:
            waiting = host.echo()
            assert [error_of(job), error_of(waiting)] == ["timeout"] * 2
        finally:
            agent.send_signal(signal.SIGCONT)
        wait_for_exit(pid)
        assert rpc.web01.echo(1).get() == [1]


@pytest.mark.slow
def test_dispatcher_killed(lasting: Site, fault_proxy: StartFaultProxy, line: NewLine) -> None:
    """After a kill all is there that was recorded, and what ran says that it was interrupted."""
    pipe = line()
    with lasting.caller() as rpc:
        done = rpc.web01.count(500)
        assert done.get() == {"counted": 500}
        job = rpc.host("web01", queue={"of": "one"}).relay(pipe.path)
        waiting = rpc.host("web01", queue={"of": "one"}).echo()
        followers = [Follower(lasting, job) for _ in range(2)]
        _, pid = followers[0].next()
        pipe.say("a", "b")
        expected = [(0, pid), (1, "a"), (2, "b")]
        for one in followers:
            until(lambda one=one: len(one.seen) == 3)  # type: ignore[misc]
        # One that waits for nothing but the end; it has asked when it happens.
        proxy = fault_proxy(lasting)
        with HarpCaller(proxy.host, proxy.port) as other, ThreadPoolExecutor(1) as pool:
            result = pool.submit(other.job(job.id()).result, wait=True)
            proxy.wait_for(lambda: proxy.request_bytes > 0, LIMIT)
            lasting.dispatcher.kill()
            wait_for_exit(pid)
            lasting.dispatcher.start()
            ends = [one.end() for one in followers] + [result.result(LIMIT)]
        assert [end.type for end in ends] == ["missing_result"] * 3
        assert [one.seen for one in followers] == [expected] * 2
        assert error_of(waiting) == "missing_result"
        assert done.stream().all() == list(range(500))
        assert done.result() == {"counted": 500}
        assert rpc.host("web01", queue={"of": "one"}).echo(1).get() == [1]


@pytest.mark.slow
def test_dispatcher_killed_under_load(lasting: Site) -> None:
    """Followers of a fast stream see what is recorded, once, in order, across a kill."""
    with lasting.caller() as rpc:
        job = rpc.web01.count(10_000_000)
        followers = [Follower(lasting, job) for _ in range(2)]
        for one in followers:
            until(lambda one=one: len(one.seen) > 2000)  # type: ignore[misc]
        lasting.dispatcher.kill()
        lasting.dispatcher.start()
        ends = [one.end() for one in followers]
        assert [end.type for end in ends] == ["missing_result"] * 2
        recorded = job.stream(numbered=True).all()
        assert recorded == [(number, number) for number in range(len(recorded))]
        assert all(one.seen == recorded for one in followers)


@pytest.mark.slow
def test_reload(lasting: Site, line: NewLine) -> None:
    """Neither daemon drops a call when it reads its configuration again."""
    pipe = line()
    stop = threading.Event()
    log = lasting.dispatcher.log
    before = log.read_text().count("read again")

    def call(rpc: HarpCaller) -> int:
        number = 0
        while not stop.is_set():
            assert rpc.web01.echo(number).get() == [number]
            number += 1
        return number

    with lasting.caller() as rpc, ThreadPoolExecutor(3) as pool:
        job = rpc.web01.relay(pipe.path)
        packets = job.follow(since=0)
        next(packets)
        calls = [pool.submit(call, rpc) for _ in range(3)]
        try:
            for number in range(1, 5):
                lasting.dispatcher.signal(signal.SIGHUP)
                lasting.agents[0].reload()
                until(lambda n=before + number: log.read_text().count("read again") == n)  # type: ignore[misc]
                pipe.say(str(number))
                assert next(packets) == str(number)
        finally:
            stop.set()
        assert all(one.result(LIMIT) > 0 for one in calls)
        pipe.close()
        assert packets.all() == []
        assert job.get() == 4


def test_submitted_once(
    site: Site, fault_proxy: StartFaultProxy, tmp_path: Path, line: NewLine
) -> None:
    """A call whose connection breaks before the reply is asked for again, and runs once."""
    faults = [Fault(cut_after=0), Fault(reset_after=0), Fault(cut_after=20)]
    for number, fault in enumerate(faults):
        proxy = fault_proxy(site, [fault])
        noted = tmp_path / f"noted{number}"
        with HarpCaller(proxy.host, proxy.port) as rpc:
            job = rpc.web01.note(str(noted))
            assert job.get() is None
            assert proxy.connection_count > 1
        assert noted.read_text() == "called\n"
    # While it runs, too.
    proxy = fault_proxy(site, [Fault(cut_after=0)])
    pipe = line()
    with HarpCaller(proxy.host, proxy.port) as rpc:
        job = rpc.host("web01", queue={"of": "once"}).relay(pipe.path)
        next(job.follow(since=0))
        listed = command(site, "queue-list", queue={"of": "once"})
        assert [one["job"] for one in listed] == [job.id()]
        assert job.cancel()


# Who may do what.


def _tokens(folder: Path, **rules: dict[str, Any]) -> None:
    """Write a file of tokens; each is what its name is."""
    tables = [
        f"[[token]]\nname = {json.dumps(name)}\nhash = {json.dumps(hash_token(f'secret-{name}'))}\n"
        + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rule.items())
        for name, rule in rules.items()
    ]
    (folder / "tokens").write_text("".join(tables))


def test_secured(tmp_path: Path, certificates: Certificates) -> None:
    """Over TLS, each token may do what its rule says, and a certificate does as well."""
    _tokens(
        tmp_path,
        web={"hosts": ["web*"], "procedures": ["echo", "note"]},
        all={},
        none={"hosts": []},
    )
    options = {
        "tokens_file": "tokens",
        "certfile": str(certificates.server_file),
        "keyfile": str(certificates.server_file),
        "client_ca_file": str(certificates.ca_file),
    }
    more = registered("db01", 1)
    with running(tmp_path, certificates, 1, more, **options) as site, ExitStack() as stack:

        def caller(**options: Any) -> HarpCaller:
            ca_file = str(certificates.ca_file)
            return stack.enter_context(site.caller(**({"ca_file": ca_file} | options)))

        web, everybody = caller(token="secret-web"), caller(token="secret-all")
        job = web.web01.echo(1)
        assert job.get() == [1]
        assert everybody.job(job.id()).get() == [1]
        other = everybody.web01.fails("x")
        assert isinstance(other.result(wait=True), RemoteException)
        denied: list[Callable[[], Any]] = [
            lambda: web.db01.echo(),
            lambda: web.web01.fails("x"),
            lambda: web.job(other.id()).get(),
            lambda: web.job(other.id()).cancel(),
            lambda: web.job(other.id()).follow(since=0).all(),
            lambda: web.job(other.id()).host(),
        ]
        for number, deny in enumerate(denied):
            with pytest.raises(RemoteError) as raised:
                deny()
            assert raised.value.type == "access_denied", number
        for unknown in (caller(), caller(token="secret-nobody")):
            with pytest.raises(RemoteError) as raised:
                unknown.web01.echo()
            assert raised.value.type == "auth_error"
        assert [one.host for one in web.group("*").echo()] == ["web01"]
        assert {one.host for one in everybody.group("*").echo()} == {"web01", "db01"}
        with pytest.raises(RemoteError, match="no host matches"):
            list(caller(token="secret-none").group("*").echo())
        assert caller(cert=str(certificates.client_file)).web01.echo(2).get() == [2]
        with pytest.raises(CommunicationError):
            site.caller(token="secret-all").web01.echo()
        with pytest.raises(CommunicationError, match=r"(?i)certificate"):
            caller(token="secret-all", ca_file=None, tls=True).web01.echo()
        # Rules change at a reload, for connections that are open, too.
        _tokens(tmp_path, all={})
        command(site, "reload")
        with pytest.raises(RemoteError) as raised:
            web.web01.echo()
        assert raised.value.type == "auth_error"
        assert everybody.web01.echo(3).get() == [3]
        log = site.dispatcher.log.read_text()
        assert "denied: web call" in log
        assert "allowed: web call" in log
        assert "secret-" not in log
        assert "s3cret" not in log


def test_host_certificates(lasting: Site, tmp_path: Path, certificates: Certificates) -> None:
    """A host is called only when its certificate is known, or signed by who is trusted."""
    stranger = trustme.CA()
    other = tmp_path / "other.pem"
    stranger.cert_pem.write_to_path(str(other))
    right, known = str(certificates.ca_file), str(certificates.server_file)
    cases: list[tuple[dict[str, str], bool]] = [
        ({"ca_file": right}, True),
        ({"ca_file": str(other)}, False),
        ({"known_certs_file": known}, True),
        ({"known_certs_file": str(other)}, False),
        ({"known_certs_file": known, "ca_file": str(other)}, True),
        ({"known_certs_file": str(other), "ca_file": right}, True),
        ({}, True),
    ]
    with lasting.caller() as rpc:
        for options, accepted in cases:
            lasting.configure(**options)
            command(lasting, "reload")
            for _ in range(2):  # the second time perhaps with a session that was kept
                result = rpc.web01.echo(1).result(wait=True)
                if accepted:
                    assert result == [1], options
                else:
                    assert result.type == "network_error", options
                    assert "certificate is not accepted" in result.message
