"""What a request is refused with: a status, and one line of text."""

from __future__ import annotations

__all__ = ["Refused"]


class Refused(Exception):
    """A request is not carried out; ``status`` is the answer's status, ``text`` its line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
