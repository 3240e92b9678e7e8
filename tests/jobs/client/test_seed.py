"""The names, parameters and defaults that users of the jobs' clients rely on."""

from __future__ import annotations

import inspect
from operator import attrgetter
from typing import Any

import pytest

from holdfast import jobs
from tests.signatures import conforms, promised

DISPATCHER = promised(
    """
    HarpCaller(host, port=3502)
    HarpCaller.__getattr__(host)
    HarpCaller.connect()
    HarpCaller.host(host, **kwargs)
    HarpCaller.job(job_id)
    HarpCaller.request(req)
    RemoteServer(dispatcher, hostname)
    RemoteServer.__str__()
    RemoteServer.__getattr__(procedure)
    RemoteServer.__call__(**kwargs)
    RemoteProcedure(dispatcher, server, procedure)
    RemoteProcedure.__call__(*args, **kwargs)
    RemoteProcedure.host()
    RemoteProcedure.procedure()
    RemoteCall(dispatcher, job_id)
    RemoteCall.StreamIterator(remote_call, conn, numbered=False)
    RemoteCall.StreamIterator.all()
    RemoteCall.args()
    RemoteCall.cancel()
    RemoteCall.end_time()
    RemoteCall.follow(since=None, recent=None, numbered=False)
    RemoteCall.get(wait=True)
    RemoteCall.host()
    RemoteCall.id()
    RemoteCall.info()
    RemoteCall.procedure()
    RemoteCall.result(wait=False)
    RemoteCall.start_time()
    RemoteCall.stream(since=None, recent=None, numbered=False)
    RemoteCall.submit_time()
    """
)
HOST = promised(
    """
    HarpServer(host, user, password, port=4306, ca_file=None)
    HarpServer.__getattr__(procedure)
    HarpProcedure(server, name)
    HarpProcedure.__call__(*args, **kwargs)
    HarpStreamIterator(orig_iterator)
    """
)
LINES = promised(
    """
    JSONConnection(host, port)
    JSONConnection.connect()
    JSONConnection.receive()
    JSONConnection.send(obj)
    JSONSSLConnection(host, port, ca_file=None)
    JSONSSLConnection.connect()
    JSONSSLConnection.receive()
    JSONSSLConnection.send(obj)
    """
)
CLIENTS = DISPATCHER | HOST | LINES
VALUES = promised(
    """
    Result(value)
    RemoteException(type, message, data=None)
    RemoteError(type, message, data=None)
    """
)

#: What returns at once in asyncio, too: names, iterators, and what else waits for nothing.
AT_ONCE = {
    "HarpCaller.__getattr__",
    "HarpCaller.host",
    "HarpCaller.job",
    "HarpServer.__getattr__",
    "RemoteCall.follow",
    "RemoteCall.id",
    "RemoteCall.stream",
    "RemoteProcedure.host",
    "RemoteProcedure.procedure",
    "RemoteServer.__call__",
    "RemoteServer.__getattr__",
    "RemoteServer.__str__",
}

#: The options of jobs.
OPTIONS = {
    "queue": {"foo": "bar"},
    "concurrency": 3,
    "timeout": 5,
    "max_exec_time": 15,
    "info": [None],
}


@pytest.mark.parametrize("prefix", ["", "Async"])
@pytest.mark.parametrize("name", CLIENTS)
def test_clients(prefix: str, name: str) -> None:
    """What talks to others takes what its users give it, in that order, with those defaults."""
    conforms(jobs, prefix + name, CLIENTS[name])


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    """Results and errors are made of what they have."""
    conforms(jobs, name, VALUES[name])
    fields = list(VALUES[name].parameters)
    made = getattr(jobs, name)(*fields)
    assert [getattr(made, field) for field in fields] == fields


@pytest.mark.parametrize("name", CLIENTS)
def test_what_is_awaited(name: str) -> None:
    """What waits is awaited in asyncio, and nothing else is."""
    method = attrgetter(f"Async{name}")(jobs)
    if not isinstance(method, type):
        assert inspect.iscoroutinefunction(method) is (name not in AT_ONCE)


@pytest.mark.parametrize("kind", [jobs.HarpCaller, jobs.AsyncHarpCaller])
def test_options_of_jobs(kind: Any) -> None:
    """Jobs have their options from `host`, or from calling a server."""
    rpc = kind("localhost")
    assert str(rpc.host("web01", **OPTIONS)) == str(rpc.web01(**OPTIONS)) == "web01"
    assert str(rpc.host(host="web01")) == "web01"


def test_what_they_are() -> None:
    """Exceptions have one base, and the two constants are like nothing else."""
    for name in ("CommunicationError", "CancelledException", "RemoteException", "RemoteError"):
        assert issubclass(getattr(jobs, name), jobs.HarpException)
    assert repr(jobs.CALL_NOT_FINISHED) == "<CallNotFinished>"
    assert repr(jobs.CALL_CANCELLED) == "<CallCancelled>"


def test_all_names() -> None:
    """The package offers all of them for both clients, and nothing that has no documentation."""
    names = {name.partition(".")[0] for name in CLIENTS}
    assert names | {f"Async{name}" for name in names} <= set(jobs.__all__)
    assert all(inspect.getdoc(getattr(jobs, name)) for name in jobs.__all__)
