"""Stock hypercorn on loopback, and two clients of it that read only when asked.

A client that is not asked reads nothing, so that its kernel buffers fill as those of a browser that
hangs. Both clients tell a clean end (HTTP/1.1's last chunk, HTTP/2's END_STREAM) from a cut.
"""

from __future__ import annotations

import codecs
import logging
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from socket import SO_LINGER, SO_RCVBUF, SOL_SOCKET
from typing import Final, final

import attrs
import h2.config
import h2.connection
import h2.errors
import h2.events
import h11
import hypercorn.trio
import trio
from httpx_sse import ServerSentEvent

# As in trio_sse.testing: the public interface of httpx-sse wants a whole httpx response.
from httpx_sse._decoders import SSEDecoder, SSELineDecoder  # pyright: ignore[reportPrivateUsage]

App = Callable[..., Awaitable[None]]

#: Seconds after which a test gives up; nothing here takes that long on any machine.
PATIENCE: Final = 5.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    with trio.fail_after(PATIENCE):
        while True:
            await trio.sleep(0.001)
            if condition():
                return


@asynccontextmanager
async def serving(
    app: App,
    *,
    before_shutdown: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    graceful_timeout: float = 0.2,
) -> AsyncGenerator[Server]:
    """Serve an application for the length of a block; hypercorn may complain of nothing."""
    complaints = _Complaints()
    config = hypercorn.Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = complaints.logger
    config.graceful_timeout = graceful_timeout
    server = Server()

    async def trigger() -> None:
        await server.shutdown.wait()
        await before_shutdown()

    # hypercorn's own type of an application is narrower than that of any framework.
    serve: Callable[..., Awaitable[None]] = hypercorn.trio.serve  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, app, config, shutdown_trigger=trigger))
        server.port = int(url.rpartition(":")[2])
        try:
            yield server
        finally:
            # Before the shutdown, which would wait for a client that does not read.
            server.close_connections()
            server.shutdown.set()
    assert complaints.messages == []


@final
class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self.logger = logging.Logger("hypercorn of a test")  # noqa: LOG001 (shared with nobody)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@final
@attrs.define
class Server:
    """A server by its port, and the connections made to it."""

    port: int = 0
    shutdown: trio.Event = attrs.field(factory=trio.Event)
    """Set it, and hypercorn's shutdown begins."""
    _connections: list[trio.SocketStream] = attrs.field(factory=list[trio.SocketStream])

    async def connect(self, receive_buffer: int | None = None) -> trio.SocketStream:
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        stream = trio.SocketStream(sock)
        self._connections.append(stream)
        return stream

    async def http1(self, receive_buffer: int | None = None) -> Http1Client:
        return Http1Client(await self.connect(receive_buffer))

    async def http2(self, receive_buffer: int | None = None) -> Http2Client:
        return Http2Client(await self.connect(receive_buffer))

    def close_connections(self) -> None:
        for stream in self._connections:
            stream.socket.close()


@final
class Response(trio.abc.ReceiveChannel[ServerSentEvent]):
    """The answer to one request, read as far as it is asked for."""

    def __init__(self, client: Client, stream_id: int = 0) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False
        """Whether it came to its clean end."""
        self.cut = False
        self._client = client
        self._stream_id = stream_id
        self._events: deque[ServerSentEvent] = deque()
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._lines, self._decoder = SSELineDecoder(), SSEDecoder()

    async def receive(self) -> ServerSentEvent:
        """Return the next event; at the end raise what `trio_sse.testing` raises there."""
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self.complete:
                raise trio.EndOfChannel
            if self.cut:
                raise trio.BrokenResourceError("the response was cut off before its end")
            await self._client.read_for(self)
        return self._events.popleft()

    async def rest(self) -> list[ServerSentEvent]:
        """Return all further events; the end must be clean."""
        return [event async for event in self]

    async def aclose(self) -> None:
        """Leave, as a browser does: with FIN, or with RST_STREAM."""
        await self._client.leave(self._stream_id)

    def take_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}

    def take_body(self, data: bytes) -> None:
        self.body += data
        text = self._text.decode(data)
        for line in self._lines.decode(text) if text else []:
            event = self._decoder.decode(line)
            # A block without data is no event for a browser; httpx-sse gives an empty one.
            if event and event.data:
                self._events.append(event)


class Client(ABC):
    """A connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    @abstractmethod
    async def request(self, method: str = "GET", path: str = "/events") -> Response:
        """Send a request and read the head of its answer."""

    @abstractmethod
    async def read_for(self, response: Response) -> None:
        """Read until anything of this response has come."""

    @abstractmethod
    async def leave(self, stream_id: int) -> None:
        """Give up a response."""

    async def read_head(self, response: Response) -> Response:
        while not response.status:
            assert not response.cut, "the connection was cut before the response"
            await self.read_for(response)
        return response

    def reset(self) -> None:
        """Close the connection with RST."""
        self.stream.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


@final
class Http1Client(Client):
    """A keep-alive connection: one request after another."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._h11 = h11.Connection(h11.CLIENT)

    async def request(
        self, method: str = "GET", path: str = "/events", *, body: bytes = b"", sent: bool = False
    ) -> Response:
        """Send a request (unless it was sent ahead of its turn), read the head of its answer."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        headers = [("host", "testserver"), ("accept", "text/event-stream")]
        headers += [("content-length", str(len(body)))] if body else []
        data = self._h11.send(h11.Request(method=method, target=path, headers=headers)) or b""
        data += self._h11.send(h11.Data(data=body)) or b"" if body else b""
        data += self._h11.send(h11.EndOfMessage()) or b""
        if not sent:
            await self.stream.send_all(data)
        return await self.read_head(Response(self))

    async def read_for(self, response: Response) -> None:
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                self._h11.receive_data(await self.stream.receive_some())
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            response.cut = True
            return
        if isinstance(event, h11.Response):
            response.take_head(event.status_code, event.headers)
        elif isinstance(event, h11.Data):
            response.take_body(event.data)
        else:
            response.complete = True

    async def leave(self, stream_id: int = 0) -> None:
        await self.stream.aclose()


@final
class Http2Client(Client):
    """A connection by prior knowledge: many requests at once."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._h2.initiate_connection()
        self._reading, self._writing = trio.Lock(), trio.Lock()
        self._responses: dict[int, Response] = {}

    async def request(self, method: str = "GET", path: str = "/events") -> Response:
        stream_id = self._h2.get_next_available_stream_id()
        head = {":method": method, ":scheme": "http", ":authority": "testserver", ":path": path}
        self._h2.send_headers(stream_id, list(head.items()), end_stream=True)
        response = self._responses[stream_id] = Response(self, stream_id)
        await self._flush()
        return await self.read_head(response)

    async def read_for(self, response: Response) -> None:
        def progress() -> tuple[int, int, bool]:
            return response.status, len(response.body), response.complete or response.cut

        seen = progress()
        async with self._reading:
            # Another's turn may have brought what this one waits for.
            while progress() == seen:
                await self._read_once()

    async def leave(self, stream_id: int) -> None:
        self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
        await self._flush()

    async def _read_once(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        if not data:
            for response in self._responses.values():
                response.cut = not response.complete
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                (_, status), *headers = event.headers
                self._responses[event.stream_id].take_head(int(status), headers)
            elif isinstance(event, h2.events.DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self._responses[event.stream_id].take_body(event.data)
            elif isinstance(event, h2.events.StreamEnded):
                self._responses[event.stream_id].complete = True
        await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            await self.stream.send_all(self._h2.data_to_send())
