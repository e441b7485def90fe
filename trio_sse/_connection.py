"""One connection of `trio_sse.hypercorn.serve`: hypercorn's, but it owns all bytes that go out.

It subclasses hypercorn's `TCPServer` and replaces its write. What hypercorn sends and what a stream
sends directly pass through one unsent buffer: they are put there without waiting, tried at once,
and what the socket does not take is flushed by whoever waits. A cancellation leaves the rest where
it is, so no chunk is ever cut by one; and no byte accepted by the kernel for the write timeout is
the end.

The hazards of each line here, met by prototypes, are told in docs/design.md. Together with
`hypercorn` it is the only room that knows hypercorn's classes.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import Any, Final, cast, final

import attrs
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol, StreamBuffer
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from trio.lowlevel import enable_ki_protection

from ._carried import Carried
from ._direct import EXTENSION, Writer
from ._http2 import BoundedSend, release_streams

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

#: Bytes handed to a TLS stream at once: one record, so that each has the write timeout for itself.
_TLS_RECORD: Final = 16 * 1024

#: Bytes that are read at once.
_MAX_READ: Final = 64 * 1024

#: Seconds that the reader of a connection that is gone has to notice it.
_GRACE: Final = 0.5

#: Close with a reset and keep nothing in the kernel.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@final
@attrs.define(eq=False)
class Server:
    """What the connections of one `serve` call share."""

    write_timeout: float
    writer: Writer = attrs.field(factory=Writer, init=False)
    carried: Carried = attrs.field(init=False)
    _chunk: bytes = attrs.field(default=b"", init=False)
    _framed: bytes = attrs.field(default=b"", init=False)

    def __attrs_post_init__(self) -> None:
        self.carried = Carried(self.write_timeout)

    def frame(self, chunk: bytes) -> bytes:
        """Return a chunk of HTTP/1.1's chunked coding, made once for all who send the same."""
        if chunk is not self._chunk:
            self._chunk, self._framed = chunk, b"%x\r\n%b\r\n" % (len(chunk), chunk)
        return self._framed


@final
class Connection(TCPServer):
    """One connection, whose writes have a deadline and which can be aborted."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: ConnectionState,
        stream: Stream,
        *,
        server: Server,
    ) -> None:
        # hypercorn's annotation knows TLS only.
        super().__init__(self._call, config, context, state, cast("trio.SSLStream[Any]", stream))
        self.server = server
        self._call_app = app
        self._stream = stream
        self._tls = stream if isinstance(stream, trio.SSLStream) else None
        self._socket = (self._tls.transport_stream if self._tls else stream).socket
        self._unsent = bytearray()
        # Ended when the connection is gone, since hypercorn does not read on while a request waits
        # for the response before it, or for its application.
        self._reading = trio.CancelScope()
        self._heard_all = False
        self._door: _Door | None = None

    async def protocol_send(self, event: Event) -> None:
        """Write hypercorn's bytes; leave its other events to hypercorn."""
        if not isinstance(event, RawData):
            if not (self._heard_all and isinstance(event, Updated) and event.idle):
                await super().protocol_send(event)
            return
        try:
            if self._tls is not None:
                await self._write_records(self._tls, memoryview(event.data))
            else:
                if self._door is not None:
                    self._door.notice(event.data)
                with suppress(trio.WouldBlock):
                    self.put(event.data)
                await self.flush()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._stop_reading_soon()
            await self.protocol.handle(Closed())

    @enable_ki_protection
    def put(self, data: bytes) -> None:
        """Write what the socket takes; keep the rest.

        Raises:
            trio.WouldBlock: If something is left to flush.
            trio.BrokenResourceError: If the connection is gone.
        """
        if not self._unsent:
            written = self._write_some(data)
            if written == len(data):
                return
            data = data[written:]
        self._unsent += data
        raise trio.WouldBlock

    @enable_ki_protection
    def flush_nowait(self) -> None:
        """Write what is left, as far as the socket takes it; raises as `put` does."""
        del self._unsent[: self._write_some(self._unsent)]
        if self._unsent:
            raise trio.WouldBlock

    async def flush(self) -> None:
        """Wait until nothing is left. Cancelled, it leaves the rest to the next who flushes.

        Raises:
            trio.BrokenResourceError: If the connection is gone or was aborted.
        """
        await trio.lowlevel.checkpoint()
        while self._unsent:
            await self._wait_writable()
            with suppress(trio.WouldBlock):
                self.flush_nowait()

    def abort(self) -> None:
        """Close with a reset: whoever waits on the socket wakes."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.close()
        self._stop_reading_soon()

    async def _read_on(self) -> None:
        data = None
        while data != b"":
            try:
                data = await self._receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                return
            await self.protocol.handle(RawData(bytes(data)))

    async def _receive(self) -> bytes | bytearray:
        # No scope where there is no deadline: it would be there for as long as the stream.
        if self.config.read_timeout is None:
            return await self._stream.receive_some(_MAX_READ)
        with trio.fail_after(self.config.read_timeout):
            return await self._stream.receive_some(_MAX_READ)

    def _stop_reading_soon(self) -> None:
        # Not at once: who reads will notice by himself, and then tell the applications.
        self._reading.deadline = min(self._reading.deadline, trio.current_time() + _GRACE)

    async def _read_data(self) -> None:
        try:
            with self._reading:
                await self._read_on()
        finally:
            self._heard_all = True
            release_streams(cast("Any", self.protocol).protocol)
        await self.protocol.handle(Closed())
        # Hypercorn would wait for a next request, though the client has left.
        await self.idle_task.stop()

    async def _wait_writable(self) -> None:
        async with self.send_lock:
            if self._socket.fileno() == -1:  # Which all closed sockets share.
                raise trio.BrokenResourceError("the connection was closed")
            try:
                with trio.fail_after(self.server.write_timeout):
                    await trio.lowlevel.wait_writable(self._socket)
            except trio.TooSlowError:
                self.abort()
                raise trio.BrokenResourceError("aborted: the client took no byte") from None
            except (OSError, trio.ClosedResourceError) as error:
                raise trio.BrokenResourceError from error

    def _write_some(self, data: bytes | bytearray) -> int:
        try:
            # The number anew each time: a closed socket has none, where a number kept may be
            # another's.
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def _write_records(
        self, tls: trio.SSLStream[trio.SocketStream], data: memoryview
    ) -> None:
        # Shielded, as hypercorn's own write is: a TLS stream whose write was cancelled is lost.
        async with self.send_lock:
            with trio.CancelScope(shield=True) as progress:
                while data:
                    progress.deadline = trio.current_time() + self.server.write_timeout
                    await tls.send_all(data[:_TLS_RECORD])
                    data = data[_TLS_RECORD:]
        if progress.cancelled_caught:
            self.abort()
            raise trio.BrokenResourceError("aborted: the client took no byte")

    async def _close(self) -> None:
        if self._unsent:
            self.abort()  # A clean end would tell the client that it has all.
        await super()._close()

    async def _call(
        self, scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any
    ) -> None:
        """Call the application, with our extensions in the scope of an HTTP request."""
        if scope["type"] == "http":
            self.server.carried.offer(scope)
            self._door = self._offer_door(scope)
            stream_id = send.__self__.stream_id
            send = self._shield_end(send)
            if scope["http_version"] == "2":
                send = self._bound(send, stream_id)
        try:
            await self._call_app(scope, receive, send, sync_spawn, call_soon)
        finally:
            if self._door is not None:
                self._door.shut()
                self._door = None
            if self._unsent:
                cast("Any", self._task_group).spawn(self._flush_rest)

    def _offer_door(self, scope: Any) -> _Door | None:
        if self._tls is not None or scope["http_version"] != "1.1" or scope["method"] != "GET":
            return None
        door = scope["extensions"][EXTENSION] = _Door(self)
        return door

    def _shield_end(self, send: Any) -> Any:
        """Let hypercorn finish what it does at the end of a response, once that fits the socket.

        It tells the application then that the client has left, on which many cancel the task that
        is sending: hypercorn would be stopped before it recycles the connection, or closes it.
        """

        async def shielded_send(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                with suppress(trio.BrokenResourceError):  # The write to come is told the same.
                    await self.flush()
                with trio.CancelScope(shield=True):
                    await send(message)
            else:
                await send(message)

        return shielded_send

    def _bound(self, send: Any, stream_id: int) -> Any:
        http2: H2Protocol = cast("Any", self.protocol).protocol
        # A stream that the client has reset already has no buffer any more.
        buffer = http2.stream_buffers.get(stream_id) or StreamBuffer(self.context.event_class)
        return BoundedSend(send, buffer, self.server.write_timeout, self.abort)

    async def _flush_rest(self) -> None:
        with suppress(trio.BrokenResourceError):
            await self.flush()


@final
class _Door:
    """The way of one request past hypercorn; see `_direct.Door`."""

    __slots__ = ("_connection", "_expected", "_frame", "_open", "_put", "opened", "writer")

    def __init__(self, connection: Connection) -> None:
        self.opened = trio.Event()
        self.writer = connection.server.writer
        self._connection = connection
        self._frame = connection.server.frame
        self._put = connection.put
        self._expected: bytes | None = None
        self._open = False

    def expect(self, first: bytes) -> None:
        self._expected = self._frame(first)

    def notice(self, data: bytes) -> None:
        """Open at the bytes that were announced, if nothing else came before; shut at any later."""
        if self._expected is not None:
            self._open = data == self._expected
            self._expected = None
            if self._open:
                self.opened.set()
        else:
            self._open = False

    def shut(self) -> None:
        self._expected = None
        self._open = False

    def send_nowait(self, chunk: bytes) -> None:
        if not self._open:
            raise trio.ClosedResourceError("the door to the connection is shut")
        self._put(self._frame(chunk))

    def flush_nowait(self) -> None:
        self._connection.flush_nowait()

    async def flush(self) -> None:
        await self._connection.flush()

    def abort(self) -> None:
        self._connection.abort()
