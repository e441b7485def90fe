"""A door past ASGI's `send` that the test holds open."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import final

import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse._delivery.direct import EXTENSION
from trio_sse._delivery.writer import Writer
from trio_sse.testing import EventStream, open_event_stream

from .asgi import App, Message, Receive, Send


@final
class FakeDoor:
    """A server's door: what goes through is kept, and the test says when the socket is full."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.opened = trio.Event()
        self.expected: bytes | None = None
        self.chunks: list[bytes] = []
        self.room = trio.Event()
        self.room.set()
        self.broken = False
        self.aborted = False

    @property
    def received(self) -> bytes:
        return b"".join(self.chunks)

    def fill(self) -> None:
        """Let the socket be full from now on."""
        self.room = trio.Event()

    def expect(self, first: bytes) -> trio.Event:
        self.expected = first
        return self.opened

    def send_nowait(self, chunk: bytes) -> None:
        if self.broken:
            raise trio.BrokenResourceError
        assert self.opened.is_set()
        self.chunks.append(chunk)
        self.flush_nowait()

    def flush_nowait(self) -> None:
        if not self.room.is_set():
            raise trio.WouldBlock

    async def flush(self) -> None:
        await self.room.wait()
        if self.broken:
            raise trio.BrokenResourceError

    def abort(self) -> None:
        self.aborted = True


def behind(door: FakeDoor, app: App, *, opens: bool = True) -> App:
    """Offer the door to an app, and open it when the announced bytes come by."""

    async def with_door(scope: Message, receive: Receive, send: Send) -> None:
        async def watched_send(message: Message) -> None:
            await send(message)
            if opens and message.get("body") == door.expected != b"":
                door.opened.set()

        await app({**scope, "extensions": {EXTENSION: door}}, receive, watched_send)

    return with_door


@asynccontextmanager
async def direct(app: App, *, opens: bool = True) -> AsyncGenerator[tuple[FakeDoor, EventStream]]:
    """Open a stream through a door, beside the server's writer."""
    writer = Writer()
    door = FakeDoor(writer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)  # noqa: ASYNC113 (all tasks are waited for below)
        stream = await open_event_stream(nursery, behind(door, app, opens=opens))
        await wait_all_tasks_blocked()
        yield door, stream
        stream.disconnect()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
