"""What goes wrong with files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.errors import HoldfastError
from holdfast.telemetry.redaction import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FilesError", "Problem"]

#: How many problems an error tells in its text.
_TOLD = 10


class Problem(NamedTuple):
    """A file or folder, by its path, and why it cannot be stored or restored."""

    path: str
    why: str

    def __str__(self) -> str:
        # Names may have bytes that are no text.
        path = self.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return f"{escaped(path)}: {self.why}"


class FilesError(HoldfastError):
    """Files cannot be stored, or not be restored.

    ``problems``: which ones, and why.
    """

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        text = message
        if self.problems:
            told = [str(problem) for problem in self.problems[:_TOLD]]
            if len(self.problems) > _TOLD:
                told.append(f"and {len(self.problems) - _TOLD} more")
            text = f"{message}: {'; '.join(told)}"
        super().__init__(text)

    def __reduce__(self) -> tuple[type[FilesError], tuple[str, tuple[Problem, ...]]]:
        return type(self), (self.message, self.problems)
