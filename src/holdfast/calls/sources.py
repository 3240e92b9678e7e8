"""Bodies that run out: files and iterators, which a further attempt cannot just send again."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from holdfast.errors import InvalidRequest

if TYPE_CHECKING:
    from holdfast.calls.call import Call
    from holdfast.http.bodies import Body

__all__ = ["Source", "note_source"]


class Source:
    """A file or an iterator that was given as a body, and where it stood."""

    __slots__ = ("attempt", "body", "given", "start")

    def __init__(self, given: Any, attempt: int, body: Body | None) -> None:
        self.given = given
        self.attempt = attempt
        self.body = body
        self.start = _position(given)

    @property
    def spent(self) -> bool:
        """Whether it cannot be sent (again)."""
        if getattr(self.given, "closed", False) is True:
            return True
        return self.start is None and self.body is not None and not self.body.replayable

    def rewind(self) -> None:
        """Let it stand where it stood, for the next attempt."""
        if self.start is not None and not self.spent:
            try:
                self.given.seek(self.start)
            except (OSError, ValueError):
                self.start = None


def note_source(call: Call | None, data: Any, body: Body | None = None) -> None:
    """Take note of a body that runs out; raises InvalidRequest when it has, in another attempt."""
    if call is None or not (hasattr(data, "read") or isinstance(data, Iterator | AsyncIterator)):
        return
    for source in call.sources:
        if source.given is data:
            if source.attempt < call.attempt and source.spent:
                raise InvalidRequest(
                    "data was sent by an earlier attempt and is used up: make the file or the "
                    "iterator in the function, or give bytes"
                )
            return
    call.sources.append(Source(data, call.attempt, body))


def _position(given: Any) -> int | None:
    tell = getattr(given, "tell", None)
    if tell is None or not hasattr(given, "seek") or inspect.iscoroutinefunction(tell):
        return None
    try:
        position = tell()
    except (OSError, ValueError):
        return None
    return position if isinstance(position, int) else None
