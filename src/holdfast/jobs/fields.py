"""The fields of a message: what is there is checked, what is unknown is refused.

Every check raises `Invalid` of a type of the protocol. In JSON true and false are no numbers, so
here they are none either, whatever Python says.
"""

from __future__ import annotations

from typing import Any

from holdfast.wire.jsonlines import WireError, decode

__all__ = ["INTEGER_LIMIT", "NAME_LIMIT", "TEXT_LIMIT", "Fields", "Invalid", "received"]

#: The most characters in the name of a host, a procedure, a user or a job.
NAME_LIMIT = 1024

#: The most characters in a token or a password.
TEXT_LIMIT = 4096

#: The largest whole number: what every implementation of JSON reads exactly (RFC 8259, 6).
INTEGER_LIMIT = (1 << 53) - 1

_MISSING: Any = object()

_KINDS = {
    bool: "true or false",
    dict: "an object",
    list: "an array",
    str: "a string",
}


class Invalid(Exception):
    """A message is not what the protocol asks for; ``type`` is that of the error to answer."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(type, message)
        self.type = type
        self.message = message

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


def received(line: bytes) -> Any:
    """Return the value of a line; raises Invalid, a ``parse_error``, where there is none."""
    try:
        return decode(line)
    except WireError as error:
        raise Invalid("parse_error", str(error)) from None


class Fields:
    """The fields of one object, each to be taken once; `end` refuses those that nobody took.

    ``what`` is how messages name the object. Values are not in messages: they may be secrets.
    """

    __slots__ = ("_left", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise Invalid("invalid_request", f"{what} must be an object")
        self._left = dict(value)
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def version(self, name: str, type: str = "invalid_request") -> None:
        """Take the field that names the protocol and its version, which is 1."""
        version = self._left.pop(name, None)
        if version.__class__ is not int or version != 1:
            raise Invalid(type, f'{self._what} must have "{name}": 1')

    def any(self, name: str, default: Any = _MISSING) -> Any:
        """Take a field of any kind."""
        value = self._left.pop(name, default)
        if value is _MISSING:
            raise Invalid("invalid_request", f"{self._what}: {name} is missing")
        return value

    def _kind(self, name: str, kind: type) -> Any:
        value = self.any(name)
        if value.__class__ is not kind:
            raise self._wrong(name, f"must be {_KINDS[kind]}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Take true or false."""
        return self._kind(name, bool) if name in self._left else default

    def object(self, name: str, default: Any = _MISSING) -> Any:
        """Take an object."""
        if name not in self._left and default is not _MISSING:
            return default
        return self._kind(name, dict)

    def text(self, name: str, limit: int = NAME_LIMIT, default: Any = _MISSING) -> Any:
        """Take a string that is not empty and has no more than so many characters."""
        if name not in self._left and default is not _MISSING:
            return default
        value = self._kind(name, str)
        if not value or len(value) > limit:
            raise self._wrong(name, f"must have 1 to {limit} characters")
        if "\0" in value or not _whole(value):
            raise self._wrong(name, "has characters that are none")
        return value

    def integer(self, name: str, least: int, default: Any = _MISSING) -> Any:
        """Take a whole number from ``least`` on."""
        if name not in self._left and default is not _MISSING:
            return default
        value = self.any(name)
        if value.__class__ is not int or not least <= value <= INTEGER_LIMIT:
            rule = "a positive integer" if least else "an integer from 0"
            raise self._wrong(name, f"must be {rule}")
        return value

    def arguments(self) -> list[Any] | dict[str, Any]:
        """Take the arguments of a call."""
        value = self.any("arguments")
        if not isinstance(value, (list, dict)):
            raise self._wrong("arguments", "must be an array or an object")
        return value

    def _wrong(self, name: str, rule: str) -> Invalid:
        return Invalid("invalid_request", f"{self._what}: {name} {rule}")

    def end(self) -> None:
        """Refuse the fields that are left."""
        if self._left:
            names = ", ".join(repr(name[:50]) for name in list(self._left)[:5])
            raise Invalid("invalid_request", f"{self._what} has unknown fields: {names}")


def _whole(text: str) -> bool:
    """Tell whether a string can be stored: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
