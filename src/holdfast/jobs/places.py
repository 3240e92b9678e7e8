"""Where dispatchers and hosts are."""

from __future__ import annotations

import os
import ssl
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from holdfast.errors import InvalidRequest
from holdfast.http.origins import Origin
from holdfast.jobs.errors import InvalidCall

if TYPE_CHECKING:
    from holdfast.http.tls import VerifyTypes

__all__ = ["CAFile", "duration", "place", "seconds", "verification"]

#: A file or a folder with the certificates of authorities, or a context that knows more.
CAFile: TypeAlias = str | os.PathLike[str] | ssl.SSLContext | None


def place(address: str, port: int, tls: bool) -> Origin:
    """Return the place that ``"name"``, ``"name:port"`` or an IPv6 address means.

    ``port`` is for an address without one. Raises InvalidCall for anything else.
    """
    if port.__class__ is not int or not 0 < port < 1 << 16:
        raise InvalidCall(f"port must be a number from 1 to 65535, not {port!r}")
    given: object = address
    if not isinstance(given, str) or not given or any(mark in given for mark in "/@?#"):
        raise InvalidCall("host must be a name or an address, with a port perhaps: 'name:3502'")
    try:
        # A scheme gives the port where the address has none, and no port is that of both.
        plain = Origin.parse(f"http://{_bracketed(address)}")
        other = Origin.parse(f"https://{_bracketed(address)}")
    except InvalidRequest as error:
        raise InvalidCall(error.summary) from None
    number = plain.port if plain.port == other.port else port
    return Origin("https" if tls else "http", plain.host, number)


def _bracketed(address: str) -> str:
    return f"[{address}]" if address.count(":") > 1 and "[" not in address else address


def verification(tls: bool | ssl.SSLContext, ca_file: CAFile) -> VerifyTypes:
    """Return what a certificate is verified against: the system's authorities by default."""
    if ca_file is not None:
        return ca_file
    return tls if isinstance(tls, ssl.SSLContext) else True


def seconds(name: str, value: float | None) -> float | None:
    """Return a limit of time; raises InvalidCall for what is none."""
    given: object = value
    if given is not None and (
        isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0
    ):
        raise InvalidCall(f"{name} must be a number of seconds above 0, or None, not {value!r}")
    return value


def duration(name: str, value: float | None) -> float:
    """Return how long something is tried, from 0 on; without a limit where it is None."""
    limit = 0.0 if value.__class__ in (int, float) and value == 0 else seconds(name, value)
    return inf if limit is None else limit
