"""The administrative commands, as the dispatcher carries them out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holdfast.jobs.dispatcher.answers import call_part, time_part
from holdfast.jobs.dispatcher.control import option
from holdfast.jobs.dispatcher.logs import reopen
from holdfast.jobs.fields import Fields, Invalid
from holdfast.jobs.requests import Queue
from holdfast.wire.jsonlines import encode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from holdfast.jobs.dispatcher.service import Service
    from holdfast.jobs.dispatcher.store import Record

__all__ = ["Commands"]

# How many records are fetched at a time for a listing.
_PAGE = 500

_DAY = 86400.0


class Commands:
    """What the control socket offers for one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._dispatcher = service.dispatcher
        self.handlers: dict[str, Callable[[Fields], AsyncGenerator[bytes, None]]] = {
            "status": self.status,
            "stop": self.stop,
            "reload": self.reload,
            "list": self.list,
            "info": self.info,
            "cancel": self.cancel,
            "queue-list": self.queue_list,
            "queue-cancel": self.queue_cancel,
            "hosts-list": self.hosts_list,
            "hosts-refresh": self.hosts_refresh,
            "prune-jobs": self.prune_jobs,
            "reopen-logs": self.reopen_logs,
        }

    async def status(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """Tell how the dispatcher is."""
        fields.end()
        yield encode(self.state())

    def state(self) -> dict[str, Any]:
        """Return how the dispatcher is."""
        jobs = self._dispatcher.jobs()
        return {
            "status": "stopping" if self._dispatcher.stopping else "running",
            "pid": os.getpid(),
            "listen": self._service.addresses,
            "jobs": {
                "running": sum(job.slot for job in jobs),
                "waiting": sum(not job.slot for job in jobs),
            },
            "hosts": len(self._service.registry),
        }

    async def stop(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """Stop gracefully, within a time."""
        timeout = option(fields, "timeout")
        fields.end()
        # First, since whoever asked may not wait for an answer.
        self._service.stop(timeout)
        yield encode({"pid": os.getpid()})
        await self._service.stopped()

    async def reload(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """Read the configuration again."""
        fields.end()
        self._service.reload()
        yield encode({"reloaded": True})

    async def list(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """List jobs: those without an end, or all; with queues, and the kinds of their ends."""
        everything, queue = fields.flag("all", False), fields.flag("queue", False)
        end = fields.flag("end", False)
        fields.end()
        async for record in self._records(everything):
            extra = b',"queue":%b' % (record.queue or b"null") if queue else b""
            if end:
                extra += b',"end":%b' % _kind(record.end)
            yield self._listed(record, extra)

    async def info(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """Tell everything about a job but its packets."""
        job_id = fields.text("job")
        fields.end()
        record = await self._dispatcher.store.record(job_id)
        if record is None:
            raise Invalid("invalid_jobid", "no job has this id")
        job = self._dispatcher.find(job_id)
        count = await self._dispatcher.store.count(job_id) if job is None else job.recorded
        yield self._listed(
            record,
            b',"info":%b,"queue":%b,"timeout":%d,"max_exec_time":%d,"packets":%d,"end":%b'
            % (
                record.info,
                record.queue or b"null",
                record.timeout,
                record.max_exec_time,
                count,
                record.end or b"null",
            ),
        )

    async def cancel(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """Cancel a job."""
        job_id = fields.text("job")
        fields.end()
        yield encode({"cancelled": await self._dispatcher.cancel(job_id)})

    async def queue_list(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """List the queues, or the jobs of one of them."""
        name = fields.object("queue", None)
        fields.end()
        states = {state.name: state for state in self._dispatcher.store.queues()}
        if name is None:
            for state in states.values():
                yield b'{"queue":%b,"concurrency":%d,"running":%d,"waiting":%d}\n' % (
                    state.name,
                    state.concurrency,
                    len(state.running),
                    len(state.waiting),
                )
            return
        chosen = states.get(_key(name))
        if chosen is not None:
            for jobs, running in ((chosen.running, b"true"), (chosen.waiting, b"false")):
                for job_id in jobs:
                    record = await self._dispatcher.store.record(job_id)
                    if record is not None:
                        yield self._listed(record, b',"running":' + running)

    async def queue_cancel(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """Cancel all jobs of a queue."""
        name = fields.object("queue")
        fields.end()
        yield encode({"cancelled": await self._dispatcher.cancel_queue(_key(name))})

    async def hosts_list(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """List the hosts of the registry, without credentials."""
        fields.end()
        for host in self._service.registry.hosts():
            yield encode(host.to_listing())

    async def hosts_refresh(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """Run the script of the registry now, and wait for it."""
        fields.end()
        await self._service.registry.refresh()
        yield encode({"hosts": len(self._service.registry)})

    async def prune_jobs(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """Forget the jobs that ended some days ago."""
        age = option(fields, "age", 30)
        fields.end()
        yield encode({"pruned": await self._service.prune(age * _DAY)})

    async def reopen_logs(self, fields: Fields) -> AsyncGenerator[bytes, None]:
        """Open the log file again, after it was moved away."""
        fields.end()
        reopen()
        yield encode({"reopened": True})

    async def _records(self, everything: bool) -> AsyncIterator[Record]:
        after: int | None = 0
        while after is not None:
            page = await self._dispatcher.store.list(ended=everything, after=after, limit=_PAGE)
            for record in page.records:
                yield record
            after = page.next

    def _listed(self, record: Record, extra: bytes) -> bytes:
        started = record.started
        job = self._dispatcher.find(record.id)
        if started is None and job is not None:
            started = job.started
        times = time_part(record, started)
        return b'{"job":%b,"call":%b,"time":%b%b}\n' % (
            encode(record.id)[:-1],
            call_part(record),
            times,
            extra,
        )


def _kind(end: bytes | None) -> bytes:
    """Return the kind of an end message, which is the only name in it: a result may be long."""
    return b"null" if end is None else end[1 : end.index(b'"', 2) + 1]


def _key(name: dict[str, Any]) -> bytes:
    return Queue(name).key.encode()
