"""What the streams of one HTTP/2 connection have still to send.

However many they are, they hold little: each has a small share for itself, so that none waits for
another, and all have one more in common, for those that send much. An application waits until its
bytes have room. A stream whose client takes none of them for the write timeout is over, unless
another one has kept it waiting, which is over then. It knows numbers of streams and bytes; it knows
neither frames nor sockets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, final

import attrs
import trio

#: Bytes that streams may hold for themselves, all together, and those that they share.
_OWN: Final = 768 * 1024
_SHARED: Final = 256 * 1024


@final
@attrs.define(eq=False)
class _Buffer:
    """The bytes of one stream."""

    data: bytearray = attrs.field(factory=bytearray)
    is_complete: bool = False
    taken_at: float = 0.0
    """When something was taken last, or put where nothing was."""


@final
class Outgoing:
    """The bytes of all streams.

    Args:
        max_streams: How many streams there may be.
        write_timeout: Seconds within which a client must take something of what waits for it.
        end_blocker: Ends the stream that keeps one waiting; tells whether it is another one.
    """

    def __init__(
        self,
        max_streams: int,
        write_timeout: float,
        end_blocker: Callable[[int], Awaitable[bool]],
    ) -> None:
        self._end_blocker = end_blocker
        self._own = max(1, _OWN // max(1, max_streams))
        self._write_timeout = write_timeout
        self._buffers: dict[int, _Buffer] = {}
        #: Those that have bytes, or an end, to be sent.
        self._waiting: dict[int, None] = {}
        self._shared = 0
        self._taken = trio.lowlevel.ParkingLot()
        self._put = trio.lowlevel.ParkingLot()

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._buffers

    def open(self, stream_id: int) -> None:
        """Begin a stream."""
        self._buffers[stream_id] = _Buffer()

    def discard(self, stream_id: int) -> None:
        """End a stream, if it has not ended; what it has still to send is dropped."""
        if buffer := self._buffers.pop(stream_id, None):
            self._shared -= max(0, len(buffer.data) - self._own)
        self._waiting.pop(stream_id, None)
        self._taken.unpark_all()

    def clear(self) -> None:
        """End all streams, and let go whoever waits."""
        for stream_id in [*self._buffers]:
            self.discard(stream_id)
        self.wake()

    async def put(self, stream_id: int, data: bytes) -> None:
        """Take bytes of a stream, as soon as there is room for them.

        Raises:
            KeyError: If the stream has ended.
            trio.TooSlowError: If its client takes nothing.
        """
        left = memoryview(data)
        while left:
            buffer = self._buffers[stream_id]
            room = max(0, self._own - len(buffer.data)) + _SHARED - self._shared
            if room <= 0:
                await self._wait_taken(stream_id, buffer)
                continue
            if not buffer.data:
                buffer.taken_at = trio.current_time()
            self._resize(buffer, left[:room], 0)
            self._waiting[stream_id] = None
            self.wake()
            left = left[room:]

    def put_nowait(self, stream_id: int, data: bytes) -> None:
        """Take bytes of a stream, whether there is room for them or not.

        Raises:
            KeyError: If the stream has ended.
        """
        buffer = self._buffers[stream_id]
        if not buffer.data:
            buffer.taken_at = trio.current_time()
        self._resize(buffer, data, 0)
        self._waiting[stream_id] = None
        self.wake()

    def finish(self, stream_id: int) -> None:
        """Let a stream end behind its bytes.

        Raises:
            KeyError: If it has ended.
        """
        buffer = self._buffers[stream_id]
        buffer.is_complete = True
        if not buffer.data:
            buffer.taken_at = trio.current_time()
        self._waiting[stream_id] = None
        self.wake()

    async def wait_sent(self, stream_id: int) -> None:
        """Wait until all of a stream is taken, and its end, if it was finished.

        Raises:
            trio.TooSlowError: If its client takes nothing.
        """
        while (buffer := self._buffers.get(stream_id)) and (buffer.data or buffer.is_complete):
            await self._wait_taken(stream_id, buffer)

    def waiting(self) -> list[int]:
        """Return the streams that have something to send, in the order of their turns."""
        return [*self._waiting]

    def take(self, stream_id: int, most: int) -> tuple[bytes, bool]:
        """Return the next bytes of a stream, and whether that is its end."""
        buffer = self._buffers[stream_id]
        data = bytes(memoryview(buffer.data)[:most])
        if data:
            self._resize(buffer, b"", len(data))
            buffer.taken_at = trio.current_time()
            self._taken.unpark_all()
        del self._waiting[stream_id]
        if buffer.data:
            self._waiting[stream_id] = None  # Behind all others.
        is_end = buffer.is_complete and not buffer.data
        if is_end:
            self.discard(stream_id)
        return data, is_end

    def size(self, stream_id: int) -> int:
        """Return how many bytes of a stream wait."""
        return len(self._buffers[stream_id].data)

    async def wait_put(self) -> None:
        """Wait until something may have to be sent."""
        await self._put.park()

    def wake(self) -> None:
        """Let whoever sends look again."""
        self._put.unpark_all()

    def _resize(self, buffer: _Buffer, more: bytes | memoryview, less: int) -> None:
        self._shared -= max(0, len(buffer.data) - self._own)
        buffer.data += more
        del buffer.data[:less]
        self._shared += max(0, len(buffer.data) - self._own)

    async def _wait_taken(self, stream_id: int, buffer: _Buffer) -> None:
        with trio.move_on_at(buffer.taken_at + self._write_timeout):
            await self._taken.park()
            return
        now = trio.current_time()
        if now < buffer.taken_at + self._write_timeout:
            return  # The one that has kept several waiting has just been ended.
        for each in self._buffers.values():
            each.taken_at = now
        if not await self._end_blocker(stream_id):
            raise trio.TooSlowError
