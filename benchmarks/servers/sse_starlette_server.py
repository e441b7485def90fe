"""sse-starlette on uvicorn, with uvloop and httptools.

python -m benchmarks.servers.sse_starlette_server PORT [CERTIFICATE KEY]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from .asyncio_control import Queues

_QUEUES: Final = Queues()


async def _stream() -> AsyncIterator[ServerSentEvent]:
    with _QUEUES.open() as queue:
        while True:
            yield ServerSentEvent(await queue.get())


async def _events(request: Request) -> EventSourceResponse:
    return EventSourceResponse(_stream())


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncGenerator[None]:
    obeying = asyncio.create_task(_QUEUES.obey())
    yield
    obeying.cancel()


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[Route("/events", _events)], lifespan=_lifespan),
        port=int(sys.argv[1]),
        ssl_certfile=(*sys.argv, None, None)[2],
        ssl_keyfile=(*sys.argv, None, None)[3],
        loop="uvloop",
        http="httptools",
        backlog=4096,
        log_level="warning",
    )
