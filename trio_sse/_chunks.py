"""What a client has queued, joined into large writes.

It knows a client's channel and how much one write may hold; it knows neither sockets nor time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Self, final

import trio

from ._subscription import Client

#: Bytes: large enough that a burst costs few writes, small enough that what is in flight is
#: bounded.
_MAX_CHUNK: Final = 64 * 1024


@final
class Chunks:
    """Encoded events, as many at a time as are queued and fit, but at least one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held = b""
        #: Whether the channel has ended and `take_nowait` has returned the last of it.
        self.ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Wait for events; stop when the client's channel has ended."""
        if self._held:
            await trio.lowlevel.checkpoint()
            first, self._held = self._held, b""
        else:
            try:
                first = (await self._client.receive()).encode()
            except (trio.EndOfChannel, trio.BrokenResourceError):
                raise StopAsyncIteration from None
        return self._join(first)

    def take_nowait(self) -> bytes:
        """Return the next chunk; nothing (``b""``) if no event is queued."""
        first, self._held = self._held, b""
        if not first:
            try:
                first = self._client.receive_nowait().encode()
            except trio.WouldBlock:
                return b""
            except (trio.EndOfChannel, trio.BrokenResourceError):
                self.ended = True
                return b""
        return self._join(first)

    def _join(self, first: bytes) -> bytes:
        chunks, room = [first], _MAX_CHUNK - len(first)
        with suppress(trio.WouldBlock, trio.EndOfChannel, trio.BrokenResourceError):
            while room > 0:
                event = self._client.receive_nowait().encode()
                room -= len(event)
                if room < 0:
                    self._held = event
                else:
                    chunks.append(event)
        return b"".join(chunks)
