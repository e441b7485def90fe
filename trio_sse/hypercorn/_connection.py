"""One connection of `trio_sse.hypercorn.serve`: hypercorn's, but it owns all bytes that go out.

It subclasses hypercorn's `TCPServer` and replaces its stream: what hypercorn sends, and what a
stream sends past it, go out through one `SocketWriter`, which seals it first where TLS is spoken.
It reads, too, and notices by itself when the client is gone.

The hazards of each line here, met by prototypes, are told in docs/design.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast, final

import attrs
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from .._delivery import active_streams, bypass
from .._delivery.active_streams import ActiveStreams
from .._delivery.bypass import Bypass, chunked
from .._delivery.socket_writer import SocketWriter
from .._delivery.writer import Writer
from ._exchange import AccessLog, Exchange
from ._http2 import HTTP2
from ._internals import begin_idle_time, close_queue, has_left, places_of, spawn, stream_id_of
from ._listeners import Transport
from ._protocols import Protocols
from ._tasks import Tasks
from ._tls import TlsBuffers, TlsWriter

#: Bytes that are read at once.
_MAX_READ: Final = 64 * 1024

#: Seconds that the reader of a connection that is gone has to notice it.
_GRACE: Final = 0.5


@final
@attrs.define(eq=False)
class Serving:
    """What the connections of one `serve` call share."""

    write_timeout: float
    access_log: AccessLog
    writer: Writer = attrs.field(factory=Writer, init=False)
    streams: ActiveStreams = attrs.field(init=False)
    tls_buffers: TlsBuffers = attrs.field(factory=TlsBuffers, init=False)

    def __attrs_post_init__(self) -> None:
        self.streams = ActiveStreams(self.write_timeout)


@final
class Connection(TCPServer):
    """One connection, whose writes have a deadline and which can be aborted."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        config: Config,
        context: WorkerContext,
        state: ConnectionState,
        transport: Transport,
        *,
        serving: Serving,
    ) -> None:
        # All that hypercorn does with the transport that we leave it to do is to close it.
        call, stream = cast("Any", self._call), cast("Any", transport)
        super().__init__(call, config, context, state, stream)
        self.serving = serving
        self._call_app = app
        self._socket = sock = transport.socket
        writing = sock, self.send_lock, serving.write_timeout
        self._tls = None
        if transport.ssl_context is not None:
            self._tls = TlsWriter(
                transport.ssl_context, serving.tls_buffers, self._receive_bytes, *writing
            )
        self._socket_writer = self._tls or SocketWriter(*writing)
        # Ended when the connection is gone, since hypercorn does not read on while a request waits
        # for the response before it, or for its application.
        self._reading = trio.CancelScope()
        self._heard_all = False
        self._bypass: Bypass | None = None
        #: Lets go whoever waits to send.
        self._let_go: Callable[[], None] = _nobody_waits

    async def run(self) -> None:
        """Serve until the connection is over (as hypercorn does, but for the protocols)."""
        try:
            alpn_protocol = await self._shake_hands()
            places = places_of(self._socket)
            async with Tasks() as self._task_group:
                protocols = Protocols(
                    self.app,
                    self.config,
                    self.context,
                    self._task_group,
                    ConnectionState(self.state),
                    (self._tls is not None, *places),
                    self.protocol_send,
                    self._socket_writer,
                    self.serving.write_timeout,
                    self.abort,
                )
                self.protocol, self._let_go = cast("Any", protocols), protocols.end
                await protocols.initiate(alpn_protocol)
                await begin_idle_time(self)
                await self._read_data()
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            pass  # Of the handshake, or of a socket that has no address any more.
        finally:
            with trio.move_on_after(_GRACE, shield=True):
                await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Write hypercorn's bytes; leave its other events to hypercorn."""
        if not isinstance(event, RawData):
            if not (self._heard_all and isinstance(event, Updated) and event.idle):
                await super().protocol_send(event)
            return
        try:
            if self._bypass is not None:
                self._bypass.observe(event.data)
            with suppress(trio.WouldBlock):
                self._socket_writer.put(event.data)
            await self._socket_writer.flush()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            # Whoever reads will tell the applications: one may be here, and its messages not read.
            self._stop_reading_soon()
            await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Close with a reset: whoever waits to send wakes."""
        self._socket_writer.abort()
        self._let_go()
        self._stop_reading_soon()

    async def _shake_hands(self) -> str | None:
        if self._tls is None:
            return None
        with trio.fail_after(self.config.ssl_handshake_timeout):
            return await self._tls.do_handshake()

    async def _read_on(self) -> None:
        # No scope where there is no deadline: it would be there for as long as the stream.
        in_time = self.config.read_timeout is not None
        receive = self._receive_in_time if in_time else self._receive
        data = None
        while data != b"":
            try:
                data = await receive()
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                return
            await self.protocol.handle(RawData(data))

    def _receive(self) -> Awaitable[bytes]:
        return self._receive_bytes() if self._tls is None else self._tls.receive()

    async def _receive_bytes(self) -> bytes:
        while True:
            if self._socket.fileno() == -1:  # Which all closed sockets share.
                raise trio.ClosedResourceError("the connection was closed")
            await trio.lowlevel.wait_readable(self._socket)
            with suppress(BlockingIOError):
                return self._socket.recv(_MAX_READ)

    async def _receive_in_time(self) -> bytes:
        with trio.fail_after(self.config.read_timeout or math.inf):
            return await self._receive()

    def _stop_reading_soon(self) -> None:
        # Not at once: who reads will notice by himself, and then tell the applications.
        self._reading.deadline = min(self._reading.deadline, trio.current_time() + _GRACE)

    async def _read_data(self) -> None:
        try:
            with self._reading:
                await self._read_on()
        except Exception:  # No application may go on to wait for a client that is not heard.
            self.abort()
            raise
        finally:
            self._heard_all = True
        await self.protocol.handle(Closed())
        # Hypercorn would wait for a next request, though the client has left.
        await self.idle_task.stop()

    async def _initiate_server_close(self) -> None:
        await self.protocol.handle(Closed())
        await self._close()

    async def _close(self) -> None:
        if not self._socket_writer.is_empty:
            self.abort()  # A clean end would tell the client that it has all.
        elif self._tls is not None:
            self._tls.close()
        await self.stream.aclose()

    def _call(
        self, scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any
    ) -> Awaitable[None]:
        """Call the application (by no coroutine of its own, which would be there for as long)."""
        answer = self._answer if scope["type"] == "http" else self._carry
        return answer(scope, receive, send)

    async def _carry(self, scope: Any, receive: Any, send: Any) -> None:
        """Call the application for a WebSocket."""
        began_at = time.time()
        try:
            await self._call_app(scope, receive, send)
        finally:
            self._clean_up(receive)
            if has_left(send):  # Else hypercorn will say how it ended.
                with trio.move_on_after(_GRACE, shield=True):
                    await self.serving.access_log.line(scope, None, time.time() - began_at)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Call the application for an HTTP request, with our extensions in its scope."""
        exchange = Exchange(scope, send, self._socket_writer)
        scope["extensions"][active_streams.EXTENSION] = self.serving.streams
        scope["extensions"].pop("http.response.push", None)  # No browser takes one.
        own = self._offer_bypass(scope, send)
        try:
            await self._call_app(scope, receive, exchange.send)
        finally:
            if own is not None:
                own.revoke()
                if self._bypass is own:  # An application may go on beside the next request.
                    self._bypass = None
            self._clean_up(receive)
            response = exchange.response(0 if own is None else own.sent)
            with trio.move_on_after(_GRACE, shield=True):
                await self.serving.access_log.line(scope, response, exchange.seconds)

    def _clean_up(self, receive: Any) -> None:
        close_queue(receive)
        if not self._socket_writer.is_empty:
            spawn(self, self._flush_rest)

    def _offer_bypass(self, scope: Any, send: Any) -> Bypass | None:
        if scope["method"] != "GET" or scope["http_version"] not in {"1.1", "2"}:
            return None
        own = self._bypass_of(scope, send)
        scope["extensions"][bypass.EXTENSION] = own
        return own

    def _bypass_of(self, scope: Any, send: Any) -> Bypass:
        writer = self.serving.writer
        if scope["http_version"] == "2":
            http2: HTTP2 = cast("Any", self.protocol).protocol
            return http2.bypasses.offer(stream_id_of(send), writer)
        self._bypass = Bypass(self._socket_writer, chunked, writer, self.abort)
        return self._bypass

    async def _flush_rest(self) -> None:
        with suppress(trio.BrokenResourceError):  # Who reads will notice it, too.
            await self._socket_writer.flush()


def _nobody_waits() -> None:
    """Do nothing: a connection that still shakes hands has no protocol."""
