"""Get and head: services are asked in order until one answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.blocks.errors import ArgumentError, KeepReadError, NotFoundError
from holdfast.blocks.locators import BLOCK
from holdfast.blocks.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.blocks.core import KeepCore
    from holdfast.blocks.locators import KeepLocator
    from holdfast.blocks.placement import Service, Services
    from holdfast.blocks.service import KeepService
    from holdfast.ops import Program

__all__ = ["ABSENT", "Reading"]

#: Statuses that say that a service does not have the block.
ABSENT = frozenset({404, 410})


class Reading(Operation["KeepService"]):
    """The request for a block, or for whether it is there; its result is who answered."""

    def __init__(
        self,
        core: KeepCore,
        method: str,
        locator: KeepLocator,
        retries: int,
        request_id: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(core, retries, request_id, headers)
        if locator.size is not None and locator.size > BLOCK:
            raise ArgumentError(f"no block has {locator.size} bytes: {BLOCK} are the most")
        self.method = method
        self.locator = locator
        self._target = f"/{locator}"
        self._answered: KeepService | None = None

    def ordered(self, services: Services) -> Sequence[Service]:
        """Return whom the locator names, and then all others, by weight."""
        return services.to_read(self.locator)

    def round(self) -> Program[bool]:
        """Ask one after the other, until one has the block."""
        bandwidth = self.method != "HEAD"
        for service, one in self.candidates():
            self.asked[service.root] = one
            timeout = self.timeout(service, bandwidth)
            read = one.read(self.method, self.locator, self._target, timeout, self.deadline)
            if (yield from read):
                self._answered = one
                return True
            if self.core.clock() >= self.deadline:
                break
        return False

    def result(self) -> KeepService:
        """Return the service that answered; the block is its ``content``."""
        assert self._answered is not None
        return self._answered

    def failure(self) -> KeepReadError:
        """Return the error with what each service said."""
        name = self.locator.stripped()
        if not self.asked:
            text = f"failed to read {name}: no Keep service is available"
            return KeepReadError(text, request_id=self.request_id)
        absent = [one.status in ABSENT for one in self.asked.values()]
        if all(absent):
            text = f"{name} not found"
            return NotFoundError(text, self.errors(), "service", self.request_id)
        text = f"failed to read {name} after {self.attempts()}"
        return KeepReadError(text, self.errors(), "service", self.request_id)
