"""HTTP/2 in which every stream has a defined end, on the h2 library.

It stands in the place of hypercorn 0.18's `H2Protocol`, whose streams go silent: at the last
request of a connection, when a response comes before its request has, when a client does not read
another one, when an application ends too early. Hypercorn's `HTTPStream` and `WSStream` do the
rest. What is to be sent waits in `Outgoing`; what one stream's application does not read keeps no
other stream from being read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import h2.events
import h2.exceptions
import trio
from h2.errors import ErrorCodes
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import events
from trio.lowlevel import enable_ki_protection

from .._delivery.socket_writer import SocketWriter
from ._bypasses import Bypasses
from ._frames import Frames
from ._inbound import Inbound, stream_of
from ._outgoing import Outgoing
from ._stream_writer import StreamWriter

#: Bytes of requests that a client may have sent and no application has read, beyond 64 KiB.
_INBOUND: Final = 1024 * 1024


@final
class HTTP2:
    """The streams of one connection.

    Args:
        parts: What hypercorn makes a stream of, before its `send` and its number.
        config: Hypercorn's configuration.
        context: Hypercorn's context of the worker.
        task_group: Hypercorn's task group of the connection.
        state: The state that the lifespan has made.
        send: Takes bytes for the socket, and what else happens to the connection.
        socket_writer: Writes all bytes of the connection.
        write_timeout: Seconds within which a client must take something of each stream.
        abort: Ends the connection with a reset.
    """

    def __init__(
        self,
        parts: tuple[Any, ...],
        config: Config,
        context: Any,
        task_group: Any,
        state: Any,
        send: Callable[[Event], Awaitable[None]],
        socket_writer: SocketWriter,
        write_timeout: float,
        abort: Callable[[], None],
    ) -> None:
        self._abort = abort
        self._parts, self._context, self._task_group = parts, context, task_group
        self._config, self._state, self._send = config, state, send
        self._out = Outgoing(config.h2_max_concurrent_streams, write_timeout, self._end_blocker)
        self._frames = Frames(config, self._out, send, socket_writer)
        writing = self._frames, self._out, socket_writer, self._reset_slow
        self.bypasses = Bypasses(
            lambda number, send_soon: StreamWriter(number, *writing, send_soon),
            self._frames.send_held,
            self._abort_stream,
        )
        self._h2 = self._frames.h2
        self._streams: dict[int, Inbound] = {}
        self._requests = 0
        self._going_away = False

    @property
    def idle(self) -> bool:
        """Whether the connection may be closed for want of use."""
        return all(each.stream.idle for each in self._streams.values())

    async def initiate(
        self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None
    ) -> None:
        """Begin; with the request that has asked for HTTP/2, if one has."""
        if settings is not None:
            self._h2.initiate_upgrade_connection(settings)
        else:
            self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_INBOUND)
        await self._frames.flush()
        self._task_group.spawn(self._frames.run)
        if headers is not None:
            request = h2.events.RequestReceived(stream_id=1, headers=headers)
            await self._open_stream(request)
            await self._hear_end(1)

    @enable_ki_protection  # A broadcast that strikes amid it may write, and change windows.
    async def handle(self, event: RawData | Closed) -> None:
        """Take what came from the client, or word that nothing more will."""
        if isinstance(event, RawData):
            try:
                received = self._h2.receive_data(event.data)
            except h2.exceptions.ProtocolError:
                await self._frames.flush()
                await self._send(Closed())
                return
            for each in received:
                await self._handle(each)
            await self._frames.flush()
        else:
            self.end()
            for stream_id in [*self._streams]:
                self._tell_gone(stream_id)

    def end(self) -> None:
        """Send nothing more, and let go whoever waits for that."""
        self._frames.close()

    async def stream_send(self, event: events.Event) -> None:
        """Take what a stream has to say."""
        try:
            await self._send_event(event)
        except (KeyError, h2.exceptions.ProtocolError):  # The stream, or the connection, is over.
            await trio.lowlevel.checkpoint()  # An application may go on for ever.
        except trio.TooSlowError:
            await self._reset_slow(event.stream_id)

    async def _send_event(self, event: events.Event) -> None:
        stream_id = event.stream_id
        match event:
            case events.InformationalResponse() | events.Response():
                own = self._config.response_headers("h2")
                status = (b":status", b"%d" % event.status_code)
                await self._send_head(event, [status, *event.headers, *own])
            case events.Body() | events.Data():
                self.bypasses.observe(stream_id, event.data)
                await self._out.put(stream_id, event.data)
            case events.EndBody() | events.EndData():
                self.bypasses.revoke(stream_id)
                self._out.finish(stream_id)
                await self._out.wait_sent(stream_id)
            case events.Trailers():
                await self._out.wait_sent(stream_id)
                await self._send_head(event, event.headers)
            case events.StreamClosed():
                await self._close_stream(stream_id)
            case _:  # A push, which no browser takes.
                pass

    async def _send_head(self, event: Any, headers: list[tuple[bytes, bytes]]) -> None:
        """Send a head or trailers; reset a stream whose application sends what cannot be sent."""
        ends = isinstance(event, events.Trailers)
        if (stream_id := event.stream_id) not in self._out:
            return
        if not ends and self._frames.has_begun(stream_id):  # It was cancelled amid its head.
            await self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
            return
        try:
            self._frames.send_headers(stream_id, headers, ends=ends)
        except h2.exceptions.ProtocolError as error:
            await self._config.log.warning("a response could not be sent: %s", error)
            await self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
            await self._look_for_the_end()
            return
        if ends:
            self._out.discard(stream_id)
        await self._frames.flush()

    async def _close_stream(self, stream_id: int) -> None:
        """End a stream whose application has ended."""
        inbound = self._streams.get(stream_id)
        if stream_id in self._out:  # Before its response did.
            await self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
        elif (
            inbound is not None and not inbound.has_ended
        ):  # Before its request did (RFC 9113, 8.1).
            await self._reset(stream_id, ErrorCodes.NO_ERROR)
        self._tell_gone(stream_id)
        await self._look_for_the_end()

    async def _look_for_the_end(self) -> None:
        """After a stream has ended: end with the last one, if no other shall come."""
        if self._context.terminated.is_set():
            await self._go_away()
        await self._frames.flush()  # Behind what is just being sent: an idle connection may end.
        if self._going_away and not self._streams:
            await self._send(Closed())
        else:
            await self._send(Updated(idle=self.idle))

    async def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                await self._take_request(event)
            case h2.events.DataReceived(stream_id=stream_id, data=data):
                self._hear(stream_id, data, event.flow_controlled_length)
            case h2.events.StreamEnded(stream_id=stream_id):
                await self._hear_end(stream_id)
            case h2.events.StreamReset(stream_id=stream_id):
                self._out.discard(stream_id)
                self._tell_gone(stream_id)
                await self._look_for_the_end()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._out.wake()
            case h2.events.ConnectionTerminated():
                await self._send(Closed())
            case _:
                pass

    async def _take_request(self, event: h2.events.RequestReceived) -> None:
        if self._context.terminated.is_set():
            await self._go_away()
        if self._going_away:  # The client may send it again, by another connection.
            await self._reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        await self._send(Updated(idle=False))
        await self._open_stream(event)
        if self._requests > self._config.keep_alive_max_requests:
            await self._go_away()
        if not self._streams:  # Answered by hypercorn itself.
            await self._look_for_the_end()

    async def _open_stream(self, event: h2.events.RequestReceived) -> None:
        stream_id, path = event.stream_id, dict(event.headers).get(b":path")
        if path is None:  # CONNECT needs none, but to be a proxy is not our business.
            await self._reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        try:
            stream, request = stream_of(event, path, self._parts, self.stream_send, self._state)
            self._streams[stream_id] = Inbound(stream, self._task_group.spawn, self._give_back)
            self._out.open(stream_id)
            self._requests += 1
            await stream.handle(request)
        except ValueError:  # Of bytes that are no text: no application was told.
            self._streams.pop(stream_id, None)
            await self._reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        await self._context.mark_request()
        if stream.closed:
            await self._close_stream(stream_id)

    def _hear(self, stream_id: int, data: bytes, size: int) -> None:
        if data and (inbound := self._streams.get(stream_id)):
            inbound.hear(data, size)
        else:  # Padding, or of a stream that is over.
            self._h2.acknowledge_received_data(size, stream_id)

    async def _hear_end(self, stream_id: int) -> None:
        if inbound := self._streams.get(stream_id):
            await inbound.hear_end()

    async def _give_back(self, stream_id: int, size: int) -> None:
        if not self._frames.closed:
            self._h2.acknowledge_received_data(size, stream_id)
            await self._frames.flush()

    async def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        self._out.discard(stream_id)
        try:
            self._h2.reset_stream(stream_id, code)
        except h2.exceptions.ProtocolError:
            return  # It is over.
        await self._frames.flush()
        self._tell_gone(stream_id)

    async def _end_blocker(self, stream_id: int) -> bool:
        """Reset the stream that keeps one from sending, unless it does so itself."""
        blocker = self._frames.blocker_of(stream_id)
        if blocker == stream_id:
            return False
        await self._reset(blocker, ErrorCodes.CANCEL)
        return True

    def _tell_gone(self, stream_id: int) -> None:
        """Forget a stream."""
        self.bypasses.revoke(stream_id)
        if inbound := self._streams.pop(stream_id, None):
            inbound.tell_gone()

    def _abort_stream(self, stream_id: int) -> None:
        """Reset a stream, at once."""
        self._task_group.spawn(self._reset, stream_id, ErrorCodes.INTERNAL_ERROR)

    async def _reset_slow(self, stream_id: int) -> None:
        """Reset a stream whose client takes nothing of it."""
        if len(self._streams) == 1:  # Nobody else is harmed, and the client may be gone.
            self._abort()
        await self._reset(stream_id, ErrorCodes.CANCEL)
        await self._look_for_the_end()

    async def _go_away(self) -> None:
        """Let the client send its next requests elsewhere; the streams that are open go on."""
        if not self._going_away:
            self._going_away = True
            last = max(self._streams, default=self._h2.highest_inbound_stream_id)
            await self._frames.go_away(last)
