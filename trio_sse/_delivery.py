"""The portable way from a subscription to the socket: the client's own task awaits ASGI `send`.

It works on any ASGI server that runs on Trio. Two tasks serve a client. The writer, a child, is the
only one that sends. The watcher, the parent, waits in `receive` until the client leaves, and keeps
the heartbeat's time there: a timer in the writer would cost a cancel scope for each event.

It knows ASGI messages; it knows neither requests nor frameworks.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self, final

import attrs
import trio

from ._event import ServerSentEvent
from ._subscription import Client

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HEARTBEAT: Final = ServerSentEvent(data=None, comment="heartbeat")

#: Bytes: large enough that a burst costs few sends, small enough that a slow client's share is
#: bounded.
_MAX_CHUNK: Final = 64 * 1024

#: Seconds for the last words of a stream that is cancelled: a shutdown must not wait on a slow
#: client.
_LAST_WORDS_TIMEOUT: Final = 0.5


@final
class Chunks:
    """An asynchronous iterator over what a client has queued, joined into large writes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next events, encoded: as many as are queued and fit, but at least one."""
        if self._held:
            await trio.lowlevel.checkpoint()
            first, self._held = self._held, b""
        else:
            try:
                first = (await self._client.receive()).encode()
            except (trio.EndOfChannel, trio.BrokenResourceError):
                raise StopAsyncIteration from None
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


@final
@attrs.define(eq=False)
class Delivery:
    """One response: from its head to its last chunk, or to the client's leaving."""

    _client: Client
    _send: Send
    _heartbeat_interval: float
    _left: bool = attrs.field(default=False, init=False)
    _written_at: float = attrs.field(default=math.inf, init=False)
    """When the last write ended; `math.inf` while one is under way."""
    _events: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _last_words: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def run(self, head: Message, receive: Receive) -> None:
        """Send the head, then events, until the client leaves or its channel ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, head, nursery.cancel_scope)
            try:
                if _is_cancel_safe(receive):
                    await self._keep_time(partial(self._watch, receive))
                else:
                    nursery.start_soon(self._keep_time, trio.sleep_forever)
                    await self._watch(receive)
                nursery.cancel_scope.cancel("the client left")
            finally:
                self._stop()

    async def _watch(self, receive: Receive) -> None:
        """Take what the client sends, so that the server reads on and notices when it leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._left = True

    async def _keep_time(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait, interrupted again and again to see whether a heartbeat is due."""
        look_at = trio.current_time() + self._heartbeat_interval
        while True:
            with trio.move_on_at(look_at):
                await wait()
                return
            look_at = self._beat()

    def _beat(self) -> float:
        """Send a heartbeat if nothing was written for the interval; return when to look again."""
        now = trio.current_time()
        if self._written_at + self._heartbeat_interval <= now:
            self._client.send_if_idle(HEARTBEAT)
            return now + self._heartbeat_interval
        return min(self._written_at, now) + self._heartbeat_interval

    def _stop(self) -> None:
        """Tell the writer, which is shielded, to come to its end."""
        self._events.cancel("the stream was stopped")
        self._last_words.deadline = trio.current_time() + (0 if self._left else _LAST_WORDS_TIMEOUT)

    async def _write(self, head: Message, watcher: trio.CancelScope) -> None:
        # ASGI lets `send` raise OSError once the client is gone. Shielded, because a cancelled last
        # chunk may be one that the server counts as sent: `_stop` bounds it instead.
        with suppress(OSError), trio.CancelScope(shield=True):
            with self._events:
                await self._write_message(head)
                async for chunk in Chunks(self._client):
                    await self._write_message(_body(chunk, more_body=True))
            if self._written_at < math.inf and not self._left:
                with self._last_words:
                    await self._write_message(_body(b"", more_body=False))
        watcher.cancel("the stream has ended")

    async def _write_message(self, message: Message) -> None:
        self._written_at = math.inf
        await self._send(message)
        self._written_at = trio.current_time()


def _body(chunk: bytes, *, more_body: bool) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more_body}


def _is_cancel_safe(receive: Receive) -> bool:
    """Tell whether a cancelled `receive` loses nothing, as is sure if it is a Trio channel's."""
    return isinstance(getattr(receive, "__self__", None), trio.MemoryReceiveChannel)
