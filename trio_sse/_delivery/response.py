"""One response: from its head to its last chunk, or to the client's leaving.

Two tasks serve a client. The writer, a child, is the only one that sends: through ASGI's `send`,
which works on any server that runs on Trio, or, where a server offers a door and it opens, past it
(`_direct`). The watcher, the parent, waits in `receive` until the client leaves, and keeps the
heartbeat's time there: a timer in the writer would cost a cancel scope for each event.

It knows ASGI messages; it knows neither requests nor frameworks.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, final

import trio

from .._core.client import Client
from .._core.heartbeat import Silence
from .chunks import Chunks
from .direct import EXTENSION, PROBE, DirectStream, Door, prove

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Seconds for the last words of a stream that is cancelled: a shutdown must not wait on a slow
#: client.
_LAST_WORDS_TIMEOUT: Final = 0.5


@final
class Delivery:
    """The two tasks of one response."""

    __slots__ = (
        "_client",
        "_direct",
        "_door",
        "_ended",
        "_events",
        "_last_words",
        "_mute",
        "_nursery",
        "_send",
        "_silence",
        "_whole",
    )

    def __init__(
        self, client: Client, scope: Scope, send: Send, silence: Silence, *, whole: bool = False
    ) -> None:
        self._client = client
        self._send = send
        self._door: Door | None = scope.get("extensions", {}).get(EXTENSION)
        #: Whether a clean end says that all is there: then there is none when it is cancelled.
        self._whole = whole
        self._direct: DirectStream | None = None
        self._silence = silence
        self._nursery: trio.Nursery
        #: Nothing more may be sent: the client has left, or something has failed.
        self._mute = False
        self._ended = False
        # Shielded, because a cancelled last chunk may be one that the server counts as sent:
        # `_stop` cancels the one, and bounds the other.
        self._events = trio.CancelScope(shield=True)
        self._last_words = trio.CancelScope(shield=True)

    async def run(self, head: Message, receive: Receive) -> None:
        """Send the head, then events, until the client leaves or its channel ends."""
        async with trio.open_nursery() as nursery:
            self._nursery, self._client.cancel_scope = nursery, nursery.cancel_scope
            nursery.start_soon(self._write, head)
            del head  # It need not be there for as long as the stream.
            try:
                if _is_cancel_safe(receive):
                    await self._keep_time(partial(self._watch, receive))
                else:
                    nursery.start_soon(self._keep_time, trio.sleep_forever)
                    await self._watch(receive)
                nursery.cancel_scope.cancel("the client left")
            except trio.Cancelled:
                self._mute = self._mute or self._whole
                raise
            except Exception:
                self._mute = True
                raise
            finally:
                self._stop()

    async def _watch(self, receive: Receive) -> None:
        """Take what the client sends, so that the server reads on and notices when it leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._mute = True

    def _keep_time(self, wait: Callable[[], Awaitable[None]]) -> Awaitable[None]:
        return self._silence.watch(wait, self._beat, self._client.leave)

    def _beat(self) -> float:
        if self._direct is not None:
            return self._direct.beat()
        self._client.beat_if_idle()
        return trio.current_time()

    def _stop(self) -> None:
        """Tell the writer, which is shielded, to come to its end."""
        self._events.cancel("the stream was stopped")
        self._last_words.deadline = trio.current_time() + _LAST_WORDS_TIMEOUT
        if self._direct is not None:
            self._direct.detach()
            self._nursery.start_soon(self._end)  # Its writer is the server's, and knows no end.

    async def _write(self, head: Message) -> None:
        # ASGI lets `send` raise OSError once the client is gone.
        with suppress(OSError), self._events:
            await self._write_message(head)
            chunks = Chunks(self._client)
            if self._door is not None and await self._is_direct(self._door, chunks):
                # Once stopped, it would not be detached.
                await trio.lowlevel.checkpoint_if_cancelled()
                self._go_direct(self._door, chunks)
                return
            async for chunk in chunks:
                await self._write_message(_body(chunk, more_body=True))
        await self._end()

    async def _is_direct(self, door: Door, chunks: Chunks) -> bool:
        first = chunks.first() or PROBE
        opened = door.expect(first)
        await self._write_message(_body(first, more_body=True))
        return await prove(opened)

    def _go_direct(self, door: Door, chunks: Chunks) -> None:
        def attend_soon() -> None:
            self._nursery.start_soon(self._attend, direct)

        direct = DirectStream(self._client, chunks, door, self._silence, attend_soon)
        self._direct = direct

    async def _attend(self, direct: DirectStream) -> None:
        """Do what the server's writer leaves to us: wait for the socket, and end."""
        try:
            if not await direct.attend():
                return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._mute = True
            self._abort()
        direct.detach()
        await self._end()

    async def _end(self) -> None:
        """Say the last words if we are between two events, and let the watcher go."""
        if self._silence.written_at < math.inf and not self._mute and not self._ended:
            self._ended = True
            with suppress(OSError), self._last_words:
                await self._write_message(_body(self._client.last_words, more_body=False))
            # Hypercorn says that the client has left while it is still busy with a last chunk.
            if self._last_words.cancelled_caught and not self._mute:
                self._abort()
        self._nursery.cancel_scope.cancel("the stream has ended")

    def _abort(self) -> None:
        if self._door is not None:
            self._door.abort()

    async def _write_message(self, message: Message) -> None:
        if self._mute:
            return
        self._silence.written_at = math.inf
        await self._send(message)
        self._silence.written_at = trio.current_time()


def _body(chunk: bytes, *, more_body: bool) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more_body}


def _is_cancel_safe(receive: Receive) -> bool:
    """Tell whether a cancelled `receive` loses nothing, as is sure if it is a Trio channel's."""
    return isinstance(getattr(receive, "__self__", None), trio.MemoryReceiveChannel)
