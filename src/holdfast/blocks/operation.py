"""One operation on a block: services are asked in order, round after round.

A round asks the services that have not failed for good. Between rounds the list of services is
refreshed, and there is a pause that doubles, with jitter. What a round is, and when it has done
enough, is a subclass's business.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

from holdfast import ops
from holdfast.blocks.requests import Fields, new_request_id
from holdfast.blocks.service import KeepService
from holdfast.errors import DeadlineExceeded
from holdfast.policy.deadline import OUTER, inherited
from holdfast.policy.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from holdfast.blocks.core import KeepCore
    from holdfast.blocks.errors import KeepRequestError
    from holdfast.blocks.placement import Service, Services
    from holdfast.http.limits import Timeout
    from holdfast.ops import Program

__all__ = ["PAUSES", "Operation"]

T = TypeVar("T")

#: The pauses between rounds.
PAUSES = Retry(base=2.0, factor=2.0, cap=60.0)


class Operation(Generic[T]):
    """A get, head or put in progress.

    ``retries``: how many rounds there may be after the first. ``request_id``: sent with each
    request, and told in errors.
    """

    def __init__(
        self,
        core: KeepCore,
        retries: int,
        request_id: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.core = core
        self.retries = retries
        request_id = request_id or core.request_id()
        if request_id or headers:
            self.fields = Fields(request_id or new_request_id(), headers)
        else:
            self.fields = Fields.new()
        self.request_id = self.fields.request_id
        #: The services that were asked, by their URLs, in the order of their first turns.
        self.asked: dict[str, KeepService] = {}
        #: Who may be asked, in order, by the present list.
        self.order: Sequence[Service] = ()
        self.deadline = inf if OUTER.get() is None else inherited(core.clock)
        self.rounds = 0

    # What a subclass says.

    def ordered(self, services: Services) -> Sequence[Service]:
        """Return who may be asked, in order."""
        raise NotImplementedError

    def round(self) -> Program[bool]:
        """Ask `candidates`; returns whether the operation is over."""
        raise NotImplementedError

    def result(self) -> T:
        """Return what the operation was for."""
        raise NotImplementedError

    def failure(self) -> KeepRequestError:
        """Return the error that tells why it failed."""
        raise NotImplementedError

    # The program.

    def run(self) -> Program[T]:
        """Ask services until one round has done enough; raises KeepRequestError."""
        core = self.core
        services = core.services.services
        if services is None:
            services = yield from core.services.known(self.deadline)
        self.order = self.ordered(services)
        while True:
            self.rounds += 1
            if (yield from self.round()):
                return self.result()
            if self.rounds > self.retries or core.clock() >= self.deadline:
                raise self._given_up()
            services = yield from core.services.refreshed(services, self.deadline)
            self.order = self.ordered(services)
            if not any(self.candidates()):
                raise self._given_up()
            pause = PAUSES.delay(self.rounds, core.random)
            yield ops.Sleep(min(core.clock() + pause, self.deadline))

    def candidates(self) -> Iterator[tuple[Service, KeepService]]:
        """Iterate over the services that are worth a request in this round."""
        for service in self.order:
            asked = self.asked.get(service.root)
            if asked is None:
                asked = self.core.service(service, self.fields)
                yield service, asked
            elif not asked.finished():
                yield service, asked

    def timeout(self, service: Service, bandwidth: bool = True) -> Timeout:
        """Return the limits of a request in this round."""
        return self.core.timeout(service.kind == "proxy", self.rounds - 1, bandwidth)

    def errors(self) -> list[tuple[str, Exception]]:
        """Return the error of each service that failed last time, in the order of asking."""
        return [(root, one.error) for root, one in self.asked.items() if one.error is not None]

    def attempts(self) -> str:
        """Return how many rounds there were, in words."""
        return "1 attempt" if self.rounds == 1 else f"{self.rounds} attempts"

    def _given_up(self) -> Exception:
        failure = self.failure()
        if self.core.clock() < self.deadline:
            return failure
        late = DeadlineExceeded(f"the deadline is over: {failure}")
        late.__cause__ = failure
        return late
