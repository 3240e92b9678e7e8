"""A web application that starts backups on hosts, and shows how they go.

Start it with ``HOLDFAST_DISPATCHER=10.0.0.5:3502 uvicorn jobs_app:app``.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from holdfast.jobs import AsyncHarpCaller


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
    since = int(request.headers.get("last-event-id", -1)) + 1

    async def events() -> AsyncIterator[str]:
        async with job.follow(since=since, numbered=True) as packets:
            async for number, packet in packets:
                yield f"id: {number}\ndata: {json.dumps(packet)}\n\n"
        end = await job.result(wait=True)
        failed = isinstance(end, Exception)
        yield f"event: end\ndata: {json.dumps(str(end) if failed else end, default=repr)}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/hosts/{host}/backups", start, methods=["POST"]),
        Route("/jobs/{job}/events", follow),
    ],
    lifespan=lifespan,
)
