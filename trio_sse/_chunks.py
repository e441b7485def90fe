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

    __slots__ = ("_client", "_held")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held = b""

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

    def take_nowait(self, queued: int) -> tuple[bytes, int]:
        """Return the next chunk, and how many of the `queued` events (at least 1) are in it."""
        event = self._held or self._client.receive_nowait().encode()
        self._held = b""
        if queued == 1:
            return event, 1
        chunks, room = [event], _MAX_CHUNK - len(event)
        while len(chunks) < queued:
            event = self._client.receive_nowait().encode()
            room -= len(event)
            if room < 0:
                self._held = event
                break
            chunks.append(event)
        return b"".join(chunks), len(chunks)

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
