"""What a request carries: queries, JSON, forms, multipart, bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote_plus

from holdfast.errors import InvalidRequest

__all__ = ["BodyTypes", "FieldTypes", "as_dict", "json_text", "multipart", "octets", "urlencoded"]

#: What callers may give as a body.
BodyTypes: TypeAlias = bytes | bytearray | memoryview | str

#: What callers may give as a query or form; a list or tuple of values repeats its name.
FieldTypes: TypeAlias = Mapping[str, Any] | Iterable[tuple[str, Any]]

#: What `quote_plus` leaves as it is, found out at a fraction of its cost.
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch

_encode_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def json_text(data: Any) -> bytes:
    """Return data as compact JSON in ASCII; raise InvalidRequest when it has no such form."""
    try:
        return _encode_json(data).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the data cannot be sent as JSON: {error}") from None


def octets(body: BodyTypes | None) -> bytes:
    """Return a body as bytes, str as ISO-8859-1; raise InvalidRequest for what is none."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        try:
            return body.encode("iso-8859-1")
        except UnicodeEncodeError:
            raise InvalidRequest("a body that is not ISO-8859-1 is given as bytes") from None
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    if body is None:
        return b""
    raise InvalidRequest(f"a body is bytes or str, not {type(body).__name__}")


def as_dict(fields: FieldTypes) -> dict[str, Any]:
    """Return fields as a dictionary of its own; a name that repeats has a list of its values."""
    if isinstance(fields, Mapping):
        return dict(fields)
    result: dict[str, Any] = {}
    for name, value in fields:
        if name not in result:
            result[name] = value
        elif isinstance(result[name], list):
            result[name].append(value)
        else:
            result[name] = [result[name], value]
    return result


def urlencoded(fields: FieldTypes) -> str:
    """Return fields as a query or a form, each name and value quoted, spaces as ``+``."""
    return "&".join([f"{_plus(name)}={_plus(value)}" for name, value in _flattened(fields)])


def _flattened(fields: FieldTypes) -> list[tuple[Any, Any]]:
    """Return each name with each of its values."""
    items = fields.items() if isinstance(fields, Mapping) else fields
    flat: list[tuple[Any, Any]] = []
    for name, value in items:
        if isinstance(value, (list, tuple)):
            flat += [(name, one) for one in value]
        else:
            flat.append((name, value))
    return flat


def _plus(value: Any) -> str:
    if isinstance(value, str) and _UNRESERVED(value):
        return value
    return quote_plus(_utf8(value))


def _utf8(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    try:
        # Surrogates are what was no UTF-8 in a query that was taken apart.
        return str(value).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidRequest("a query or form with a lone surrogate cannot be sent") from None


def multipart(fields: FieldTypes, getrandbits: Callable[[int], int]) -> tuple[bytes, bytes]:
    """Return a multipart/form-data body (RFC 7578) with one text part a field, and its boundary."""
    parts = [
        b'Content-Disposition: form-data; name="%b"\r\n'
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n%b\r\n"
        % (_escaped(_utf8(name)), _utf8(value))
        for name, value in _flattened(fields)
    ]
    boundary = b"%032x" % getrandbits(128)
    while any(boundary in part for part in parts):
        boundary = b"%032x" % getrandbits(128)
    lines = [b"--%b\r\n%b" % (boundary, part) for part in parts]
    return b"%b--%b--\r\n" % (b"".join(lines), boundary), boundary


def _escaped(name: bytes) -> bytes:
    """Return a field's name as it stands between quotes, escaped as browsers do."""
    return name.replace(b'"', b"%22").replace(b"\r", b"%0D").replace(b"\n", b"%0A")
