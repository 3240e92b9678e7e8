"""Every specification of the package, so that a new one cannot be forgotten by the tests."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import holdfast.cluster
import holdfast.policy
from holdfast.policy.specs import Spec

#: What a specification needs to be made at all, or cannot be given together with.
NEEDED: dict[str, dict[str, Any]] = {
    "RateLimit": {"per_second": 10.0},
    "Fallback": {"value": None},
    "Fault": {"share": 0.5, "delay": 1.0},
    "Host": {"address": "http://host"},
    "Subset": {"size": 5, "client": 1},
}


def every_spec() -> list[Any]:
    """Return every specification of the package."""
    for package in (holdfast.policy, holdfast.cluster):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found: dict[str, Any] = {}
    todo = list(Spec.__subclasses__())
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        # `dataclass(slots=True)` makes a second class; the first one is not to be found.
        module_ = importlib.import_module(kind.__module__)
        if kind.__module__.startswith("holdfast.") and getattr(module_, kind.__name__, 0) is kind:
            found[kind.__name__] = kind
    return [found[name] for name in sorted(found)]


SPECS = every_spec()


def made(kind: Any, **values: Any) -> Any:
    """Make a specification, with what it needs besides."""
    return kind(**{**NEEDED.get(kind.__name__, {}), **values})
