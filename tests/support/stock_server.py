"""Stock hypercorn on loopback."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import hypercorn.trio
import trio

from .asgi import App
from .server import Server, ServerLog, port_of
from .waiting import PATIENCE

# As in trio_sse.testing: the public interface of httpx-sse wants a whole httpx response.


@asynccontextmanager
async def serving(
    app: App,
    *,
    before_shutdown: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    graceful_timeout: float = 0.05,
) -> AsyncGenerator[Server]:
    """Serve an application for the length of a block; hypercorn may complain of nothing."""
    log = ServerLog()
    config = hypercorn.Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], log.logger
    config.graceful_timeout = graceful_timeout
    server = Server()

    async def trigger() -> None:
        await server.shutdown.wait()
        await before_shutdown()

    # hypercorn's own type of an application is narrower than that of any framework.
    serve: Callable[..., Awaitable[None]] = hypercorn.trio.serve  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(serve, app, config, shutdown_trigger=trigger))
            server.port = port_of(url)
            try:
                yield server
            finally:
                # Before the shutdown, which would wait for a client that does not read.
                server.close_connections()
                server.shutdown.set()
    assert log.take() == []
