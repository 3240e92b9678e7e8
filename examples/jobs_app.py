"""A web application that starts backups on hosts, and shows how they go.

Start it with ``HOLDFAST_DISPATCHER=10.0.0.5:3502 uvicorn jobs_app:app``. A page follows a job by
``new EventSource(`/jobs/${job}/events`)``, which it closes at the event ``end``.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from holdfast.jobs import AsyncHarpCaller, CommunicationError, RemoteError


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep one client, with its connections."""
    async with AsyncHarpCaller(os.environ["HOLDFAST_DISPATCHER"]) as rpc:
        app.state.rpc = rpc
        yield


async def start(request: Request) -> JSONResponse:
    """Submit a job; at most one backup at a time on each host."""
    host = request.path_params["host"]
    server = request.app.state.rpc.host(host, queue={"backup": host})
    job = await server.backup(target="nas")
    return JSONResponse({"job": job.id()}, status_code=202)


async def follow(request: Request) -> StreamingResponse:
    """Stream a job's packets as server-sent events, from the one after the last that came."""
    job = request.app.state.rpc.job(request.path_params["job"])
    await job.host()  # so that an unknown job is an error, and not a stream that breaks
    last = request.headers.get("last-event-id", "")
    since = int(last) + 1 if last.isdecimal() else 0

    async def events() -> AsyncIterator[str]:
        async with job.follow(since=since, numbered=True) as packets:
            async for number, packet in packets:
                yield f"id: {number}\ndata: {json.dumps(packet)}\n\n"
        end = await job.result(wait=True)
        failed = isinstance(end, Exception)
        yield f"event: end\ndata: {json.dumps(str(end) if failed else end, default=repr)}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def refused(request: Request, error: Exception) -> JSONResponse:
    """Say what the dispatcher said."""
    assert isinstance(error, RemoteError)
    status = 404 if error.type == "invalid_jobid" else 502
    return JSONResponse({"error": error.type}, status_code=status)


async def unreachable(request: Request, error: Exception) -> JSONResponse:
    """Say that it may go better later."""
    return JSONResponse({"error": "no dispatcher can be reached"}, status_code=503)


app = Starlette(
    routes=[
        Route("/hosts/{host}/backups", start, methods=["POST"]),
        Route("/jobs/{job}/events", follow),
    ],
    exception_handlers={RemoteError: refused, CommunicationError: unreachable},
    lifespan=lifespan,
)
