"""What people type for a request, turned into what a call takes.

No message repeats a value, for it may be a secret.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import click
import orjson

from holdfast.errors import InvalidRequest
from holdfast.http.origins import Origin

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Body", "auth_of", "body_of", "headers_of", "hosts_of", "params_of"]

_FORM = "application/x-www-form-urlencoded"


class Body(NamedTuple):
    """A body and its type."""

    content: Any
    content_type: str


def hosts_of(hosts: Sequence[str], path: str) -> list[str]:
    """Return the hosts, each once; raises UsageError for what is none."""
    if "://" in path.partition("?")[0]:
        parts = urlsplit(path)
        right = parts.path or "/"
        origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise click.UsageError(
            f"PATH comes without its host: give {right} as PATH, and --host {origin}."
        )
    if not hosts:
        raise click.UsageError("Which host? Name one, or several, with --host.")
    for number, host in enumerate(hosts, start=1):
        try:
            Origin.parse(host)
        except InvalidRequest as error:
            why = "not a host" if "@" in host else str(error)
            raise click.BadParameter(f"number {number}: {why}.", param_hint="--host") from None
    return list(dict.fromkeys(hosts))


def headers_of(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Return header fields from lines such as ``Name: value``."""
    headers = []
    for number, line in enumerate(lines, start=1):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(
                f"number {number} is not 'Name: value'.", param_hint="--header"
            )
        headers.append((name.strip(), value.strip()))
    return headers


def params_of(pairs: Sequence[str]) -> list[tuple[str, str]]:
    """Return parameters of the query from ``name=value``."""
    params = []
    for number, pair in enumerate(pairs, start=1):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"number {number} is not 'name=value'.", param_hint="--param")
        params.append((name, value))
    return params


def auth_of(user: str | None, bearer: str | None) -> tuple[str, str] | str | None:
    """Return credentials: a pair of user and password, or a bearer token."""
    if user is not None and bearer is not None:
        raise click.UsageError("Give --auth or --bearer, not both.")
    if user is None:
        return bearer
    name, colon, password = user.partition(":")
    if not colon:
        password = click.prompt("Password", hide_input=True, err=True)
    return name, password


def body_of(json: str | None, data: str | None) -> Body | None:
    """Return the body: text as given, ``@FILE``, or ``-`` for the standard input.

    ``data`` from a file is read while it is sent. JSON is read at once, and checked.
    """
    if json is not None and data is not None:
        raise click.UsageError("Give --json or --data, not both.")
    if data is not None:
        return Body(_opened(data, "--data"), _FORM)
    if json is None:
        return None
    content = _opened(json, "--json")
    if not isinstance(content, bytes):
        content = content.read()
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(f"not JSON: {error}.", param_hint="--json") from None
    return Body(content, "application/json")


def _opened(value: str, option: str) -> Any:
    """Return bytes, or an open binary file."""
    if value == "-":
        return sys.stdin.buffer
    if not value.startswith("@"):
        return value.encode("utf-8", "surrogateescape")  # as the terminal gave it
    try:
        return click.get_current_context().with_resource(open(value[1:], "rb"))
    except OSError as error:
        raise click.BadParameter(
            f"{value[1:]}: {error.strerror or error}.", param_hint=option
        ) from None
