"""Content-addressed blocks on N of M services (the Keep protocol): client, cache, server, files."""

from holdfast.blocks.aio import AsyncKeepClient
from holdfast.blocks.cache import KeepBlockCache
from holdfast.blocks.client import KeepClient
from holdfast.blocks.errors import (
    ArgumentError,
    HttpError,
    KeepCacheError,
    KeepReadError,
    KeepRequestError,
    KeepWriteError,
    NotFoundError,
)
from holdfast.blocks.locators import KeepLocator

__all__ = [
    "ArgumentError",
    "AsyncKeepClient",
    "HttpError",
    "KeepBlockCache",
    "KeepCacheError",
    "KeepClient",
    "KeepLocator",
    "KeepReadError",
    "KeepRequestError",
    "KeepWriteError",
    "NotFoundError",
]
