"""The ways in which a stream with topics, a snapshot and other options reaches its client.

Through `sse_app` or `Broadcaster.stream`, and portable or direct: all must behave alike. A client
is read byte for byte, whichever way its bytes take, and can be asked what it saw up to any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import attrs
import trio
from quart import Response, request
from quart_trio import QuartTrio

from trio_sse import Broadcaster, sse_app
from trio_sse._core.decoder import EventStreamDecoder
from trio_sse._delivery.writer import Writer
from trio_sse.testing import EventStream, open_event_stream

from .asgi import App
from .fake_door import FakeDoor, behind


def quart_app(broadcaster: Broadcaster, **options: object) -> App:
    app = QuartTrio(__name__)

    @app.get("/events")
    async def _() -> Response:
        return await broadcaster.stream(request, **options)  # type: ignore[arg-type]

    return app


@attrs.frozen
class Seen:
    """What a browser has made of some bytes."""

    #: Type and data of each event.
    events: list[tuple[str, str]]
    #: The last event ID, which it sends when it reconnects.
    id: str

    @property
    def data(self) -> list[str]:
        return [data for _, data in self.events]


def see(wire: bytes, last_id: str = "") -> Seen:
    """Read a stream, or the beginning of one, as far as its blocks are whole."""
    decoder = EventStreamDecoder()
    decoder.last_event_id = last_id
    events = [(event.event, event.data) for event in decoder.feed(wire)]
    return Seen(events, decoder.last_event_id)


@final
@attrs.frozen
class Connection:
    """One response, as its client gets it."""

    stream: EventStream
    door: FakeDoor | None

    @property
    def wire(self) -> bytes:
        """All that has arrived, without the empty line that only tries the direct way."""
        received = self.door.received if self.door is not None else b""
        return (self.stream.raw_bytes + received).removeprefix(b"\n")

    @property
    def seen(self) -> Seen:
        return see(self.wire)

    def disconnect(self) -> None:
        self.stream.disconnect()


@final
class Way:
    """One way to the clients of one test."""

    def __init__(self, app: Callable[..., App], *, direct: bool = False) -> None:
        self._app = app
        self._writer = Writer() if direct else None
        self._writing = False

    def app(self, broadcaster: Broadcaster, **options: object) -> App:
        return self._app(broadcaster, **options)

    async def open(self, nursery: trio.Nursery, app: App, last_event_id: str = "") -> Connection:
        """Request the stream, with the id if there is one; return when it has begun."""
        headers = [("last-event-id", last_event_id)] if last_event_id else []
        if self._writer is None:
            return Connection(await open_event_stream(nursery, app, headers=headers), None)
        if not self._writing:
            self._writing = True
            nursery.start_soon(self._writer.run)
        door = FakeDoor(self._writer)
        return Connection(
            await open_event_stream(nursery, behind(door, app), headers=headers), door
        )


#: The ways by name, each made anew for each test.
WAYS: Final[dict[str, Callable[[], Way]]] = {
    "sse_app": lambda: Way(sse_app),
    "stream": lambda: Way(quart_app),
    "sse_app, direct": lambda: Way(sse_app, direct=True),
    "stream, direct": lambda: Way(quart_app, direct=True),
}
