"""`Stream`: whether a request is answered by events, and how it is asked for again.

Theory of operation: what has answered by events, or asked for nothing else, is *streaming*. When
its connection ends it is *resuming*, until the connector's tymer, which goes by the stream's own
retry meanwhile, lets it be sent again with the id of the last event (HTML, server-sent events).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.http.headers import pairs

if TYPE_CHECKING:
    from holdfast.flow.connecting import Connector
    from holdfast.flow.requesting import Requester
    from holdfast.flow.responding import Respondent
    from holdfast.http.headers import Headers

__all__ = ["Stream", "as_event_id"]


class Stream:
    """What is known of the outstanding request as a stream of events."""

    __slots__ = ("plain", "resuming", "retimed", "streaming")

    def __init__(self) -> None:
        #: Whether the outstanding request is answered by events.
        self.streaming = False
        #: Whether it is to be sent again.
        self.resuming = False
        #: Whether the connector's tymer goes by a stream's retry.
        self.retimed = False
        #: The headers of a stream before it was resumed.
        self.plain: Headers | None = None

    def pause(self, connector: Connector, respondent: Respondent) -> None:
        """Have it asked for again when its retry is over."""
        self.resuming = self.retimed = True
        connector.tymer.start(respondent.retry / 1000)

    def retime(self, connector: Connector) -> None:
        """Have the connector's tymer go by its own time again: the stream is over."""
        self.retimed = False
        connector.tymer.start(connector.tymeout)

    def restore(self, requester: Requester) -> None:
        """Give the requester the headers back that it had before the stream was resumed."""
        if self.plain is not None:
            requester.headers, self.plain = self.plain, None

    def rebuild(
        self, requester: Requester, leid: str | None, *, keep: bool, target: str | None
    ) -> bytes:
        """Return the request for what comes after the event ``leid``.

        ``keep``: whether `restore` is to bring back the headers that it has now. ``target`` is
        what it is sent to, when that is not what the requester makes. Raises InvalidRequest for
        an id that no header can have.
        """
        given = requester.headers
        if keep and self.plain is None:
            self.plain = given
        headers = [(name, value) for name, value in pairs(given) if name.lower() != "last-event-id"]
        if leid:  # in UTF-8, as browsers send it
            value = leid.encode("utf-8", "surrogateescape").decode("latin-1")
            headers.append(("Last-Event-Id", value))
        requester.reinit(
            headers=headers, body=requester.body, data=requester.data, fargs=requester.fargs
        )
        return requester.build(target=target)


def as_event_id(value: str) -> str:
    """Return the id of an event as the stream has it, from the header that names it."""
    return value if value.isascii() else value.encode("latin-1").decode("utf-8", "surrogateescape")
