"""The heart of the dispatcher: jobs are submitted, wait, run, are cancelled and end."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.jobs.dispatcher.ids import new_id
from holdfast.jobs.dispatcher.job import Job, State
from holdfast.jobs.dispatcher.recorder import record_end
from holdfast.jobs.dispatcher.running import Run
from holdfast.jobs.dispatcher.store import Record, StoreError
from holdfast.jobs.endings import CANCELLED, error_end
from holdfast.jobs.fields import Invalid
from holdfast.jobs.messages import SHUTDOWN
from holdfast.wire.jsonlines import DEPTH, WireError, encode

if TYPE_CHECKING:
    from holdfast.jobs.dispatcher.config import Config
    from holdfast.jobs.dispatcher.hosts import Hosts
    from holdfast.jobs.dispatcher.registry import Registry
    from holdfast.jobs.dispatcher.store import Store
    from holdfast.jobs.requests import CallRequest

__all__ = ["Dispatcher"]

log = logging.getLogger(__name__)

_CANCELLED = encode(CANCELLED.to_message())
_INTERRUPTED = encode(error_end("missing_result", "job interrupted abruptly"))


class Dispatcher:
    """The jobs of one dispatcher.

    ``config`` and ``hosts`` may be replaced; jobs that run keep what they began with.
    """

    def __init__(self, config: Config, store: Store, registry: Registry, hosts: Hosts) -> None:
        self.config = config
        self.store = store
        self.registry = registry
        self.hosts = hosts
        self.stopping = False
        self._jobs: dict[str, Job] = {}
        # Jobs with an id that the client chose, on their way to the disk.
        self._submitting: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """End what the last dispatcher left without an end."""
        interrupted = await self.store.interrupted()
        now = int(time.time())
        ends = [
            self.store.end(job_id, _INTERRUPTED[:-1], started=None, ended=now)
            for job_id in interrupted
        ]
        await asyncio.gather(*ends)
        if interrupted:
            log.warning("%d jobs were interrupted by the last end", len(interrupted))

    def find(self, job_id: str) -> Job | None:
        """Return a job that is recorded and has no end yet."""
        job = self._jobs.get(job_id)
        return None if job is None or job.state is State.SUBMITTING else job

    def jobs(self) -> list[Job]:
        """Return the jobs that have no end yet."""
        return [job for job in self._jobs.values() if job.state is not State.SUBMITTING]

    # Submitting.

    async def submit(self, request: CallRequest) -> str:
        """Record a job, let it run when its turn comes, and return its id.

        A request with the id of a job is answered with that job when it asks for the same. Raises
        Invalid or StoreError; then there is no job.
        """
        record = self._record(request)
        if request.id is None:
            if self.stopping:
                raise _stopping()
            return await self._submit(record)
        while (earlier := self._submitting.get(record.id)) is not None:
            await asyncio.shield(earlier)
        if record.id in self._jobs:
            known = await self.store.record(record.id)
            return _repeated(known, record)
        if self.stopping:  # what was taken before may be asked for still
            known = await self.store.record(record.id)
            if known is None:
                raise _stopping()
            return _repeated(known, record)
        done = self._submitting[record.id] = asyncio.get_running_loop().create_future()
        try:
            return await self._submit(record)
        finally:
            del self._submitting[record.id]
            done.set_result(None)

    async def _submit(self, record: Record) -> str:
        job = Job(record.id, record.host, record.procedure, record.queue)
        if record.queue is not None:
            # Before the record is on the disk, so that jobs start in the order of submission.
            job.slot = self.store.enter(
                record.queue, record.concurrency, job.id, partial(self._ready, job)
            )
        if job.slot:
            job.started = record.started = record.submitted
        self._jobs[job.id] = job
        try:
            known = await self.store.submit(record)
        except BaseException:
            self._forget(job)
            raise
        if known is not None:
            self._forget(job)
            return _repeated(known, record)
        job.state = State.WAITING
        if self.stopping:
            self._end(job, _INTERRUPTED)
        elif job.slot:
            if record.started is None:  # it got its slot just now
                self._start(job)
            else:
                job.state = State.RUNNING
                # To begin with TLS takes long: the client, and those whose jobs were recorded
                # together with this one, get their answers first.
                asyncio.get_running_loop().call_soon(self._run, job, record)
        return job.id

    def _record(self, request: CallRequest) -> Record:
        config = self.config
        queue = request.queue
        arguments = encode(request.arguments)[:-1]
        if arguments.count(b"[") + arguments.count(b"{") > DEPTH - 2:
            # In answers they are two levels deep.
            _refuse_depth(request.arguments)
        return Record(
            id=request.id or new_id(),
            host=request.host,
            procedure=request.procedure,
            arguments=arguments,
            submitted=int(time.time()),
            info=encode(request.info)[:-1],
            queue=None if queue is None else queue.key.encode(),
            concurrency=1 if queue is None else queue.concurrency,
            timeout=request.timeout or config.default_timeout,
            max_exec_time=min(request.max_exec_time or config.max_exec_time, config.max_exec_time),
            asked_timeout=request.timeout,
            asked_max_exec_time=request.max_exec_time,
        )

    # Running.

    def _ready(self, job: Job) -> None:
        """Take notice that a job has got its slot."""
        job.slot = True
        if job.state is State.WAITING:
            self._start(job)

    def _start(self, job: Job) -> None:
        """Run a job that has waited."""
        if self.stopping:
            self._end(job, _INTERRUPTED)
            return
        job.started = int(time.time())
        job.state = State.RUNNING
        self.store.start(job.id, job.started)
        task = asyncio.get_running_loop().create_task(self._fetch_and_run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch_and_run(self, job: Job) -> None:
        try:
            record = await self.store.record(job.id)
            error = "its record is gone"
        except StoreError as problem:
            record, error = None, str(problem)
        if record is None:
            self._end(job, encode(error_end("os_error", f"the job cannot be started: {error}")))
        else:
            self._run(job, record)

    def _run(self, job: Job, record: Record) -> None:
        if job.state is not State.RUNNING:
            return  # it was cancelled meanwhile
        host = self.registry.find(record.host)
        if host is None:
            message = f"the registry of hosts has no {record.host!r}"
            self._end(job, encode(error_end("unknown_host", message)))
            return
        try:
            job.run = Run(
                job, record, host, self.store, self.hosts, self.config.connect_timeout, self._end
            )
        except ValueError as error:  # the address is none, nor a name
            where = f"{host.name} ({host.address}:{host.port})"
            self._end(job, encode(error_end("network_error", f"{where}: {error}")))
        except OSError as error:
            self._end(job, encode(error_end("os_error", f"the job cannot be started: {error}")))

    def _end(self, job: Job, end: bytes) -> None:
        """Record the end of a job that runs no more, or never did."""
        if job.state in (State.ENDING, State.ENDED):
            return
        record_end(job, self.store, end, self._forget)

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        job.run = None
        if job.queue is not None:
            self.store.leave(job.queue, job.id)

    # Ending.

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; return whether there was something to stop, when it has been recorded."""
        job = self.find(job_id)
        if job is None or not self._stop(job, _CANCELLED):
            return False
        await job.wait()
        return job.end == _CANCELLED

    async def cancel_queue(self, queue: bytes) -> int:
        """Cancel all jobs of a queue; return how many it were."""
        # Those that wait come first, so that none of them starts.
        jobs = sorted((job for job in self.jobs() if job.queue == queue), key=lambda job: job.slot)
        stopped = [job for job in jobs if self._stop(job, _CANCELLED)]
        await asyncio.gather(*(job.wait() for job in stopped))
        return len(stopped)

    def _stop(self, job: Job, end: bytes) -> bool:
        """Stop a job; return False where it has ended already."""
        if job.state in (State.ENDING, State.ENDED):
            return False
        if job.run is not None:
            return job.run.stop(end)
        if job.queue is not None and not job.slot:
            self.store.leave(job.queue, job.id)
        self._end(job, end)
        return True

    async def stop(self, timeout: float) -> None:
        """Refuse new jobs, let those that run end within a time, then end them as interrupted."""
        self.stopping = True
        for job in self.jobs():
            if not job.slot:
                self._stop(job, _INTERRUPTED)
        await self._all_ended(timeout)
        self.hurry()
        # What cannot be recorded now will be when the next dispatcher starts.
        await self._all_ended(5.0)

    def hurry(self) -> None:
        """End what runs as interrupted."""
        for job in self.jobs():
            self._stop(job, _INTERRUPTED)

    async def _all_ended(self, timeout: float) -> None:
        waiting = [asyncio.ensure_future(job.wait()) for job in self.jobs()]
        if waiting:
            _, pending = await asyncio.wait(waiting, timeout=timeout)
            for one in pending:
                one.cancel()


def _refuse_depth(arguments: Any) -> None:
    try:
        encode([[arguments]])
    except WireError as error:
        raise Invalid("invalid_request", f"arguments: {error}") from None


def _stopping() -> Invalid:
    return Invalid(SHUTDOWN, "the dispatcher is stopping")


def _repeated(known: Record | None, record: Record) -> str:
    """Return the id of a job that was submitted before; raise Invalid if it was another call."""
    if known is None:
        raise StoreError(f"the record of {record.id} is gone")
    if not known.repeats(record):
        raise Invalid("invalid_request", "another call has the same id")
    return known.id
