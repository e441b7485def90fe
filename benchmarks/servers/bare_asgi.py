"""The least that an ASGI application on stock hypercorn can do and lose no event.

    python -m benchmarks.servers.bare_asgi PORT

One memory channel and one `send` for each client and event; a task that waits for the client's
leaving; no heartbeat, no joining of what is queued, nothing of a broadcaster.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import trio

from trio_sse import ServerSentEvent

from ..load.payload import Payloads
from .stock import loopback, serve
from .trio_control import obey

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_HEAD: Final[_Message] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
    ],
}


class _Site:
    """The application, and who listens to it."""

    def __init__(self) -> None:
        self._clients: set[trio.MemorySendChannel[bytes]] = set()
        self._payloads = Payloads()

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _answer_lifespan(receive, send)
        else:
            await self._stream(receive, send)

    def publish(self, count: int, size: int) -> None:
        for _ in range(count):
            event = ServerSentEvent(data=self._payloads.next(size)).encode()
            for client in self._clients:
                client.send_nowait(event)

    async def _stream(self, receive: _Receive, send: _Send) -> None:
        client, events = trio.open_memory_channel[bytes](4096)
        self._clients.add(client)
        try:
            await send(_HEAD)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_write, events, send)
                while (await receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel("the client left")
        finally:
            self._clients.discard(client)


async def _write(events: trio.MemoryReceiveChannel[bytes], send: _Send) -> None:
    async for event in events:
        await send({"type": "http.response.body", "body": event, "more_body": True})


async def _answer_lifespan(receive: _Receive, send: _Send) -> None:
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


async def _run(port: int) -> None:
    site = _Site()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, site, loopback(port))
        await obey({"publish": site.publish})
        nursery.cancel_scope.cancel("standard input has ended")


if __name__ == "__main__":
    trio.run(_run, int(sys.argv[1]))
