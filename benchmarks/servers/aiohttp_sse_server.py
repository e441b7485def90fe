"""aiohttp-sse on aiohttp, with uvloop.

python -m benchmarks.servers.aiohttp_sse_server PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import uvloop
from aiohttp import web
from aiohttp_sse import sse_response

from .asyncio_control import Queues

_QUEUES: Final = Queues()


async def _events(request: web.Request) -> web.StreamResponse:
    async with sse_response(request) as response:
        # That error is how a handler learns that its client has left.
        with _QUEUES.open() as queue, suppress(ConnectionResetError):
            while True:
                await response.send(await queue.get())
    return response


async def _obey(app: web.Application) -> AsyncIterator[None]:
    obeying = asyncio.create_task(_QUEUES.obey())
    yield
    obeying.cancel()


def _application() -> web.Application:
    app = web.Application()
    app.router.add_get("/events", _events)
    app.cleanup_ctx.append(_obey)
    return app


if __name__ == "__main__":
    web.run_app(
        _application(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        backlog=4096,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )
