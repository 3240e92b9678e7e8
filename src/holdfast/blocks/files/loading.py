"""The manifest behind a locator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.blocks.errors import ArgumentError
from holdfast.blocks.files.access import get
from holdfast.blocks.files.working import on_thread
from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.manifests import parse

if TYPE_CHECKING:
    from holdfast.blocks.base import KeepBase
    from holdfast.blocks.segments import Manifest
    from holdfast.ops import Program

__all__ = ["load", "locators_of"]


def locators_of(text: str) -> list[str]:
    """Return the locators of a manifest's blocks; raises ArgumentError for what is none.

    A manifest of more than one block has one locator for each, with commas between.
    """
    locators = text.strip().split(",")
    for locator in locators:
        try:
            KeepLocator(locator)
        except ValueError as error:
            raise ArgumentError(str(error)) from None
    return locators


def load(client: KeepBase, text: str) -> Program[Manifest]:
    """Read and parse a manifest; raises KeepReadError, ManifestError, ArgumentError."""
    parts = []
    for locator in locators_of(text):
        part = yield from get(client, locator)
        parts.append(part)
    return (yield from on_thread(parse, b"".join(parts)))
