"""One response on ASGI: from its head to its last chunk, or to the client's leaving.

Two tasks serve a client. The writer, a child, is the only one that sends: through ASGI's `send`,
which works on any server that runs on Trio, or, where a server offers a `Bypass` and it opens, past
it (`direct`). The watcher, the parent, waits in `receive` until the client leaves, and keeps the
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

from .active_streams import ActiveStream
from .bypass import Bypass
from .chunks import Chunks
from .direct import DirectStream, announce
from .heartbeat import HeartbeatTimer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Seconds for the epilogue of a stream that is cancelled: a shutdown must not wait on a slow
#: client.
_EPILOGUE_TIMEOUT: Final = 0.5


@final
class Delivery:
    """The two tasks of one response."""

    __slots__ = (
        "_bypass",
        "_client_gone",
        "_deadline",
        "_direct",
        "_ended",
        "_epilogue",
        "_events",
        "_nursery",
        "_send",
        "_stream",
        "_timer",
        "_whole",
    )

    def __init__(
        self,
        stream: ActiveStream,
        send: Send,
        bypass: Bypass | None,
        timer: HeartbeatTimer,
        *,
        whole: bool = False,
    ) -> None:
        self._stream = stream
        self._send = send
        self._bypass = bypass
        #: Whether a clean end says that all is there: then there is none when it is cancelled.
        self._whole = whole
        self._direct: DirectStream | None = None
        self._timer = timer
        self._nursery: trio.Nursery
        #: Nothing more may be sent: the client has left, or something has failed.
        self._client_gone = False
        self._ended = False
        # Shielded, because a cancelled last chunk may be one that the server counts as sent:
        # `_stop` cancels the one, and bounds the other. There only while they are needed.
        self._events: trio.CancelScope | None = None
        self._epilogue: trio.CancelScope | None = None
        self._deadline = math.inf

    async def run(self, start: Message, receive: Receive) -> None:
        """Send the start, then events, until the client leaves or its channel ends."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._events = events = trio.CancelScope(shield=True)
            self._stream.end_by(nursery.cancel_scope)
            nursery.start_soon(self._write, start, events)
            del start, events  # They need not be there for as long as the stream.
            try:
                if _is_cancel_safe(receive):
                    await self._keep_time(partial(self._watch, receive))
                else:
                    nursery.start_soon(self._keep_time, trio.sleep_forever)
                    await self._watch(receive)
                nursery.cancel_scope.cancel("the client left")
            except trio.Cancelled:
                self._client_gone = self._client_gone or self._whole
                raise
            except Exception:
                self._client_gone = True
                raise
            finally:
                self._stop()

    async def _watch(self, receive: Receive) -> None:
        """Take what the client sends, so that the server reads on and notices when it leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._client_gone = True

    def _keep_time(self, wait: Callable[[], Awaitable[None]]) -> Awaitable[None]:
        return self._timer.watch(wait, self._beat, self._stream.client.end)

    def _beat(self) -> float:
        if self._direct is not None:
            return self._direct.beat()
        self._stream.client.beat_if_idle()
        return trio.current_time()

    def _stop(self) -> None:
        """Tell the writer, which is shielded, to come to its end."""
        if self._events is not None:
            self._events.cancel("the stream was stopped")
        self._deadline = trio.current_time() + _EPILOGUE_TIMEOUT
        if self._epilogue is not None:
            self._epilogue.deadline = self._deadline
        if self._direct is not None:
            self._direct.detach()
            self._nursery.start_soon(self._end)  # Its writer is the server's, and knows no end.

    async def _write(self, start: Message, events: trio.CancelScope) -> None:
        # ASGI lets `send` raise OSError once the client is gone.
        with suppress(OSError), events:
            await self._write_message(start)
            del start
            chunks = Chunks(self._stream)
            if self._bypass is not None and await self._is_direct(self._bypass, chunks):
                # Once stopped, it would not be detached.
                await trio.lowlevel.checkpoint_if_cancelled()
                self._go_direct(self._bypass, chunks)
                return
            async for chunk in chunks:
                await self._write_message(_body(chunk, more_body=True))
        await self._end()

    async def _is_direct(self, bypass: Bypass, chunks: Chunks) -> bool:
        await self._write_message(_body(announce(bypass, chunks), more_body=True))
        return await bypass.wait_open()

    def _go_direct(self, bypass: Bypass, chunks: Chunks) -> None:
        client = self._stream.client
        self._direct = DirectStream(client, chunks, bypass, self._timer, self._attend_soon)
        self._events = None

    def _attend_soon(self, direct: DirectStream) -> None:
        self._nursery.start_soon(self._attend, direct)

    async def _attend(self, direct: DirectStream) -> None:
        """Do what the server's writer leaves to us: wait for the socket, and end."""
        try:
            if await direct.attend():
                return
        finally:
            self._client_gone = self._client_gone or direct.is_cut
        direct.detach()
        await self._end()

    async def _end(self) -> None:
        """Say the epilogue if we are between two events, and let the watcher go."""
        if self._timer.written_at < math.inf and not self._client_gone and not self._ended:
            self._ended = True
            self._epilogue = scope = trio.CancelScope(shield=True, deadline=self._deadline)
            with suppress(OSError), scope:
                await self._write_message(_body(self._stream.epilogue, more_body=False))
            # Hypercorn says that the client has left while it is still busy with a last chunk.
            if scope.cancelled_caught and not self._client_gone:
                self._abort()
        self._nursery.cancel_scope.cancel("the stream has ended")

    def _abort(self) -> None:
        if self._bypass is not None:
            self._bypass.abort()

    async def _write_message(self, message: Message) -> None:
        if self._client_gone:
            return
        self._timer.written_at = math.inf
        await self._send(message)
        self._timer.written_at = trio.current_time()


def _body(chunk: bytes, *, more_body: bool) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more_body}


def _is_cancel_safe(receive: Receive) -> bool:
    """Tell whether a cancelled `receive` loses nothing, as is sure if it is a Trio channel's."""
    return isinstance(getattr(receive, "__self__", None), trio.MemoryReceiveChannel)
