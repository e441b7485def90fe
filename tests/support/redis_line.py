"""A line to a Redis server that fails as it is told to."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, final

import attrs
import trio

from .redis_server import RedisServer
from .tcp import reset_when_closed

#: Bytes that a slow line carries at once.
_PIECE: Final = 16 * 1024


@final
class Hold:
    """Keeps the requests with some bytes in them from the server, or the replies to them back."""

    def __init__(self, requests: bytes, replies_to: bytes, *, only_first: bool) -> None:
        self._requests = requests
        self._replies_to = replies_to
        self._only_first = only_first
        self._released = trio.Event()
        #: Set when the first is held.
        self.caught = trio.Event()

    def release(self) -> None:
        self._released.set()

    async def pass_request(self, request: bytes) -> None:
        if self._requests and self._requests in request:
            await self._pass()

    async def pass_reply(self, request: bytes) -> None:
        if self._replies_to and self._replies_to in request:
            await self._pass()

    async def _pass(self) -> None:
        if not (self._only_first and self.caught.is_set()):
            self.caught.set()
            await self._released.wait()


@final
@attrs.define(eq=False)
class _Connection:
    """One connection through a line, and what its client has said last."""

    client: trio.SocketStream
    near: trio.abc.Stream
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    request: bytes = b""
    answered: bool = False

    def cut(self, *, reset: bool) -> None:
        if reset:
            reset_when_closed(self.client)
        self.scope.cancel()


@final
class Line:
    """The way to a server, which may fail; connect to its `port`."""

    def __init__(self, server: RedisServer, ssl_context: ssl.SSLContext | None) -> None:
        self.server = server
        self.port = 0
        #: How many connections were made.
        self.accepted = 0
        #: Bytes in a second that each way of a connection carries.
        self.rate = math.inf
        #: Whether whoever connects is sent away.
        self.refuses = False
        #: The next reply to a request with these bytes is lost, and its connection with it.
        self.loses_reply_to: bytes | None = None
        #: Makes something else of the next reply to a request with these bytes.
        self.garbles: tuple[bytes, Callable[[bytes], bytes]] | None = None
        #: What is said to each request, whatever the server says.
        self.says: bytes | None = None
        self._ssl_context = ssl_context
        self._holds: list[Hold] = []
        #: What was asked for and answered.
        self.requests: list[bytes] = []
        self._connections: set[_Connection] = set()

    @property
    def url(self) -> str:
        scheme = "redis" if self._ssl_context is None else "rediss"
        return f"{scheme}://localhost:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    def answered(self, command: bytes) -> int:
        """Tell how many requests with some bytes in them were answered."""
        return sum(command in request for request in self.requests)

    def hold(
        self, requests: bytes = b"", *, replies_to: bytes = b"", only_first: bool = False
    ) -> Hold:
        """Hold what has some bytes in it, until that is released; without any, all of both."""
        everything = b"" if requests or replies_to else b"\r\n"
        hold = Hold(requests or everything, replies_to or everything, only_first=only_first)
        self._holds.append(hold)
        return hold

    def cut(self, *, reset: bool = False) -> None:
        """End all connections, or reset them."""
        for connection in self._connections:
            connection.cut(reset=reset)

    async def serve(self, client: trio.SocketStream) -> None:
        """Carry one connection."""
        self.accepted += 1
        near: trio.abc.Stream = client
        if self._ssl_context is not None:
            near = trio.SSLStream(client, self._ssl_context, server_side=True)
        connection = _Connection(client, near)
        if self.refuses:
            connection.cut(reset=True)
        self._connections.add(connection)
        try:
            with connection.scope:
                await self._carry(connection)
        except* (OSError, trio.BrokenResourceError):
            pass  # Whoever is at the other end will notice.
        finally:
            self._connections.discard(connection)
            client.socket.close()

    async def _carry(self, connection: _Connection) -> None:
        async with (
            await trio.open_tcp_stream("127.0.0.1", self.server.port) as far,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._carry_requests, connection, far)
            await self._carry_replies(connection, far)
            nursery.cancel_scope.cancel()

    async def _send(self, stream: trio.abc.Stream, data: bytes | bytearray) -> None:
        while data:
            await trio.sleep(len(data[:_PIECE]) / self.rate)
            await stream.send_all(data[:_PIECE])
            data = data[_PIECE:]

    async def _carry_requests(self, connection: _Connection, far: trio.SocketStream) -> None:
        while request := await connection.near.receive_some():
            connection.request, connection.answered = bytes(request), False
            for hold in [*self._holds]:
                await hold.pass_request(connection.request)
            await self._send(far, request)
        await far.send_eof()

    async def _carry_replies(self, connection: _Connection, far: trio.SocketStream) -> None:
        while reply := await far.receive_some():
            reply = self.says or reply
            lost = self.loses_reply_to
            if lost is not None and lost in connection.request:
                self.loses_reply_to = None
                return
            if self.garbles is not None and self.garbles[0] in connection.request:
                reply, self.garbles = self.garbles[1](bytes(reply)), None
            for hold in [*self._holds]:
                await hold.pass_reply(connection.request)
            if not connection.answered:  # A long reply comes in pieces.
                connection.answered = True
                self.requests.append(connection.request)
            await self._send(connection.near, reply)


@asynccontextmanager
async def line_to(
    server: RedisServer, ssl_context: ssl.SSLContext | None = None
) -> AsyncGenerator[Line]:
    """Open a line to a server for the length of a block; with TLS, if it has a context."""
    line = Line(server, ssl_context)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, line.serve, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        line.port = listener.socket.getsockname()[1]
        try:
            yield line
        finally:
            nursery.cancel_scope.cancel()
