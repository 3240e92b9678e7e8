"""The names, parameters and defaults that users of resources, shards and replicas rely on."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from holdfast import rest

NOTHING = inspect.Parameter.empty
"""A parameter that has to be given."""

OTHER = object()
"""A default that is ours to choose."""

Parameters = list[tuple[str, Any]]

REQUEST: Parameters = [("method", NOTHING), ("path", NOTHING), ("body", None)]
CALL: Parameters = [*REQUEST, ("params", ())]
QUERY: Parameters = [("path", NOTHING), ("**params", NOTHING)]
BODY: Parameters = [("path", NOTHING), ("body", None), ("**kwargs", NOTHING)]
VERBS: dict[str, Parameters] = {
    "get": QUERY,
    "delete": QUERY,
    "post": BODY,
    "put": BODY,
    "patch": BODY,
}

SIGNATURES: dict[str, dict[str, Parameters]] = {
    "Resource": {
        "__init__": [
            ("host", NOTHING),
            ("port", None),
            ("strict", None),
            ("timeout", OTHER),
            ("source_address", None),
        ],
        "call": [*CALL, ("redirect", False)],
        "request": REQUEST,
        "getresponse": [("filename", "")],
        "download": [("path", NOTHING), ("filename", NOTHING)],
        "multicall": [("*requests", NOTHING)],
        **VERBS,
    },
    "Pool": {
        "__init__": [("host", NOTHING), ("limit", 0)],
        "__len__": [],
        "call": [*CALL, ("redirect", False)],
        **VERBS,
    },
    "Resources": {
        "__init__": [("hosts", NOTHING), ("limit", 0)],
        "priority": [("host", NOTHING)],
        "choice": [("hosts", NOTHING)],
        "unicast": [*REQUEST, ("hosts", ())],
        "broadcast": [*REQUEST, ("hosts", ())],
    },
    "Shards": {
        "__init__": [("items", ()), ("limit", 0), ("**multimap", NOTHING)],
        "priority": [("hosts", NOTHING)],
        "choice": [("hosts", NOTHING)],
        "unicast": [("key", NOTHING), *REQUEST],
        "broadcast": [("key", NOTHING), *REQUEST],
        "multicast": [("keys", NOTHING), *REQUEST],
    },
    "Replicas": {
        "__init__": [("hosts", NOTHING), ("limit", 0)],
        "priority": [("host", NOTHING)],
        "choice": [("hosts", NOTHING)],
        "unicast": [*REQUEST, ("hosts", ())],
        "broadcast": [*REQUEST, ("hosts", ())],
        "call": [*CALL, ("retry", False)],
        **VERBS,
    },
}

CASES = [
    (prefix + name, method)
    for prefix in ("", "Async")
    for name, methods in SIGNATURES.items()
    for method in methods
]


def parameters_of(function: Any) -> list[inspect.Parameter]:
    """Return the parameters of a method, without the object itself."""
    return list(inspect.signature(function).parameters.values())[1:]


def documented(parameter: inspect.Parameter) -> str:
    """Return a parameter's name as documentation writes it."""
    return str(parameter).partition(":")[0].partition("=")[0]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_signatures(name: str, method: str) -> None:
    """A method takes what its users give it, in that order, with those defaults."""
    expected = SIGNATURES[name.removeprefix("Async")][method]
    found = parameters_of(getattr(getattr(rest, name), method))
    plain = [parameter for parameter in found if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    positional = [item for item in expected if not item[0].startswith("*")]
    assert [parameter.name for parameter in plain][: len(positional)] == [n for n, _ in positional]
    for parameter, (_, default) in zip(plain, positional, strict=False):
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if default is OTHER:
            assert parameter.default is not NOTHING
        else:
            assert parameter.default == default
    names = {documented(parameter) for parameter in found}
    assert names >= {n for n, _ in expected if n.startswith("*")}


@pytest.mark.parametrize(("name", "method"), CASES)
def test_what_is_more_is_optional(name: str, method: str) -> None:
    """What a method takes besides has defaults, and comes after what its users give."""
    expected = {n.lstrip("*") for n, _ in SIGNATURES[name.removeprefix("Async")][method]}
    for parameter in parameters_of(getattr(getattr(rest, name), method)):
        variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name not in expected and not variable:
            assert parameter.default is not NOTHING


@pytest.mark.parametrize("prefix", ["", "Async"])
def test_what_they_are(prefix: str) -> None:
    """Many hosts and shards are dictionaries, and replicas are many hosts."""
    resources, shards, replicas = (
        getattr(rest, prefix + name) for name in ("Resources", "Shards", "Replicas")
    )
    assert issubclass(resources, dict)
    assert issubclass(shards, dict)
    assert issubclass(replicas, resources)


@pytest.mark.parametrize("name", ["status", "reason", "headers", "body", "time"])
def test_a_response_has(name: str) -> None:
    """A response has these attributes; who makes it is our own affair."""
    assert isinstance(getattr(rest.Response, name), property)


def test_all_names() -> None:
    """The package offers the classes of both kinds, and nothing that has no documentation."""
    for prefix in ("", "Async"):
        assert {prefix + name for name in SIGNATURES} <= set(rest.__all__)
    assert {"Response", "ResponseError"} <= set(rest.__all__)
    assert all(inspect.getdoc(getattr(rest, name)) for name in rest.__all__)
