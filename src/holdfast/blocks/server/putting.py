"""What every PUT of a block is asked with and answered with."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from holdfast.blocks.server.exchanges import TEXT
from holdfast.blocks.server.refusals import Refused

if TYPE_CHECKING:
    from holdfast.blocks.server.access import Access
    from holdfast.blocks.server.mounts import Shortfall

__all__ = ["classes_of", "receipt"]

_CLASS = re.compile(r"[-A-Za-z0-9_.]{1,100}")


@lru_cache(maxsize=64)
def classes_of(header: str) -> tuple[str, ...]:
    """Return the names in a header of storage classes; raises Refused."""
    names = tuple(dict.fromkeys(one.strip() for one in header.split(",") if one.strip()))
    for name in names:
        if not _CLASS.fullmatch(name):
            raise Refused(400, "not a storage class")
    return names or ("default",)


def receipt(
    access: Access, name: str, size: int, kept: Shortfall, token: str
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return the body and the headers that tell where a block is kept."""
    signed = access.signed(f"{name}+{size}", token)
    confirmed = ", ".join(f"{one}={count}" for one, count in kept.kept.items() if count)
    return f"{signed}\n".encode(), [
        TEXT,
        (b"x-keep-replicas-stored", b"%d" % kept.replicas),
        (b"x-keep-storage-classes-confirmed", confirmed.encode()),
    ]
