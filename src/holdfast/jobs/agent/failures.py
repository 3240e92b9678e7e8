"""What a call does when its procedure did not end well. Seldom needed, so apart from the rest."""

from __future__ import annotations

import sys
from typing import Any

from holdfast.wire.jsonlines import encode

__all__ = ["close", "exception_line", "throw_into"]

#: The most characters of an exception's text that are sent; the log has all of it.
TEXT = 65536


def exception_line(error: BaseException) -> bytes:
    """Return the message that the procedure raised, and put the traceback into the log."""
    sys.__excepthook__(type(error), error, error.__traceback__)
    kind = type(error)
    try:
        text = str(error)
    except Exception:
        text = f"{kind.__name__}, whose text cannot be had"
    if len(text) > TEXT:
        text = f"{text[:TEXT]}… ({len(text)} characters)"
    return encode(
        {
            "exception": {
                "type": kind.__name__,
                "message": text.encode("utf-8", "backslashreplace").decode(),
                "data": {"class": kind.__name__, "module": str(kind.__module__)},
            }
        }
    )


def throw_into(packets: Any, error: BaseException) -> None:
    """Raise an error in what gives the packets, and close it."""
    throw = getattr(packets, "throw", None)
    if throw is not None:
        try:
            throw(error)
        except BaseException:  # noqa: S110
            pass  # as it should, when it does not yield once more
    close(packets)


def close(packets: Any) -> None:
    """Let what gives the packets clean up."""
    end = getattr(packets, "close", None)
    if end is not None:
        end()
