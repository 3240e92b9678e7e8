"""`Client`: requests on one connection, sent and answered as its owner's loop steps it.

Theory of operation: one request is outstanding at a time (`waited`). Its answer ends it, or the
end of the connection does. A stream of events is a request that stays outstanding: when its
connection is lost and may be opened again, it is asked for again with the id of the last event,
and nobody hears of it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from holdfast.flow.placing import placed, ready_requester, ready_respondent
from holdfast.flow.responses import Response, answered, asked, attrify, refused
from holdfast.flow.resuming import Stream, as_event_id
from holdfast.flow.routing import Route, origin_of
from holdfast.flow.tyming import Tymer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, MutableSequence

    from holdfast.flow.connecting import Connector, WireLogTypes
    from holdfast.flow.requesting import Requester
    from holdfast.flow.responding import Respondent
    from holdfast.http.headers import HeaderTypes

__all__ = ["Client"]

#: A request in which nothing is said.
_NOTHING = (None,) * 8


class Client:
    """An HTTP client for one host, which never blocks.

    Its owner calls `service` again and again. ``path`` may be a whole URL, whose parts win over
    ``scheme``, ``hostname`` and ``port``; https is TLS. ``method``, ``headers``, ``qargs`` (the
    query) and ``fragment`` are those of the first request, and of those that do not say otherwise.
    ``body``, ``data`` (JSON) or ``fargs`` (a form) go with a first request of which nothing else
    is said, such as `transmit()`; one that says anything has none but its own. ``requests``,
    ``responses``, ``events`` and ``redirects`` are queues to use instead of new ones.
    ``dictable``: parse bodies and events as JSON whatever their type. ``redirectable``: follow
    redirects. ``portOptional``: leave the scheme's own port out of the Host header.

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
        #: What was given to ride along with the last request, None before the first.
        self.latest: dict[str, Any] | None = None
        self._stream = Stream()  # the outstanding request, as one of events
        self._over = False  # whether the connection is to carry no further request
        self._fresh = False  # whether the last turn has seen that the connection is well
        self._asked = False  # whether a request was put into the queue
        self._request: dict[str, Any] = {}  # the outstanding one, for its response

        place = placed(path, scheme, hostname, port, headers, connector, requester)
        options = {"name": name, "uid": uid, "bs": bufsize, "wl": wl, **kwa}
        self._route = Route(place, connector, options)  # whose home the client's own host is
        self.connector = self._route.home
        self.requester = ready_requester(
            place,
            requester,
            method=method,
            qargs=qargs,
            fragment=fragment,
            body=body,
            data=data,
            fargs=fargs,
            portOptional=portOptional,
        )
        if msg is not None:
            self.connector.rxbs = msg
        self.respondent = ready_respondent(
            respondent,
            msg=self.connector.rxbs,
            redirects=self.redirects,
            events=self.events,
            redirectable=redirectable,
            dictable=dictable,
            method=method,
        )
        if connector is not None and wl is not None:
            connector.wl = wl

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.connector!r} {len(self.requests)} to send, "
            f"{int(self.waited)} outstanding, {len(self.responses)} answered>"
        )

    def wind(self, tymth: Callable[[], float]) -> None:
        """Take the time from ``tymth`` from now on."""
        self.connector.wind(tymth)
        self._route.wind(tymth)

    def reopen(self) -> bool:
        """Open the connection, anew if it was open; returns whether it could be asked for.

        A request that is outstanding ends with an error, unless nothing of it was sent yet.
        """
        if self.waited and not self._stream.resuming and not self.connector.connected:
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
        self.waited = self._stream.streaming = self._stream.resuming = False

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
        requester = self.requester
        route = self._route
        stream = self._stream
        if route.left is not None:
            route.go_back(requester)
            home = route.connector(requester)
            if home is not self.connector:
                self._move(home)
        if stream.plain is not None:
            stream.restore(requester)
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
            if given != _NOTHING:
                requester.reinit(None, None, None, *given)
            message = requester.build()
        except BaseException:
            # The next one is to differ from the last that could be sent.
            requester.reinit(None, None, None, *before)
            raise
        connector = self.connector
        if not self.waited and (self._over or (connector.cutoff and not connector.recoverable)):
            self._reconnect()
        self.latest = kwa
        route.followed = []
        stream.streaming = stream.resuming = False
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
        request = asked(requester)
        self._request = {**self.latest, **request} if self.latest else request
        respondent = self.respondent
        respondent.reinit(method=request["method"])
        leid = request["headers"].get("last-event-id")
        respondent.leid = leid if leid is None else as_event_id(leid)

    def redirect(self) -> None:
        """Send the request again, to where the last of ``redirects`` leads.

        Raises ValueError when it leads nowhere, from https to http, or in a loop.
        """
        if not self.redirects:
            return
        requester = self.requester
        origin = origin_of(requester)
        message = self._route.lead(requester, self.redirects[-1])
        if origin != origin_of(requester):
            self._move(self._route.connector(requester))
        elif self._over or not self.connector.opened or self.connector.cutoff:
            self._reconnect()
        self._start(message)
        self.respondent.redirected = True

    def _move(self, connector: Connector) -> None:
        """Connect with another connector instead of the one before."""
        old, self.connector = self.connector, connector
        old.close()
        # Whoever holds the buffers goes on with them.
        connector.txbs, connector.rxbs = old.txbs, old.rxbs
        self._reconnect()

    def _reconnect(self) -> None:
        """Have a connection that has nothing of the one before."""
        self._clear()
        self.connector.reopen()
        self.connector.serviceConnect()

    def serviceRequests(self) -> None:
        """Send the next request when none is outstanding."""
        connector = self.connector
        if self._stream.resuming:
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
            self.responses.append(refused(given, error))

    def _resume(self) -> None:
        """Ask for a stream of events again, from the last event on."""
        stream, route = self._stream, self._route
        stream.resuming = False
        respondent = self.respondent
        self._clear()
        try:
            message = stream.rebuild(
                self.requester, respondent.leid, keep=route.left is None, target=route.target
            )
            self._start(message)
        except ValueError as error:
            respondent.errored = True
            respondent.error = f"{self.connector.where}: the stream cannot be resumed: {error}"
            self._answered()

    def serviceResponse(self) -> None:
        """Receive, parse, and see to a response that is over."""
        self.connector.serviceReceives()
        self._take_response()

    def _take_response(self) -> None:
        """Parse what was received, and see to a response that is over."""
        stream = self._stream
        if not self.waited or stream.resuming:
            if self.connector.rxbs:
                # Nobody has asked for anything, so it would be taken for the next answer.
                self._clear()
                self.connector.close()
            return
        respondent = self.respondent
        connector = self.connector
        respondent.parse()
        if respondent.headed:
            stream.streaming = bool(respondent.evented)
        if connector.cutoff and not respondent.ended:
            if connector.recoverable and not connector.connected and not stream.streaming:
                return  # nothing was sent yet: it is once there is a connection
            if not respondent.headed and not stream.streaming:
                stream.streaming = "text/event-stream" in self.requester.headers.get("accept", "")
            if not (stream.streaming and connector.recoverable):
                respondent.close(connector.abrupt, f"{connector.where}: {connector.error}")
        elif not respondent.ended:
            return
        if stream.streaming and connector.recoverable and not respondent.errored:
            stream.pause(connector, respondent)
            over = not respondent.persisted or connector.txbs or connector.rxbs or connector.error
            self._clear()
            self._over = bool(over)
            return
        self._answered()

    def _answered(self) -> None:
        respondent = self.respondent
        connector = self.connector
        stream = self._stream
        if stream.retimed:
            stream.retime(connector)
        self.waited = stream.streaming = False
        sent = self._request["headers"]  # for some servers close as they are told, without a word
        self._over = not respondent.persisted or "close" in sent.get("connection", "").lower()
        failed = connector.error and not connector.cutoff  # sending did
        if connector.txbs or connector.rxbs or failed or respondent.errored:
            # It answered before it had heard everything, says more than it was asked, or
            # nobody knows what.
            self._clear()
            if not connector.cutoff:
                connector.close()
        response = answered(respondent, self._request)
        followed = self._route.followed
        if respondent.redirectable and respondent.redirectant and not respondent.errored:
            self.redirects.append(response)
            followed.append(response)
            try:
                self.redirect()
                return
            except (ValueError, OSError) as error:
                response = dict(response, errored=True, error=f"{connector.where}: {error}")
        if followed:
            response["redirects"] = followed
            if not self._sharing:
                self.redirects.clear()
        self.responses.append(response)

    def _abandon(self, reason: str) -> None:
        """End an outstanding request with an error."""
        if self.waited:
            self._stream.resuming = False
            self.respondent.close(True, f"{self.connector.where}: {reason}")
            self._answered()

    def service(self) -> None:
        """Do what can be done without waiting: connect, send, receive, parse.

        Nothing is raised for what a server or the network does.
        """
        connector = self.connector
        stream = self._stream
        if (not connector.connected or connector.cutoff) and (connector.opened or self.waited):
            cut = connector.cutoff
            connector.serviceConnect()
            if cut and not connector.cutoff:
                self._over = False  # it is another connection
        if (self.requests and not self.waited) or stream.resuming:
            self.serviceRequests()
            connector = self.connector  # a request may have led to another one
            if connector.txbs:
                connector.serviceSends()
            if self.waited and not stream.resuming and not connector.txbs:
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
