"""Stock hypercorn on loopback; and what every server of a test has: connections, a log, a port."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from logging.handlers import BufferingHandler
from socket import SO_RCVBUF, SOL_SOCKET
from typing import final

import attrs
import hypercorn.trio
import trio

from .asgi import App
from .clients import Http1Client, Http2Client
from .waiting import PATIENCE


@final
@attrs.define
class Server:
    """A server by its port, and the connections made to it."""

    port: int = 0
    shutdown: trio.Event = attrs.field(factory=trio.Event)  # Set it to begin hypercorn's shutdown.
    _connections: list[trio.SocketStream] = attrs.field(factory=list[trio.SocketStream])

    async def connect(self, receive_buffer: int = 0) -> trio.SocketStream:
        sock = trio.socket.socket()
        if receive_buffer:
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        stream = trio.SocketStream(sock)
        self._connections.append(stream)
        return stream

    async def http1(self, receive_buffer: int = 0) -> Http1Client:
        return Http1Client(await self.connect(receive_buffer))

    async def http2(self) -> Http2Client:
        return Http2Client(await self.connect())

    def close_connections(self) -> None:
        for stream in self._connections:
            stream.socket.close()


@final
class ServerLog:
    """What a server has to say, from a level on."""

    def __init__(self, level: int = logging.WARNING) -> None:
        self.logger = logging.Logger("a server of a test", level)  # noqa: LOG001 (not shared)
        self._kept = BufferingHandler(capacity=1000)
        self.logger.addHandler(self._kept)

    @property
    def lines(self) -> list[str]:
        return [self._kept.format(record) for record in self._kept.buffer]

    def take(self) -> list[str]:
        """Return what was logged, and forget it."""
        lines = self.lines
        self._kept.flush()
        return lines


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


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
