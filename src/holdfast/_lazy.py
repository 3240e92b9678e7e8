"""Names that a package imports when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["on_use"]


def on_use(
    package: dict[str, Any], modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` (PEP 562) of a package.

    ``package`` is its ``globals()``; ``modules`` tells in which of its modules each name is.
    """
    name = package["__name__"]

    def __getattr__(attribute: str) -> Any:
        module = modules.get(attribute)
        if module is None:
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        value = package[attribute] = getattr(import_module(f"{name}.{module}"), attribute)
        return value

    def __dir__() -> list[str]:
        return sorted({*package, *package["__all__"]})

    return __getattr__, __dir__
