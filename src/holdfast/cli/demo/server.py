"""One server of the demonstration, as a process.

    python -m holdfast.cli.demo.server PORT

prints its port once it serves. It ends when its standard input closes, so that it never outlives
the process that started it, however that one ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from holdfast.cli.demo.ports import bound

__all__ = ["application", "main"]


def application(port: int) -> Starlette:
    """Return what the server serves: the numbers in path and body, and who answers.

    Below ``/moody`` it is as slow, and answers as badly, as it was told at ``/mood``. At
    ``/events/N`` is a stream of N events, from the one after the last that the client has seen.
    """
    pid = os.getpid()
    mood = {"delay": 0.0, "status": 200}

    async def change(request: Request) -> JSONResponse:
        mood.update(await request.json())
        return JSONResponse(mood)

    async def moody(request: Request) -> JSONResponse:
        await asyncio.sleep(mood["delay"])
        return JSONResponse({"port": port}, int(mood["status"]))

    async def echo(request: Request) -> JSONResponse:
        written = (await request.json())["number"] if request.method == "PUT" else None
        return JSONResponse(
            {
                "number": request.path_params["number"],
                "written": written,
                "port": port,
                "pid": pid,
            }
        )

    async def events(request: Request) -> StreamingResponse:
        last = int(request.headers.get("last-event-id", -1))
        count = request.path_params["count"]

        async def stream() -> AsyncIterator[str]:
            yield "retry: 50\n\n"
            for number in range(last + 1, count):
                yield f'id: {number}\ndata: {{"number": {number}, "port": {port}}}\n\n'
                if number % 10 == 0:
                    await asyncio.sleep(0.04)

        return StreamingResponse(stream(), media_type="text/event-stream")

    return Starlette(
        routes=[
            Route("/events/{count:int}", events),
            Route("/echo/{number:int}", echo, methods=["GET", "PUT"]),
            Route("/mood", change, methods=["PUT"]),
            Route("/moody", moody),
        ]
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, port: int) -> None:
        super().__init__(config)
        self._port = port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say the port once connections are accepted."""
        await super().startup(sockets)
        try:
            os.write(sys.stdout.fileno(), b"%d\n" % self._port)
        except BrokenPipeError:  # the parent has ended meanwhile
            self.should_exit = True


def _end_with_parent(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True


def main() -> None:
    """Serve until the standard input closes."""
    with bound(int(sys.argv[1])) as sock:
        port: int = sock.getsockname()[1]
        config = uvicorn.Config(
            application(port),
            access_log=False,
            log_level=logging.ERROR,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config, port)
        threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
        server.run([sock])


if __name__ == "__main__":
    main()
