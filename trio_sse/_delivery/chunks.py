"""What a client has queued, joined into large writes.

It knows a stream's queue and how much one write may hold; it knows neither sockets nor time.
"""

from __future__ import annotations

from typing import Final, Self, final

import trio

from .active_streams import ActiveStream

#: Bytes: large enough that a burst costs few writes, small enough that what is in flight is
#: bounded.
MAX_CHUNK: Final = 64 * 1024


@final
class Chunks:
    """Encoded events, as many at a time as are queued and fit, but at least one."""

    __slots__ = ("_client", "_held", "_replay")

    def __init__(self, stream: ActiveStream) -> None:
        self._client = stream.client
        self._replay = stream.replay
        self._held = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Wait for events; stop when the client's channel has ended."""
        if self._held or self._replay:
            await trio.lowlevel.checkpoint()
            return self.take_nowait(self.queued)[0]
        try:
            first = (await self._client.receive()).encode()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        return self._join(first, self._client.queued)[0]

    @property
    def queued(self) -> int:
        """How many blocks and events are still to be taken."""
        return self._client.queued + len(self._replay) + bool(self._held)

    def first(self) -> bytes:
        """Return the first chunk, if anything is queued already."""
        return self.take_nowait(queued)[0] if (queued := self.queued) else b""

    def take_nowait(self, queued: int) -> tuple[bytes, int]:
        """Return the next chunk, and how many of the `queued` events (at least 1) are in it."""
        first, self._held = self._held or self._next(), b""
        return self._join(first, queued - 1)

    def _join(self, first: bytes, more: int) -> tuple[bytes, int]:
        if not more:
            return first, 1
        chunks, room = [first], MAX_CHUNK - len(first)
        for _ in range(more):
            event = self._next()
            room -= len(event)
            if room < 0:
                self._held = event
                break
            chunks.append(event)
        return b"".join(chunks), len(chunks)

    def _next(self) -> bytes:
        return self._replay.pop() if self._replay else self._client.receive_nowait().encode()
