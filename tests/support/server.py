"""What every server of a test has: connections, a log and a port."""

from __future__ import annotations

import logging
from logging.handlers import BufferingHandler
from socket import SO_RCVBUF, SOL_SOCKET
from typing import final

import attrs
import trio

from .clients import Http1Client, Http2Client


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
    """What a server has to say, from warnings on."""

    def __init__(self) -> None:
        self.logger = logging.Logger("a server of a test", logging.WARNING)  # noqa: LOG001 (not shared)
        self._kept = BufferingHandler(capacity=1000)
        self.logger.addHandler(self._kept)

    def take(self) -> list[str]:
        """Return what was logged, and forget it."""
        lines = [self._kept.format(record) for record in self._kept.buffer]
        self._kept.flush()
        return lines


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
