"""The names, parameters and defaults that users of the stepped client rely on."""

from __future__ import annotations

import inspect

import pytest

from holdfast import flow
from tests.signatures import conforms, promised

SIGNATURES = promised(
    # Where keywords are handed on to another class, its own are here.
    """
    Requester(hostname='127.0.0.1', port=None, scheme='http', method='GET', path='/', qargs=None, \
        fragment='', headers=None, body=b'', data=None, fargs=None, portOptional=False)
    Requester.reinit(hostname=None, port=None, scheme=None, method=None, path=None, qargs=None, \
        fragment=None, headers=None, body=None, data=None, fargs=None, portOptional=None)
    Requester.rebuild(method=None, path=None, qargs=None, fragment=None, headers=None, body=None, \
        data=None, fargs=None, portOptional=None)
    Requester.build()
    Respondent(redirects=None, redirectable=True, events=None, retry=None, leid=None, *, msg=None, \
        dictable=None, method='GET')
    Respondent.reinit(redirectable=None, *, msg=None, dictable=None, method='GET')
    Respondent.close()
    Respondent.checkPersisted()
    Respondent.parseHead()
    Respondent.parseBody()
    openClient(cls=None, **kwa)
    Client(connector=None, requester=None, respondent=None, name='', uid=0, bufsize=8096, wl=None, \
        hostname='127.0.0.1', port=None, scheme='', method='GET', path='/', headers=None, \
        qargs=None, fragment='', body=b'', data=None, fargs=None, requests=None, msg=None, \
        dictable=None, events=None, redirectable=True, redirects=None, responses=None, \
        portOptional=False, **kwa)
    Client.wind(tymth)
    Client.reopen()
    Client.close()
    Client.attrify(response)
    Client.respond()
    Client.request(method=None, path=None, qargs=None, fragment=None, headers=None, body=None, \
        data=None, fargs=None, reply=None, **kwa)
    Client.transmit(method=None, path=None, qargs=None, fragment=None, headers=None, body=None, \
        data=None, fargs=None, **kwa)
    Client.redirect()
    Client.serviceRequests()
    Client.serviceResponse()
    Client.service()
    Client.serviceWhileGen(tymeout=0.5)
    backendRequest(tymth, *, method='GET', scheme='', host='localhost', port=None, path='/', \
        qargs=None, data=None, buffered=False, tymeout=2.0)
    ClientDoer(client, **kwa)
    ClientDoer.wind(tymth)
    ClientDoer.enter(*, temp=None)
    ClientDoer.recur(tyme)
    ClientDoer.exit()
    """
)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    """Everything takes what its users give it, in that order, with those defaults."""
    conforms(flow, name, SIGNATURES[name])


def test_a_cluster_is_stepped_likewise() -> None:
    """The client of many hosts is asked and stepped as that of one is."""
    for name in ("request", "respond", "reopen", "close", "service", "serviceWhileGen", "wind"):
        conforms(flow, f"ClusterClient.{name}", SIGNATURES[f"Client.{name}"])


def test_what_they_are() -> None:
    """A client's doer is a doer, and responses are named tuples."""
    assert issubclass(flow.ClientDoer, flow.Doer)
    assert isinstance(inspect.getattr_static(flow.Client, "attrify"), staticmethod)
    assert inspect.isgeneratorfunction(flow.Client.serviceWhileGen)
    assert inspect.isgeneratorfunction(flow.backendRequest)


def test_all_names() -> None:
    """The package offers them, and nothing that has no documentation."""
    assert {name.partition(".")[0] for name in SIGNATURES} <= set(flow.__all__)
    assert all(inspect.getdoc(getattr(flow, name)) for name in flow.__all__)
