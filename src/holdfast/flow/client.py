"""`Client`: requests on one connection, sent and answered as its owner's loop steps it.

Theory of operation: one request is outstanding at a time (`waited`). Its answer ends it, or the
end of the connection does. A stream of events is a request that stays outstanding: when its
connection is lost and may be opened again, it is asked for again with the id of the last event,
and nobody hears of it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from holdfast.flow.connecting import Connector
from holdfast.flow.redirecting import destination
from holdfast.flow.requesting import Requester
from holdfast.flow.responding import Respondent
from holdfast.flow.responses import Response, attrify
from holdfast.flow.secure import TLSConnector
from holdfast.flow.targets import split_host
from holdfast.flow.tyming import Tymer
from holdfast.http.headers import Headers, pairs
from holdfast.http.origins import basic_auth

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, MutableSequence

    from holdfast.flow.connecting import WireLogTypes
    from holdfast.http.headers import HeaderTypes

__all__ = ["Client"]

#: What makes a request.
_OF_REQUEST = (
    "scheme",
    "hostname",
    "port",
    "method",
    "path",
    "fragment",
    "qargs",
    "headers",
    "body",
    "data",
    "fargs",
)

#: Arguments of the connector that are for TLS alone.
_OF_TLS = frozenset(
    {
        "context",
        "version",
        "certify",
        "hostify",
        "certedhost",
        "keypath",
        "certpath",
        "cafilepath",
    }
)

#: Those that connections to other hosts have, too.
_OF_CONNECTOR = ("tymth", "tymeout", "reconnectable", "bs", "wl", "name", "uid")

_NOTHING = (None,) * 8

#: How many redirects are followed for one request.
MAX_REDIRECTS = 20

#: For how many hosts that redirects lead to, a connector is kept.
_REMEMBERED = 16

_PORTS = {"http": 80, "https": 443}


class Client:
    """An HTTP client for one host, which never blocks.

    Its owner calls `service` again and again. ``path`` may be a whole URL, whose parts win over
    ``scheme``, ``hostname`` and ``port``; https is TLS. ``method``, ``headers``, ``qargs`` (the
    query), ``fragment`` and ``body``, ``data`` (JSON) or ``fargs`` (a form) are those of the
    first request, and of those that do not say otherwise. ``requests``, ``responses``,
    ``events`` and ``redirects`` are queues to use instead of new ones. ``dictable``: parse bodies
    and events as JSON whatever their type. ``redirectable``: follow redirects.
    ``portOptional``: leave the scheme's own port out of the Host header.

    ``connector``, ``requester`` and ``respondent`` are used instead of new ones. ``name``,
    ``uid``, ``bufsize`` (bytes to receive at once), ``wl`` (a wire log) and all others, such as
    ``tymeout`` and ``reconnectable``, are arguments of the connector: see `Connector` and
    `TLSConnector`.
    """

    def __init__(
        self,
        connector: Connector | None = None,
        requester: Requester | None = None,
        respondent: Respondent | None = None,
        name: str = "",
        uid: Any = 0,
        bufsize: int = 8096,
        wl: WireLogTypes | None = None,
        hostname: str = "127.0.0.1",
        port: int | None = None,
        scheme: str = "",
        method: str = "GET",
        path: str = "/",
        headers: HeaderTypes | None = None,
        qargs: Mapping[str, Any] | None = None,
        fragment: str = "",
        body: bytes | bytearray | str = b"",
        data: Any = None,
        fargs: Mapping[str, Any] | None = None,
        requests: deque[dict[str, Any]] | None = None,
        msg: bytearray | None = None,
        dictable: bool | None = None,
        events: MutableSequence[dict[str, Any]] | None = None,
        redirectable: bool = True,
        redirects: MutableSequence[dict[str, Any]] | None = None,
        responses: deque[dict[str, Any]] | None = None,
        portOptional: bool = False,
        **kwa: Any,
    ) -> None:
        self.requests: deque[dict[str, Any]] = requests if requests is not None else deque()
        self.responses: deque[dict[str, Any]] = responses if responses is not None else deque()
        self._sharing = redirects is not None or respondent is not None  # who empties `redirects`
        if respondent is not None:
            redirects = respondent.redirects if redirects is None else redirects
            events = respondent.events if events is None else events
        self.redirects: MutableSequence[dict[str, Any]] = redirects if redirects is not None else []
        self.events: MutableSequence[dict[str, Any]] = events if events is not None else deque()
        #: Whether a request is outstanding.
        self.waited = False
        #: The last request that was sent, as it was given.
        self.latest: dict[str, Any] | None = None
        self._streaming = False  # whether the outstanding request is answered by events
        self._resuming = False  # whether it is to be sent again
        self._retimed = False  # whether the connector's tymer goes by a stream's retry
        self._over = False  # whether the connection is to carry no further request
        self._fresh = False  # whether the last turn has seen that the connection is well
        self._followed: list[dict[str, Any]] = []  # redirects of the outstanding request
        self._left: dict[str, Any] | None = None  # the request that was redirected
        self._plain: HeaderTypes | None = None  # headers of a stream before it was resumed
        self._asked = False  # whether a request was put into the queue
        self._request: dict[str, Any] = {}  # the outstanding one, for its response

        parts = urlsplit(path)
        if parts.netloc:
            scheme = parts.scheme or scheme
            hostname = parts.hostname or hostname
            port = parts.port or port
            path = urlunsplit(("", "", parts.path or "/", parts.query, parts.fragment))
            if parts.username is not None and "authorization" not in Headers(headers):
                value = basic_auth(unquote(parts.username), unquote(parts.password or ""))
                headers = [*pairs(headers), ("Authorization", value)]
        if connector is not None:
            _check_place(connector, scheme, parts.hostname, parts.port)
            hostname, port = connector.hostname, connector.port
            scheme = scheme or ("https" if isinstance(connector, TLSConnector) else "http")
        elif requester is not None and (scheme, hostname, port) == ("", "127.0.0.1", None):
            scheme, hostname, port = requester.scheme, requester.hostname, requester.port
        scheme = scheme.lower() or "http"
        if scheme not in _PORTS:
            raise ValueError(f"the scheme is http or https, not {scheme!r}")
        hostname, named = split_host(hostname)
        port = named or port or _PORTS[scheme]
        self._options = {"name": name, "uid": uid, "bs": bufsize, "wl": wl, **kwa}
        self.connector = connector or self._connect_to(scheme, hostname, port)
        #: Those of the client's own host, and of hosts that redirects have led to.
        self._connectors = {(scheme, hostname.lower(), port): self.connector}
        if requester is None:
            requester = Requester(
                hostname=hostname,
                port=port,
                scheme=scheme,
                method=method,
                path=path,
                qargs=qargs,
                fragment=fragment,
                headers=headers,
                body=body,
                data=data,
                fargs=fargs,
                portOptional=portOptional,
            )
        else:
            requester.reinit(
                hostname,
                port,
                scheme,
                body=requester.body,
                data=requester.data,
                fargs=requester.fargs,
            )
        self.requester = requester
        if msg is not None:
            self.connector.rxbs = msg
        if respondent is None:
            respondent = Respondent(
                redirects=self.redirects,
                redirectable=redirectable,
                events=self.events,
                msg=self.connector.rxbs,
                dictable=dictable,
                method=method,
            )
        else:
            respondent.msg = self.connector.rxbs
            respondent.redirects = self.redirects
            respondent.events = self.events
            respondent.redirectable = respondent.redirectable and bool(redirectable)
            if dictable is not None:
                respondent.dictable = bool(dictable)
        self.respondent = respondent
        if connector is not None and wl is not None:
            connector.wl = wl

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.connector!r} {len(self.requests)} to send, "
            f"{int(self.waited)} outstanding, {len(self.responses)} answered>"
        )

    def _connect_to(self, scheme: str, hostname: str, port: int) -> Connector:
        options = dict(self._options, host=hostname, port=port)
        if scheme == "https":
            return TLSConnector(**options)
        return Connector(**{k: v for k, v in options.items() if k not in _OF_TLS})

    def _connect_elsewhere(self, scheme: str, hostname: str, port: int) -> Connector:
        """Return a connector like the client's own, for where a redirect leads."""
        home = next(iter(self._connectors.values()))
        options = {name: getattr(home, name) for name in _OF_CONNECTOR}
        if scheme == "http":
            return Connector(host=hostname, port=port, **options)
        options |= {name: self._options[name] for name in _OF_TLS if name in self._options}
        if isinstance(home, TLSConnector):
            options |= {name: getattr(home, name) for name in _OF_TLS}
        if hostname != home.host:
            # The name to verify is not that of this host, and who the client is, is not for it.
            if options.pop("certpath", None) is not None:
                options.pop("context", None)
            options.pop("keypath", None)
            options.pop("certedhost", None)
        return TLSConnector(host=hostname, port=port, **options)

    def wind(self, tymth: Callable[[], float]) -> None:
        """Take the time from ``tymth`` from now on."""
        self._options["tymth"] = tymth
        for connector in (self.connector, *self._connectors.values()):
            connector.wind(tymth)

    def reopen(self) -> bool:
        """Open the connection, anew if it was open; returns whether it could be asked for.

        A request that is outstanding ends with an error, unless nothing of it was sent yet.
        """
        if self.waited and not self._resuming and not self.connector.connected:
            return self.connector.reopen()
        self._abandon("the connection was opened anew before it answered")
        self._clear()
        return self.connector.reopen()

    def accept(self) -> bool:
        """Go on with the connecting, without waiting; returns whether TCP has a connection."""
        return self.connector.accept()

    def close(self) -> None:
        """Close the connection; what was not answered will not be."""
        self.connector.close()
        self._clear()
        self.waited = self._streaming = self._resuming = False

    def _clear(self) -> None:
        """Forget what is of a connection that was: the next one begins with nothing."""
        self.connector.txbs.clear()
        self.connector.rxbs.clear()
        self._over = False

    @staticmethod
    def attrify(response: Mapping[str, Any]) -> Response:
        """Return a response's dictionary as a named tuple."""
        return attrify(response)

    def respond(self) -> Response | None:
        """Take the next response out of ``responses``; None when there is none."""
        return attrify(self.responses.popleft()) if self.responses else None

    def request(
        self,
        method: str | None = None,
        path: str | None = None,
        qargs: Mapping[str, Any] | None = None,
        fragment: str | None = None,
        headers: HeaderTypes | None = None,
        body: bytes | bytearray | str | None = None,
        data: Any = None,
        fargs: Mapping[str, Any] | None = None,
        reply: Any = None,
        **kwa: Any,
    ) -> None:
        """Put a request into the queue.

        What is None is as in the request before it, but for ``body``, ``data`` and ``fargs``,
        which are never repeated. ``reply`` and all others come back in the response's
        ``request``.
        """
        given: dict[str, Any] = {
            "method": method,
            "path": path,
            "qargs": qargs,
            "fragment": fragment,
            "headers": headers,
            "body": b"" if body is None and self._asked else body,
            "data": data,
            "fargs": fargs,
        }
        self._asked = True
        if reply is not None:
            given["reply"] = reply
        if kwa:
            given.update(kwa)
        self.requests.append(given)

    def transmit(
        self,
        method: str | None = None,
        path: str | None = None,
        qargs: Mapping[str, Any] | None = None,
        fragment: str | None = None,
        headers: HeaderTypes | None = None,
        body: bytes | bytearray | str | None = None,
        data: Any = None,
        fargs: Mapping[str, Any] | None = None,
        **kwa: Any,
    ) -> None:
        """Send a request now, though another one may be outstanding.

        With nothing given, the request that the client was made with, or the last one, is sent
        again. Raises ValueError for what makes no request.
        """
        if self._left is not None:
            self._return()
        requester = self.requester
        if self._plain is not None:
            requester.headers, self._plain = self._plain, None
        given = (method, path, qargs, fragment, headers, body, data, fargs)
        before = (
            requester.method,
            requester.path,
            requester.qargs,
            requester.fragment,
            requester.headers,
            requester.body,
            requester.data,
            requester.fargs,
        )
        try:
            message = requester.rebuild(*given) if given != _NOTHING else requester.build()
        except BaseException:
            # The next one is to differ from the last that could be sent.
            requester.reinit(None, None, None, *before)
            raise
        connector = self.connector
        if not self.waited and (self._over or (connector.cutoff and not connector.recoverable)):
            self._reconnect()
        self.latest = kwa
        self._followed = []
        self._streaming = self._resuming = False
        self._start(message)

    def _start(self, message: bytes) -> None:
        """Send a request, and then, while it is on its way, get ready for its answer."""
        connector = self.connector
        self.waited = True
        if connector.txbs or not connector.connected:
            connector.tx(message)
        elif (size := connector.send(message)) < len(message) and not connector.error:
            connector.tx(memoryview(message)[size:])
        requester = self.requester
        request = {
            "host": requester.hostname,
            "port": requester.port,
            "scheme": requester.scheme,
            "method": requester.method,
            "path": requester.path,
            "fragment": requester.fragment,
            "qargs": requester.qargs,
            "headers": requester.headers,
            "body": requester.body,
            "data": requester.data,
            "fargs": requester.fargs,
        }
        self._request = {**self.latest, **request} if self.latest else request
        self.respondent.reinit(method=requester.method)
        headers = requester.headers
        leid = headers.get("last-event-id")
        if leid is not None and not leid.isascii():
            leid = leid.encode("latin-1").decode("utf-8", "surrogateescape")
        self.respondent.leid = leid

    def redirect(self) -> None:
        """Send the request again, to where the last of ``redirects`` leads.

        Raises ValueError when it leads nowhere, from https to http, or in a loop.
        """
        if not self.redirects:
            return
        if len(self._followed) > MAX_REDIRECTS:
            raise ValueError(f"it redirects more than {MAX_REDIRECTS} times")
        requester = self.requester
        response = self.redirects[-1]
        there = destination(requester, response["status"], response["headers"]["location"])
        if self._left is None:
            self._left = {name: getattr(requester, name) for name in _OF_REQUEST}
        origin = self._origin()
        requester.reinit(**there)
        message = requester.build()
        if origin != self._origin():
            self._move()
        elif self._over or not self.connector.opened or self.connector.cutoff:
            self._reconnect()
        self._start(message)
        self.respondent.redirected = True

    def _origin(self) -> tuple[str, str, int]:
        requester = self.requester
        return requester.scheme, requester.hostname.lower(), requester.port

    def _return(self) -> None:
        """Go back to where a redirect has led away from."""
        assert self._left is not None
        left, self._left = self._left, None
        self.requester.reinit(**left)
        if self.connector is not self._connectors.get(self._origin()):
            self._move()

    def _move(self) -> None:
        """Connect to the requester's host instead of the one before."""
        place = self._origin()
        connector = self._connectors.get(place)
        if connector is None:
            if len(self._connectors) > _REMEMBERED:
                self._connectors = dict([next(iter(self._connectors.items()))])
            connector = self._connectors[place] = self._connect_elsewhere(*place)
        old, self.connector = self.connector, connector
        old.close()
        # Whoever holds the buffers goes on with them.
        self.connector.txbs, self.connector.rxbs = old.txbs, old.rxbs
        self._reconnect()

    def _reconnect(self) -> None:
        """Have a connection that has nothing of the one before."""
        self._clear()
        self.connector.reopen()
        self.connector.serviceConnect()

    def serviceRequests(self) -> None:
        """Send the next request when none is outstanding."""
        connector = self.connector
        if self._resuming:
            if connector.tymer.expired:
                if not connector.opened or (self._over and not connector.cutoff):
                    self._reconnect()
                if connector.connected and not connector.cutoff:
                    self._resume()
            return
        if self.waited or not self.requests:
            return
        if not self._fresh:
            connector.serviceReceives()  # an end, or what nobody asked for, is better seen before
        if not connector.opened or self._over or connector.rxbs:
            self._reconnect()
        elif connector.cutoff:
            if connector.recoverable:
                return  # until it is opened again
            self._reconnect()
        given = self.requests.popleft()
        try:
            self.transmit(**given)
        except (ValueError, TypeError) as error:
            self.responses.append(
                {
                    **dict.fromkeys(Response._fields),
                    "headers": Headers(),
                    "body": bytearray(),
                    "request": given,
                    "errored": True,
                    "error": f"it makes no request: {error}",
                }
            )

    def _resume(self) -> None:
        """Ask for a stream of events again, from the last event on."""
        self._resuming = False
        requester = self.requester
        leid = self.respondent.leid
        given = requester.headers
        if self._plain is None and self._left is None:
            self._plain = given
        headers = [(n, v) for n, v in pairs(given) if n.lower() != "last-event-id"]
        if leid:  # in UTF-8, as browsers send it
            value = leid.encode("utf-8", "surrogateescape").decode("latin-1")
            headers.append(("Last-Event-Id", value))
        self._clear()
        try:
            self._start(
                requester.rebuild(
                    headers=headers,
                    body=requester.body,
                    data=requester.data,
                    fargs=requester.fargs,
                )
            )
        except ValueError as error:
            respondent = self.respondent
            respondent.errored = True
            respondent.error = f"{self.connector.where}: the stream cannot be resumed: {error}"
            self._answered()

    def serviceResponse(self) -> None:
        """Receive, parse, and see to a response that is over."""
        self.connector.serviceReceives()
        self._take_response()

    def _take_response(self) -> None:
        """Parse what was received, and see to a response that is over."""
        if not self.waited or self._resuming:
            if self.connector.rxbs:
                # Nobody has asked for anything, so it would be taken for the next answer.
                self._clear()
                self.connector.close()
            return
        respondent = self.respondent
        connector = self.connector
        respondent.parse()
        if respondent.headed:
            self._streaming = bool(respondent.evented)
        if connector.cutoff and not respondent.ended:
            if connector.recoverable and not connector.connected and not self._streaming:
                return  # nothing was sent yet: it is once there is a connection
            if not respondent.headed and not self._streaming:
                self._streaming = "text/event-stream" in self.requester.headers.get("accept", "")
            if not (self._streaming and connector.recoverable):
                respondent.close(connector.abrupt, f"{connector.where}: {connector.error}")
        elif not respondent.ended:
            return
        if self._streaming and connector.recoverable and not respondent.errored:
            self._resuming = self._retimed = True
            connector.tymer.start(respondent.retry / 1000)
            over = not respondent.persisted or connector.txbs or connector.rxbs or connector.error
            self._clear()
            self._over = bool(over)
            return
        self._answered()

    def _answered(self) -> None:
        respondent = self.respondent
        connector = self.connector
        if self._retimed:  # a stream that is over now has set another one
            self._retimed = False
            connector.tymer.start(connector.tymeout)
        self.waited = self._streaming = False
        asked = self._request["headers"]  # for some servers close as they are told, without a word
        self._over = not respondent.persisted or (
            "connection" in asked and "close" in asked["connection"].lower()
        )
        failed = connector.error and not connector.cutoff  # sending did
        if connector.txbs or connector.rxbs or failed or respondent.errored:
            # It answered before it had heard everything, says more than it was asked, or
            # nobody knows what.
            self._clear()
            if not connector.cutoff:
                connector.close()
        response = self._response()
        if respondent.redirectable and respondent.redirectant and not respondent.errored:
            self.redirects.append(response)
            self._followed.append(response)
            try:
                self.redirect()
                return
            except (ValueError, OSError) as error:
                response = dict(response, errored=True, error=f"{connector.where}: {error}")
        if self._followed:
            response["redirects"] = self._followed
            if not self._sharing:
                self.redirects.clear()
        self.responses.append(response)

    def _response(self) -> dict[str, Any]:
        respondent = self.respondent
        return {
            "version": respondent.version,
            "status": respondent.status,
            "reason": respondent.reason,
            "headers": respondent.headers if respondent.headers is not None else Headers(),
            "body": respondent.body,
            "data": respondent.data,
            "request": self._request,
            "errored": respondent.errored,
            "error": respondent.error,
        }

    def _abandon(self, reason: str) -> None:
        """End an outstanding request with an error."""
        if self.waited:
            self._resuming = False
            self.respondent.close(True, f"{self.connector.where}: {reason}")
            self._answered()

    def service(self) -> None:
        """Do what can be done without waiting: connect, send, receive, parse.

        Nothing is raised for what a server or the network does.
        """
        connector = self.connector
        if (not connector.connected or connector.cutoff) and (connector.opened or self.waited):
            cut = connector.cutoff
            connector.serviceConnect()
            if cut and not connector.cutoff:
                self._over = False  # it is another connection
        if (self.requests and not self.waited) or self._resuming:
            self.serviceRequests()
            connector = self.connector  # a request may have led to another one
            if connector.txbs:
                connector.serviceSends()
            if self.waited and not self._resuming and not connector.txbs:
                self._fresh = False
                return  # no answer can be there yet
        elif connector.txbs:
            connector.serviceSends()
        connector.serviceReceives()
        # Only for what is sent in the next turn: whoever has nothing to ask may rest meanwhile.
        self._fresh = bool(self.requests and connector.rxbs) and not connector.cutoff
        if self.waited or connector.rxbs:
            self._take_response()

    def serviceWhileGen(self, tymeout: float = 0.5) -> Generator[bytes, Any, Response | None]:
        """Step the client until there is a response, or for ``tymeout`` seconds of tyme.

        Yields b"" after each turn; returns the response, None when it did not come in time. Use
        it as ``response = yield from client.serviceWhileGen()`` where someone else advances time.
        """
        tymer = Tymer(self.connector.tymth, duration=tymeout)
        self._fresh = False  # who knows how long the last turn is ago
        while True:
            self.service()
            if self.responses or tymer.expired:
                return self.respond()
            yield b""


def _check_place(connector: Connector, scheme: str, hostname: str | None, port: int | None) -> None:
    """Raise ValueError when a URL leads elsewhere than the connector that is given with it."""
    speaks = "https" if isinstance(connector, TLSConnector) else "http"
    if scheme and scheme.lower() != speaks:
        raise ValueError(f"the connector is for {speaks}, not for {scheme}")
    if hostname is not None and (hostname, port or _PORTS[speaks]) != (
        connector.host,
        connector.port,
    ):
        raise ValueError(f"the connector is for {connector.where}, not for {hostname}")
