"""What files are made of: parts of blocks.

A `Manifest` is always normal: sorted, with adjacent parts as one, so that two manifests of the same
files and blocks are equal. What no file system could have makes none: two files of one name, a file
that is a folder, or a name that would lead elsewhere, such as ``..``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from holdfast.blocks.locators import BLOCK, KeepLocator
from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Manifest", "ManifestError", "Segment", "block_size", "misleading", "order", "stripped"]

#: How much of a token or a path an error tells.
_SHORT = 60


class ManifestError(HoldfastError, ValueError):
    """A text is no manifest, or files cannot be in one.

    ``line``: the number of the line, from 1, and ``token``: the word in it; None where it is about
    all of it.
    """

    def __init__(self, why: str, line: int | None = None, token: str | None = None) -> None:
        self.why = why
        self.line = line
        self.token = token
        where = "" if line is None else f"line {line}: "
        if token is not None:
            shown = token if len(token) <= _SHORT else token[:_SHORT] + "…"
            where += f"{shown!r}: "
        super().__init__(f"not a manifest: {where}{why}")

    def __reduce__(self) -> tuple[type[ManifestError], tuple[str, int | None, str | None]]:
        return type(self), (self.why, self.line, self.token)


class Segment(NamedTuple):
    """A part of a file: ``size`` bytes of a block, from ``offset`` on."""

    locator: str
    offset: int
    size: int


class Manifest:
    """Files and the parts that they are made of, by their paths, such as ``photos/a.jpg``.

    ``files``: the parts of each file, in order. ``folders``: further folders, which are empty.
    Raises ManifestError for what no file system could have.
    """

    __slots__ = ("files", "folders")

    #: The parts of each file, sorted by folder and name.
    files: dict[str, tuple[Segment, ...]]
    #: The empty folders, sorted.
    folders: tuple[str, ...]

    def __init__(self, files: Mapping[str, Iterable[Segment]], folders: Iterable[str] = ()) -> None:
        sizes: dict[str, int] = {}
        made: dict[str, tuple[Segment, ...]] = {}
        for path, segments in files.items():
            name = _checked(path)
            if name in made:
                raise ManifestError(f"two files are named {name!r}")
            made[name] = _normal(segments, sizes)
        empty = {_checked(path) for path in folders}
        # A folder comes right before what is in it, since no name has a NUL.
        paths = sorted([*made, *(empty - made.keys())], key=order)
        if both := empty & made.keys():
            raise ManifestError(f"{min(both)!r} is a file and a folder")
        for path, following in pairwise(paths):
            if following.startswith(f"{path}/"):
                if path in made:
                    raise ManifestError(f"{path!r} is a file and a folder")
                empty.discard(path)
        self.files = {path: made[path] for path in paths if path in made}
        self.folders = tuple(path for path in paths if path in empty)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return self.files == other.files and self.folders == other.folders

    __hash__ = None  # type: ignore[assignment]  # it has a dictionary

    def __repr__(self) -> str:
        return f"<Manifest: {len(self.files)} files, {self.size} bytes>"

    def size_of(self, path: str) -> int:
        """Return the size of a file in bytes."""
        return sum(segment.size for segment in self.files[path])

    @property
    def size(self) -> int:
        """The size of all files together, in bytes."""
        return sum(segment.size for segments in self.files.values() for segment in segments)

    def locators(self) -> list[str]:
        """Return the locators of the blocks in the order of the files, each block once."""
        found: dict[str, str] = {}
        for segments in self.files.values():
            for segment in segments:
                found.setdefault(stripped(segment.locator), segment.locator)
        return list(found.values())


def stripped(locator: str) -> str:
    """Return the hash and the size of a segment's locator: blocks that have both are one."""
    return "+".join(locator.split("+", 2)[:2])


def order(path: str) -> str:
    """Return what paths are sorted by: a folder comes right before what is in it."""
    return path.replace("/", "\0")


def _checked(path: str) -> str:
    """Return a path as it is compared; raises ManifestError for what leads elsewhere."""
    try:
        canonical = path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ManifestError(f"{path[:_SHORT]!r} cannot be encoded") from None
    if why := misleading(canonical):
        raise ManifestError(f"{path[:_SHORT]!r}: {why}")
    return canonical


def misleading(path: str) -> str | None:
    """Return why a path is none within a folder, None when it is one."""
    if "\0" in path:
        return "a name has no NUL"
    for name in path.split("/"):
        if name in ("", ".", ".."):
            return f"no part of a path is {name!r}"
    return None


def _normal(segments: Iterable[Segment], sizes: dict[str, int]) -> tuple[Segment, ...]:
    """Return parts without empty ones, and with adjacent ones as one."""
    normal: list[Segment] = []
    for segment in segments:
        locator, offset, size = segment
        if locator not in sizes:
            sizes[locator] = block_size(locator)
        if offset < 0 or size < 0 or offset + size > sizes[locator]:
            raise ManifestError(f"no part of {locator}: {size} bytes from {offset} on")
        if not size:
            continue
        if normal:
            last = normal[-1]
            if last.locator == locator and last.offset + last.size == offset:
                normal[-1] = Segment(locator, last.offset, last.size + size)
                continue
        normal.append(Segment(locator, offset, size))
    return tuple(normal)


def block_size(text: str) -> int:
    """Return the size that a locator tells; raises ManifestError when it is none of a block."""
    try:
        size = KeepLocator(text).size
    except (TypeError, ValueError) as error:
        raise ManifestError(str(error)) from None
    if size is None or size > BLOCK:
        raise ManifestError(f"{text!r}: a block has a size of up to {BLOCK} bytes")
    return size
