"""What the objects of the client are to Python: names, copies, pickles, representations."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from math import inf
from typing import Any

import pytest

import holdfast.jobs
from holdfast.errors import CallTimeout, HoldfastError, InvalidRequest, NetworkError
from holdfast.jobs import (
    CALL_CANCELLED,
    CALL_NOT_FINISHED,
    AsyncHarpCaller,
    AsyncHarpServer,
    CancelledException,
    CommunicationError,
    CommunicationTimeout,
    HarpCaller,
    HarpException,
    HarpServer,
    InvalidCall,
    RemoteCall,
    RemoteError,
    RemoteException,
    RemoteProcedure,
    RemoteServer,
    Result,
)

CALLERS = [HarpCaller, AsyncHarpCaller]


@pytest.mark.parametrize("kind", CALLERS)
def test_names(kind: Any) -> None:
    """Attributes are hosts, and their attributes procedures."""
    rpc = kind("localhost")
    server = rpc.web01
    assert str(server) == "web01"
    assert str(rpc.host("web-01.example", queue={"a": 1})) == "web-01.example"
    procedure = server.restart
    assert (procedure.host(), procedure.procedure()) == ("web01", "restart")
    assert rpc.job("x").id() == "x"
    # What the class has itself is had by its name.
    assert str(rpc.host("job")) == "job"


def test_the_classes_of_the_interface() -> None:
    """Servers, procedures and jobs can be made by hand, as the interface has them."""
    rpc = HarpCaller("localhost", 3502)
    server = RemoteServer(rpc, "web01")
    procedure = RemoteProcedure(rpc, server, "restart")
    assert isinstance(server.restart, RemoteProcedure)
    assert isinstance(rpc.web01, RemoteServer)
    assert procedure.host() == "web01"
    assert RemoteCall(rpc, "x").id() == "x"
    assert RemoteCall.StreamIterator(RemoteCall(rpc, "x"), None).numbered is False


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize(
    "name", ["__array__", "__len__", "__copy__", "__getnewargs__", "__wrapped__", "__html__"]
)
def test_pythons_own_names(kind: Any, name: str) -> None:
    """What Python and its tools look for is no host and no procedure."""
    rpc = kind("localhost")
    for one in (rpc, rpc.web01, rpc.group(["a"]), HarpServer("x", "u", "p")):
        assert not hasattr(one, name)
        with pytest.raises(AttributeError, match=name):
            getattr(one, name)


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_copies(kind: Any, again: Any) -> None:
    """Callers, servers, procedures and jobs are copied, by pickle too, and name the same."""
    rpc = kind(["one", "two:4000"], token="t0ken", shared=True, reply_timeout=7)
    for one in (rpc, rpc.web01, rpc.host("web01", timeout=5), rpc.web01.restart, rpc.job("x")):
        other = again(one)
        assert other is not one
        assert type(other) is type(one)
        assert repr(other) == repr(one)
    other = again(rpc)
    assert other._core.token == "t0ken"
    assert other._core.reply_timeout == 7
    assert again(rpc.host("web01", timeout=5))._options == {"timeout": 5}


@pytest.mark.parametrize("kind", CALLERS)
def test_representations(kind: Any) -> None:
    """What objects are is told by repr, without a secret."""
    rpc = kind(["one", "two:4000", "::1", "[::2]:5"], token="t0ken")
    name = kind.__name__
    prefix = "Async" if name.startswith("Async") else ""
    assert repr(rpc) == f"<{name} one:3502, two:4000, [::1]:3502, [::2]:5>"
    assert repr(rpc.host("web01", info="s3cret")) == f"<{prefix}RemoteServer 'web01'>"
    assert repr(rpc.web01.restart) == f"<{prefix}RemoteProcedure web01.restart>"
    assert repr(rpc.job("x")) == f"<{prefix}RemoteCall x>"


@pytest.mark.parametrize("kind", [HarpServer, AsyncHarpServer])
def test_servers(kind: Any) -> None:
    """The clients of host daemons are copied and pickled, too."""
    server = kind("db01", "me", "s3cret", 4307)
    for other in (copy.copy(server), pickle.loads(pickle.dumps(server))):
        assert repr(other) == f"<{kind.__name__} db01:4307>"
        assert other._settings == server._settings
    assert "s3cret" not in repr(server.restart)


@pytest.mark.parametrize(
    "options",
    [
        {"port": 0},
        {"port": "3502"},
        {"port": True},
        {"token": ""},
        {"token": b"x"},
        {"connect_timeout": 0},
        {"reply_timeout": -1},
        {"patience": "1"},
        {"reconnect": True},
        {"reconnect": -1},
        {"max_line": 0},
    ],
    ids=str,
)
def test_wrong_arguments(options: dict[str, Any]) -> None:
    """Wrong arguments are refused, by name, and are ValueErrors as well."""
    with pytest.raises(InvalidCall, match=next(iter(options))):
        HarpCaller("localhost", **options)
    with pytest.raises(ValueError, match=next(iter(options))):
        HarpCaller("localhost", **options)


@pytest.mark.parametrize(("given", "limit"), [(0, 0), (2.5, 2.5), (None, inf)])
def test_reconnect(given: float | None, limit: float) -> None:
    """Connections are had again never, for some time, or without a limit."""
    assert HarpCaller("localhost", reconnect=given)._core.reconnect == limit


@pytest.mark.parametrize(
    "host", ["", "a/b", "user:secret@host", "http://host", "a b", "host:x", []]
)
def test_wrong_hosts(host: Any) -> None:
    """What is no address is refused, without what may be a password."""
    with pytest.raises(ValueError, match=r"host|dispatcher|port") as caught:
        HarpCaller(host)
    assert "secret" not in str(caught.value)


def test_constants() -> None:
    """The constants are themselves after every journey, and have names."""
    assert repr(CALL_NOT_FINISHED) == "<CallNotFinished>"
    assert repr(CALL_CANCELLED) == "<CallCancelled>"
    for constant in (CALL_NOT_FINISHED, CALL_CANCELLED):
        assert copy.deepcopy([constant])[0] is constant
        assert pickle.loads(pickle.dumps(constant)) is constant


def test_results() -> None:
    """A result wraps a value."""
    assert Result([1]).value == [1]
    assert Result(1) == Result(1) != Result(2)
    assert Result(1) != 1
    assert repr(Result("a")) == "Result('a')"
    assert pickle.loads(pickle.dumps(Result({"a": 1}))) == Result({"a": 1})


def test_the_tree_of_exceptions() -> None:
    """All exceptions are HarpExceptions, and what Python people expect."""
    for kind in (CommunicationError, CancelledException, RemoteException, RemoteError, InvalidCall):
        assert issubclass(kind, HarpException)
        assert issubclass(kind, HoldfastError)
    assert issubclass(CommunicationError, (NetworkError, ConnectionError))
    assert issubclass(CommunicationTimeout, (CommunicationError, CallTimeout))
    assert issubclass(CommunicationTimeout, TimeoutError)
    assert issubclass(InvalidCall, (InvalidRequest, ValueError))


@pytest.mark.parametrize("kind", [RemoteException, RemoteError])
def test_told_errors(kind: Any) -> None:
    """Errors that were told have the fields of the interface, and survive a pickle."""
    error = kind("KeyError", "'x'", {"class": "KeyError"})
    for one in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (one.type, one.message, one.data) == ("KeyError", "'x'", {"class": "KeyError"})
        assert str(one) == "KeyError: 'x'"
    assert kind("a", "b").data is None


def test_a_lost_call_survives_a_pickle() -> None:
    """The id of a job that may be there is not lost on the way to another process."""
    error = CommunicationError("lost")
    error.job_id = "x"
    other = pickle.loads(pickle.dumps(error))
    assert (str(other), other.job_id, other.sent) == ("lost", "x", True)


def test_all_names_are_there() -> None:
    """Each name of the package is imported when it is used."""
    for name in holdfast.jobs.__all__:
        assert getattr(holdfast.jobs, name).__module__.startswith("holdfast.jobs.")
        assert name in dir(holdfast.jobs)
    with pytest.raises(AttributeError, match="nonsense"):
        holdfast.jobs.nonsense  # noqa: B018


def test_results_import_no_client() -> None:
    """A daemon that needs results only does not get the clients with them."""
    code = "import sys, holdfast.jobs.results; print('holdfast.jobs.caller' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
