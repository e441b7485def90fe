"""An in-memory client of any ASGI application, for tests of endless streams.

No socket and no server: the application runs as a task of your nursery, and under pytest-trio's
``autojump_clock`` fifteen seconds of silence take no time at all. It knows ASGI and, through the
decoder, the event stream format; of the sender's side it knows nothing but the names of the
library's own events.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, final
from urllib.parse import unquote

import trio

from ._core.decoder import EventStreamDecoder
from ._core.decoder import ReceivedEvent as ReceivedEvent
from ._core.event import END_EVENT, POSITION_EVENT

Message = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]

# Tracebacks and help() name the public place.
ReceivedEvent.__module__ = __name__

#: Turns of the scheduler for the application to come to rest after the head.
_STEPS: Final = 50


async def open_event_stream(
    nursery: trio.Nursery,
    app: App,
    path: str = "/events",
    *,
    headers: Iterable[tuple[str, str]] = (),
) -> EventStream:
    """Request an event stream from an ASGI application; return when it has begun and comes to rest.

    From then on the client gets what is broadcast.

    Args:
        nursery: Where the application runs; what it raises later ends up there.
        app: The application: an `sse_app`, a Quart-Trio app, a Starlette app.
        path: The request's path, with a query string if you like.
        headers: Request headers as (name, value) pairs, besides ``host`` and ``accept``.

    Raises:
        trio.BrokenResourceError: If the application returned without a response.

    Example::

        async def test_price(nursery, autojump_clock):
            stream = await open_event_stream(nursery, sse_app(broadcaster))
            broadcaster.broadcast("price", "42")
            event = await stream.receive()
            assert (event.event, event.data) == ("price", "42")
            stream.disconnect()
    """
    exchange = _Exchange()
    await nursery.start(exchange.run, app, _http_scope(path, headers))
    # Behind the head comes what the stream begins with.
    for _ in range(_STEPS):
        await trio.lowlevel.checkpoint()
    return EventStream(exchange)


@final
class EventStream(trio.abc.ReceiveChannel[ReceivedEvent]):
    """The client's side of one response; made by `open_event_stream`.

    Iterate over it for the events, each a `ReceivedEvent`: ``.event``, ``.data``, ``.id`` (the last
    event ID as of then), ``.retry``, ``.json()``. As in a browser, a block without data is no
    event. The library's own ``stream-position`` and ``stream-end`` are left out: all they tell is
    `last_event_id`.
    """

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    @property
    def status(self) -> int:
        """The response's status code."""
        return self._exchange.status

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers, their names in lower case."""
        return self._exchange.headers

    @property
    def raw_bytes(self) -> bytes:
        """All of the body that has arrived."""
        return bytes(self._exchange.body)

    @property
    def comments(self) -> list[str]:
        """The comments that have arrived, without the colon and the one space behind it."""
        return list(self._exchange.decoder.comments)

    @property
    def last_event_id(self) -> str:
        """The last event ID of all that has arrived; a browser comes back with it."""
        return self._exchange.decoder.last_event_id

    @property
    def complete(self) -> bool:
        """Whether the response has come to its clean end (its last chunk)."""
        return self._exchange.complete

    async def receive(self) -> ReceivedEvent:
        """Return the next event.

        Raises:
            trio.EndOfChannel: If the response has ended cleanly, or you have disconnected.
            trio.BrokenResourceError: If the response was cut off before its last chunk.
        """
        try:
            return await self._exchange.events.receive()
        except trio.EndOfChannel:
            if self._exchange.complete or self._exchange.disconnected:
                raise
            raise trio.BrokenResourceError("the response was cut off before its end") from None

    def stall(self) -> None:
        """Stop reading: the application's next `send` waits until `resume` or `disconnect`."""
        if self._exchange.flowing.is_set() and not self._exchange.disconnected:
            self._exchange.flowing = trio.Event()

    def resume(self) -> None:
        """Read on."""
        self._exchange.flowing.set()

    def disconnect(self) -> None:
        """Leave: the application is told, and what it still sends goes nowhere."""
        self._exchange.disconnect()

    async def aclose(self) -> None:
        """Disconnect, then checkpoint."""
        self.disconnect()
        await trio.lowlevel.checkpoint()


class _Exchange:
    """One request and its response: the server's side, which runs the application."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False
        self.disconnected = False
        self.flowing = trio.Event()
        self.flowing.set()
        self.decoder = EventStreamDecoder()
        self._send_event, self.events = trio.open_memory_channel[ReceivedEvent](math.inf)
        self._send_message, self._messages = trio.open_memory_channel[Message](math.inf)
        self._send_message.send_nowait({"type": "http.request", "body": b"", "more_body": False})

    async def run(self, app: App, scope: Message, *, task_status: trio.TaskStatus[None]) -> None:
        async def send(message: Message) -> None:
            await self._take(message)
            if message["type"] == "http.response.start":
                task_status.started()

        with self._send_event:
            await app(scope, self._messages.receive, send)
        if not self.status:
            raise trio.BrokenResourceError("the application returned without a response")

    def disconnect(self) -> None:
        if not self.disconnected:
            self.disconnected = True
            self._send_message.send_nowait({"type": "http.disconnect"})
            self._send_event.close()
            self.flowing.set()

    async def _take(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        await self.flowing.wait()
        if self.disconnected:
            return  # As hypercorn does: what is sent to a client that left goes nowhere.
        if message["type"] == "http.response.start":
            self.status = message["status"]
            fields = message.get("headers", [])
            self.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in fields
            }
        else:
            self._take_body(message.get("body", b""), last=not message.get("more_body", False))

    def _take_body(self, body: bytes, *, last: bool) -> None:
        self.body += body
        for event in self.decoder.feed(body):
            if event.event not in (POSITION_EVENT, END_EVENT):
                self._send_event.send_nowait(event)
        if last:
            self.complete = True
            self._send_event.close()


def _http_scope(path: str, headers: Iterable[tuple[str, str]]) -> Message:
    raw_path, _, query = path.partition("?")
    given = [(name.lower(), value) for name, value in headers]
    usual = {"host": "testserver", "accept": "text/event-stream"}
    replaced = dict(given).keys()
    fields = [*((name, usual[name]) for name in usual if name not in replaced), *given]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "state": {},
        "extensions": {},
    }
