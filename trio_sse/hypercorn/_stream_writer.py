"""The body of one HTTP/2 stream, written past hypercorn.

What all windows have room for is a frame of its own, and goes out at once, or soon, with frames of
the connection's other streams; else all of it waits in the stream's buffer, in order, and nothing
passes it by. It knows frames and buffers; it knows neither requests nor who writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, final

import trio
from trio.lowlevel import enable_ki_protection

from .._delivery.socket_writer import SocketWriter
from ._frames import Frames
from ._outgoing import Outgoing

#: Bytes of frames that wait for those of other streams: a record of TLS.
_TOGETHER: Final = 16 * 1024


@final
class StreamWriter:
    """Writes for one stream, as a `SocketWriter` does for a connection.

    Args:
        stream_id: The stream's number.
        frames: Those of the connection.
        out: What its streams have still to send.
        socket_writer: Writes all bytes of the connection.
        reset: Ends a stream whose client takes nothing.
        send_soon: Sends the frames that are made, those of all streams together; tells whether it
            will, as there is more than one stream.
    """

    __slots__ = ("_frames", "_out", "_reset", "_send_soon", "_socket_writer", "_stream_id")

    def __init__(
        self,
        stream_id: int,
        frames: Frames,
        out: Outgoing,
        socket_writer: SocketWriter,
        reset: Callable[[int], Awaitable[None]],
        send_soon: Callable[[], bool],
    ) -> None:
        self._stream_id = stream_id
        self._frames = frames
        self._out = out
        self._socket_writer = socket_writer
        self._reset = reset
        self._send_soon = send_soon

    @property
    def sender(self) -> Callable[[bytes], int]:
        """See `SocketWriter`: what windows have no room for is kept here."""
        return self._put_soon

    @enable_ki_protection
    def put(self, data: bytes) -> int:
        """Send a frame, or let the data wait; see `SocketWriter.put`."""
        self._frames.send(self._make_frame(data))
        return len(data)

    @enable_ki_protection
    def _put_soon(self, data: bytes) -> int:
        """Do the same, but let the frame go out with those of other streams.

        If the socket is full then, `send_soon` will tell.
        """
        frame = self._make_frame(data)
        if not self._send_soon():
            self._frames.send(frame)
        elif self._frames.hold(frame) > _TOGETHER:
            self._frames.send_held()
        return len(data)

    def _make_frame(self, data: bytes) -> bytes:
        if self._stream_id not in self._out:
            raise trio.BrokenResourceError("the stream has ended")
        frame = b""
        if not self._out.size(self._stream_id):
            frame = self._frames.make_frame(self._stream_id, data)
        if not frame:
            self._out.put_nowait(self._stream_id, data)
            raise trio.WouldBlock
        return frame

    @enable_ki_protection
    def flush_nowait(self) -> None:
        """Send what waits, as far as windows and the socket go; raises as `put` does."""
        if self._stream_id in self._out and self._out.size(self._stream_id):
            self._frames.send_waiting()
            if self._out.size(self._stream_id):
                raise trio.WouldBlock
        self._frames.send_held()

    async def flush(self) -> None:
        """Wait until nothing is left.

        Raises:
            trio.BrokenResourceError: If the stream has ended, as its client took nothing of it.
        """
        try:
            await self._out.wait_sent(self._stream_id)
        except trio.TooSlowError:
            await self._reset(self._stream_id)
        with suppress(trio.WouldBlock):
            self._frames.send_held()
        await self._socket_writer.flush()
        if self._stream_id not in self._out:
            raise trio.BrokenResourceError("the stream has ended")
