"""Which of the services are one: what has two names must not count as two copies."""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.blocks.files.status import answer, mounts_in
from holdfast.blocks.placement import Services
from holdfast.blocks.requests import Fields

if TYPE_CHECKING:
    from holdfast.blocks.core import KeepCore
    from holdfast.blocks.placement import Service
    from holdfast.ops import Program

__all__ = ["distinct"]

logger = logging.getLogger("holdfast.blocks")


def distinct(core: KeepCore) -> Program[Services]:
    """Return the services, each once.

    Of those that have one URL, or list the same volumes, the first one is taken. Who does not say
    what volumes it has is believed to have others.
    """
    services = yield from core.services.known(inf)
    if len(services.readable) < 2:
        return services
    fields = Fields.new()
    listed = yield from ops.all_of([_volumes(core, one, fields) for one in services.readable])
    seen: dict[object, Service] = {}
    same: set[Service] = set()
    for service, volumes in zip(services.readable, listed, strict=True):
        for name in filter(None, (service.root, volumes)):
            first = seen.setdefault(name, service)
            if first is not service and service not in same:
                same.add(service)
                logger.warning(
                    "%s and %s are one service, which counts once", first.root, service.root
                )
    return Services(one for one in services.all if one not in same) if same else services


def _volumes(core: KeepCore, service: Service, fields: Fields) -> Program[frozenset[str]]:
    """Return the names of a service's volumes, none where it does not tell."""
    mounts = mounts_in((yield from answer(core, service, fields, "/mounts")))
    return frozenset(mount.uuid for mount in mounts or ())
