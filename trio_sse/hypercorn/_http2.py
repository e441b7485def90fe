"""The back-pressure that hypercorn 0.18 lacks on HTTP/2, and the ends that it forgets.

There a stream's buffer lets the application write on at each attempt to send, even if the client's
window is shut: `send` never waits, and memory grows for as long as events come. Here `send` waits
by itself, until little enough is buffered; a client that takes nothing for the write timeout is the
end of its connection, its other streams with it. It knows hypercorn's stream buffers, and no
events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, final

import trio
from hypercorn.protocol.h2 import StreamBuffer

from ._internals import popped_event_of

Message = MutableMapping[str, Any]

#: Bytes that one stream may have waiting in the server.
_MAX_BUFFERED: Final = 256 * 1024


def is_upgrade(data: bytes) -> bool:
    """Whether these bytes are hypercorn's consent to go on with HTTP/2."""
    return data.startswith(b"HTTP/1.1 101 ") and data.endswith(b"\r\nupgrade: h2c\r\n\r\n")


@final
class BoundedSend:
    """ASGI's `send` of one HTTP/2 stream, which waits while too much is buffered."""

    def __init__(
        self,
        send: Callable[[Message], Awaitable[None]],
        buffer: StreamBuffer,
        write_timeout: float,
        abort: Callable[[], None],
    ) -> None:
        self._send = send
        self._buffer = buffer
        self._write_timeout = write_timeout
        self._abort = abort

    async def __call__(self, message: Message) -> None:
        """Send, then wait; before the last chunk, which has no deadline, until all is gone."""
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        more_body = message.get("more_body", False)
        if message.get("body"):
            await self._send({**message, "more_body": True})
        await self._wait_until_buffered(_MAX_BUFFERED if more_body else 0)
        if not more_body:
            await self._send({**message, "body": b""})

    async def _wait_until_buffered(self, most: int) -> None:
        await trio.lowlevel.checkpoint()
        deadline = trio.current_time() + self._write_timeout
        while (size := len(self._buffer.buffer)) > most:
            with trio.move_on_at(deadline) as patience:
                await self._wait_for_pop()
            if len(self._buffer.buffer) < size:
                deadline = trio.current_time() + self._write_timeout
            elif patience.cancelled_caught:
                self._abort()
                return

    async def _wait_for_pop(self) -> None:
        # Set whenever hypercorn takes less than a full frame, as when the window shuts.
        popped = popped_event_of(self._buffer)
        await popped.clear()
        await popped.wait()
