"""Header fields: case-insensitive, in order, more than one of a name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar, overload

__all__ = ["SECRET", "HeaderTypes", "Headers", "is_baggage", "pairs", "stays"]

T = TypeVar("T")

#: What callers may give as headers.
HeaderTypes: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

#: Names whose values are credentials: never shown, never sent to another origin.
SECRET = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})


# Of OpenTelemetry (and W3C), of OpenTracing, and of Jaeger.
_BAGGAGE = "baggage"
_BAGGAGES = ("ot-baggage-", "uberctx-")


def is_baggage(name: str) -> bool:
    """Tell whether a header holds what a trace carries along for the program itself."""
    name = name.lower()
    return name == _BAGGAGE or name.startswith(_BAGGAGES)


def stays(name: str) -> bool:
    """Tell whether a header is for the origin that was called, and never sent to another one.

    Baggage may hold anything of the program's, such as who its user is (W3C Baggage, 5.1). The
    other headers of a trace go on: ``traceparent`` is random numbers, and ``tracestate``, without
    which the trace would be sampled differently from there on, must not hold anything personal
    (W3C Trace Context, 4.1 and 7.2).
    """
    lower = name.lower()
    return lower in SECRET or lower == "host" or is_baggage(lower)


def pairs(headers: HeaderTypes | None) -> list[tuple[str, str]]:
    """Return headers in any accepted form as a list of pairs."""
    if headers is None:
        return []
    if isinstance(headers, Headers):
        return headers.multi_items()
    if isinstance(headers, Mapping):
        return [(name, str(value)) for name, value in headers.items()]
    return [(name, str(value)) for name, value in headers]


class Headers(Mapping[str, str]):
    """Header fields of a message, as an immutable case-insensitive mapping.

    A name that occurs more than once has its values joined by ``", "``, as RFC 9110 5.3 allows;
    `get_list` gives them apart.
    """

    __slots__ = ("_fields", "_pairs")

    def __init__(self, headers: HeaderTypes | None = None) -> None:
        self._pairs = pairs(headers)
        fields: dict[str, str] = {}
        for name, value in self._pairs:
            lower = name.lower()
            fields[lower] = f"{fields[lower]}, {value}" if lower in fields else value
        self._fields = fields

    @classmethod
    def from_raw(cls, raw: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Return the headers that came as bytes (Latin-1)."""
        return cls([(n.decode("latin-1"), v.decode("latin-1")) for n, v in raw])

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | T) -> str | T: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """Return the value of a name, joined; the default when there is none."""
        return self._fields.get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def get_list(self, name: str) -> list[str]:
        """Return every value of a name, in order; empty when there is none."""
        lower = name.lower()
        return [value for key, value in self._pairs if key.lower() == lower]

    def multi_items(self) -> list[tuple[str, str]]:
        """Return all fields in order, as they came."""
        return list(self._pairs)

    def __repr__(self) -> str:
        shown = [(n, "[secret]" if n.lower() in SECRET else v) for n, v in self._pairs]
        return f"Headers({shown!r})"
