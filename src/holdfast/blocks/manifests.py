r"""Manifests: what files are made of, in the text format of Arvados.

A line is a *stream*: the name of a folder, its blocks, and the files in them, each as where it
begins in these blocks taken as one, its size, and its name:

    ./photos 930625b054ce894ac40596c3f5a0d947+33+A… 0:0:empty 0:20:a.jpg 20:13:b\040c.jpg

A file may reach over several blocks, and appear several times: these are its parts, in order. An
empty folder is a file ``0:0:\056``. What would not be one word is escaped by three octal digits
for each byte of its UTF-8; a name that is not UTF-8 keeps its bytes that way (`os.fsdecode`).

The text that is built is normal, as a `Manifest` is: of the same files and blocks there is one, and
``parse(build(manifest))`` is equal to the manifest.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, NoReturn

from holdfast.blocks.locators import BLOCK, EMPTY, KeepLocator
from holdfast.blocks.segments import (
    Manifest,
    ManifestError,
    Segment,
    block_size,
    misleading,
    order,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SEGMENTS", "build", "parse"]

#: The longest text, in bytes, and the most parts of files, of which an empty file is one, too: a
#: short text can name one block so often that no memory would hold it.
TEXT = 16 * BLOCK
SEGMENTS = 10_000_000

# What separates words for whoever reads the text, what a terminal would act on, and the bytes of
# names that are not UTF-8.
_ESCAPED = re.compile(
    "[\x00-\x20\\\\:\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\udc80-\udcff]"
)
_ESCAPE = re.compile(rb"\\([0-3][0-7][0-7])")
_BYTES = {b"%03o" % byte: bytes([byte]) for byte in range(256)}
_BAD_ESCAPE = re.compile(r"\\(?![0-3][0-7][0-7])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"[0-9]{1,18}")


def build(manifest: Manifest) -> bytes:
    """Return the text of a manifest, in UTF-8; raises ManifestError when it is too long."""
    streams: dict[str, dict[str, tuple[Segment, ...]]] = {path: {} for path in manifest.folders}
    for path, segments in manifest.files.items():
        folder, _, name = path.rpartition("/")
        streams.setdefault(folder, {})[name] = segments
    lines = []
    for folder in sorted(streams, key=order):
        tokens = [f"./{_escaped(folder)}" if folder else "."]
        tokens += _stream(streams[folder])
        lines.append(" ".join(tokens) + "\n")
    text = "".join(lines).encode()
    if len(text) > TEXT:
        raise ManifestError(f"it has more than {TEXT} bytes")
    return text


def _stream(files: dict[str, tuple[Segment, ...]]) -> Iterator[str]:
    """Iterate over the blocks and the files of one folder."""
    starts: dict[str, int] = {}
    end = 0
    for segments in files.values():
        for locator, _, _ in segments:
            if locator not in starts:
                starts[locator] = end
                end += KeepLocator(locator).size or 0
                yield locator
    if not starts:
        yield str(EMPTY)
    if not files:
        yield "0:0:\\056"
    for name, segments in files.items():
        escaped = _escaped(name)
        begin = size = 0
        for segment in segments:
            position = starts[segment.locator] + segment.offset
            if size and position != begin + size:
                yield f"{begin}:{size}:{escaped}"
                size = 0
            if not size:
                begin = position
            size += segment.size
        yield f"{begin}:{size}:{escaped}"


def _escaped(name: str) -> str:
    return _ESCAPED.sub(
        lambda match: "".join(
            f"\\{byte:03o}" for byte in match[0].encode("utf-8", "surrogateescape")
        ),
        name,
    )


def parse(data: bytes | str, *, segments: int = SEGMENTS) -> Manifest:
    """Return the manifest that a text is; raises ManifestError for every other text.

    ``segments``: the most parts of files that it may have.
    """
    if len(data) > TEXT:
        raise ManifestError(f"it has more than {TEXT} bytes")
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    if lines.pop():
        raise ManifestError("it does not end with a line break", len(lines) + 1)
    parser = _Parser(segments)
    for line in lines:
        parser.line(line)
    return Manifest(parser.files, parser.folders)


class _Parser:
    """What the lines so far have told."""

    def __init__(self, most: int) -> None:
        self.files: dict[str, list[Segment]] = {}
        self.folders: list[str] = []
        self._number = 0
        self._token: str | None = None
        self._most = self._left = most

    def _fail(self, why: str) -> NoReturn:
        raise ManifestError(why, self._number, self._token)

    def line(self, line: str) -> None:
        """Take a stream."""
        self._number += 1
        self._token = None
        tokens = iter(line.split(" "))
        token = self._token = next(tokens)
        name = self._unescaped(token)
        if name != "." and not name.startswith("./"):
            self._fail("the name of a stream is . or begins with ./")
        folder = name[2:] + "/" if name != "." else ""
        if folder and (why := misleading(folder[:-1])):
            self._fail(why)
        locators: list[str] = []
        starts: list[int] = []
        end = 0
        files = False
        for token in tokens:
            self._token = token
            if ":" in token:
                if not locators:
                    self._fail("a stream has a block before its files")
                self._file(token, folder, locators, starts, end)
                files = True
                continue
            if files:
                self._fail("not a file, such as 0:3:name")
            try:
                size = block_size(token)
            except ManifestError as error:
                self._fail(error.why)
            locators.append(token)
            starts.append(end)
            end += size
        if not files:
            self._token = None
            self._fail("a stream has a name, blocks, and files")

    def _file(
        self, token: str, folder: str, locators: list[str], starts: list[int], end: int
    ) -> None:
        parts = token.split(":", 2)
        if len(parts) < 3 or not (_NUMBER.fullmatch(parts[0]) and _NUMBER.fullmatch(parts[1])):
            self._fail("not a file, such as 0:3:name")
        position, left = int(parts[0]), int(parts[1])
        if position + left > end:
            self._fail(f"it reaches beyond the blocks, which have {end} bytes")
        name = self._unescaped(parts[2])
        if not left:
            self._count()
        if name == "." or name.endswith("/."):
            if left:
                self._fail("what stands for an empty folder is empty")
            path = (folder + name).rpartition("/")[0]
            if path:
                if why := misleading(path):
                    self._fail(why)
                self.folders.append(path)
            return
        if why := misleading(name):
            self._fail(why)
        segments = self.files.setdefault(folder + name, [])
        index = bisect_right(starts, position) - 1
        while left:
            offset = position - starts[index]
            until = starts[index + 1] if index + 1 < len(starts) else end
            size = min(left, until - position)
            if size:
                self._count()
                segments.append(Segment(locators[index], offset, size))
            position += size
            left -= size
            index += 1

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            self._fail(f"files have more than {self._most} parts")

    def _unescaped(self, token: str) -> str:
        if _CONTROL.search(token):
            self._fail("control characters are to be escaped")
        try:
            data = token.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            self._fail("it cannot be encoded")
        if "\\" in token:
            if _BAD_ESCAPE.search(token):
                self._fail("after a backslash there are three octal digits, up to 377")
            data = _ESCAPE.sub(lambda match: _BYTES[match[1]], data)
        return data.decode("utf-8", "surrogateescape")
