"""A bypass of ASGI's `send` that the test holds open."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Literal, cast, final

import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse._delivery.bypass import EXTENSION, Bypass
from trio_sse._delivery.socket_writer import SocketWriter
from trio_sse._delivery.writer import Writer
from trio_sse.testing import EventStream, open_event_stream

from .asgi import App, Message, Receive, Send


class _Opening:
    """What opens the bypass: the announced bytes come by."""

    def __init__(self, bypass: Bypass) -> None:
        self._bypass = bypass
        self.announced = b""

    def set(self) -> None:
        self._bypass.observe(self.announced)


@final
class FakeBypass:
    """A bypass whose socket is kept by the test: what goes through, and when it is full.

    It takes what it is given whole, as TLS does, or in parts, as a full socket does, or holds it
    for a turn of its own, as a connection with several streams does.
    """

    def __init__(self, writer: Writer, takes: Literal["whole", "parts", "soon"] = "whole") -> None:
        self._takes = takes
        self._held: list[bytes] = []
        self.writer = writer
        # A coding that changes nothing, so that what goes through is easy to read.
        self.bypass = Bypass(cast("SocketWriter", self), bytes, writer, self._abort)
        self.opened = _Opening(self.bypass)
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

    @property
    def sender(self) -> Callable[[bytes], int]:
        return {"whole": self.put, "parts": self._take_part, "soon": self._hold}[self._takes]

    def put(self, chunk: bytes) -> int:
        if self.broken:
            raise trio.BrokenResourceError
        self._held += [chunk] * bool(chunk)
        self.flush_nowait()
        return len(chunk)

    def _take_part(self, chunk: bytes) -> int:
        if self.broken:
            raise BrokenPipeError
        if self.room.is_set():
            return self.put(chunk)
        part = len(chunk) // 2 if len(chunk) % 2 else 0
        if not part:
            raise BlockingIOError
        self.chunks.append(chunk[:part])
        return part

    def _hold(self, chunk: bytes) -> int:
        if self.broken:
            raise trio.BrokenResourceError
        if not self._held:
            self.writer.add(self)
        self._held.append(chunk)
        return len(chunk)

    def deliver(self, room: int) -> int:
        """Take the turn of the connection."""
        try:
            self.flush_nowait()
        except trio.WouldBlock:
            if self.bypass.user is not None:
                self.bypass.user.look()
        return 1

    def fail(self, error: Exception) -> None:
        raise error

    def flush_nowait(self) -> None:
        if self._takes != "soon" or self.room.is_set():
            self._arrive()
        if not self.room.is_set():
            raise trio.WouldBlock

    def _arrive(self) -> None:
        for chunk in self._held:
            self.chunks.append(chunk)
        self._held.clear()

    async def flush(self) -> None:
        await self.room.wait()
        if self.broken:
            raise trio.BrokenResourceError
        self._arrive()

    def _abort(self) -> None:
        self.aborted = True


def behind(held: FakeBypass, app: App, *, opens: bool = True) -> App:
    """Offer the bypass to an app, and open it when the announced bytes come by."""

    async def with_bypass(scope: Message, receive: Receive, send: Send) -> None:
        async def watched_send(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body":
                held.opened.announced = held.opened.announced or message["body"]
                if opens:
                    held.bypass.observe(message["body"])

        await app({**scope, "extensions": {EXTENSION: held.bypass}}, receive, watched_send)

    return with_bypass


@asynccontextmanager
async def direct(app: App, *, opens: bool = True) -> AsyncGenerator[tuple[FakeBypass, EventStream]]:
    """Open a stream by a bypass, beside the server's writer."""
    writer = Writer()
    held = FakeBypass(writer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)  # noqa: ASYNC113 (all tasks are waited for below)
        stream = await open_event_stream(nursery, behind(held, app, opens=opens))
        await wait_all_tasks_blocked()
        yield held, stream
        stream.disconnect()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
