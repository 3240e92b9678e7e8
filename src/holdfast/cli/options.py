"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["together"]

F = TypeVar("F", bound="Callable[..., Any]")


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return a decorator that adds all the options to a command, in their order in its help."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add
