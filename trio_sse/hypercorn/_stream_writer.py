"""The body of one HTTP/2 stream, written past hypercorn.

What all windows have room for goes out at once, as a frame of its own; else all of it waits in the
stream's buffer, in order, and nothing passes it by. It knows frames and buffers; it knows neither
requests nor who writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from .._delivery.socket_writer import SocketWriter
from ._frames import Frames
from ._outgoing import Outgoing


@final
class StreamWriter:
    """Writes for one stream, as a `SocketWriter` does for a connection.

    Args:
        stream_id: The stream's number.
        frames: Those of the connection.
        out: What its streams have still to send.
        socket_writer: Writes all bytes of the connection.
        reset: Ends a stream whose client takes nothing.
    """

    __slots__ = ("_frames", "_out", "_reset", "_socket_writer", "_stream_id")

    def __init__(
        self,
        stream_id: int,
        frames: Frames,
        out: Outgoing,
        socket_writer: SocketWriter,
        reset: Callable[[int], Awaitable[None]],
    ) -> None:
        self._stream_id = stream_id
        self._frames = frames
        self._out = out
        self._socket_writer = socket_writer
        self._reset = reset

    @property
    def sender(self) -> Callable[[bytes], int]:
        """See `SocketWriter`: what windows have no room for is kept here."""
        return self.put

    @enable_ki_protection
    def put(self, data: bytes) -> int:
        """Send a frame, or let the data wait; see `SocketWriter.put`."""
        if self._stream_id not in self._out:
            raise trio.BrokenResourceError("the stream has ended")
        if self._out.size(self._stream_id) or not self._frames.send_at_once(self._stream_id, data):
            self._out.put_nowait(self._stream_id, data)
            raise trio.WouldBlock
        return len(data)

    @enable_ki_protection
    def flush_nowait(self) -> None:
        """Send what waits, as far as windows and the socket go; raises as `put` does."""
        if self._stream_id in self._out and self._out.size(self._stream_id):
            self._frames.send_waiting()
            if self._out.size(self._stream_id):
                raise trio.WouldBlock
        self._socket_writer.flush_nowait()

    async def flush(self) -> None:
        """Wait until nothing is left.

        Raises:
            trio.BrokenResourceError: If the stream has ended, as its client took nothing of it.
        """
        try:
            await self._out.wait_sent(self._stream_id)
        except trio.TooSlowError:
            await self._reset(self._stream_id)
        await self._socket_writer.flush()
        if self._stream_id not in self._out:
            raise trio.BrokenResourceError("the stream has ended")
