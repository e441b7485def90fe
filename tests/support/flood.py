"""An application that sends more than its client reads."""

from __future__ import annotations

from typing import Final, final

import trio

from trio_sse import Broadcaster, sse_app

from .asgi import END, HEAD, Message, Receive, Send, chunk, until_disconnected

#: What `Flood` sends at once.
CHUNK: Final = 50_000


@final
class Flood:
    """An application that sends a body as fast as it may, unless its client is gone."""

    def __init__(self, size: int = 10_000_000, *, listens: bool = True) -> None:
        self.sent: list[int] = []  # Bytes, by the order of requests.
        self._size = size
        self._listens = listens

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await sse_app(Broadcaster())(scope, receive, send)
            return
        async with trio.open_nursery() as nursery:
            if self._listens:
                nursery.start_soon(self._listen, receive, nursery.cancel_scope)
            await self._flood(send, len(self.sent))
            nursery.cancel_scope.cancel()

    async def _listen(self, receive: Receive, scope: trio.CancelScope) -> None:
        await until_disconnected(receive)
        scope.cancel()

    async def _flood(self, send: Send, request: int) -> None:
        self.sent.append(0)
        await send(HEAD)
        while self.sent[request] < self._size:
            await send(chunk(b"x" * CHUNK))
            self.sent[request] += CHUNK
        await send(END)
