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
from .events import is_users
from .fake_bypass import FakeBypass, behind


def stream_app(broadcaster: Broadcaster, **options: object) -> App:
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
    """Read a stream, or the beginning of one, as far as its blocks are whole.

    Some clients drop an id without data: it must make no difference.
    """
    decoder, dropping = EventStreamDecoder(), EventStreamDecoder(keeps_bare_ids=False)
    decoder.last_event_id = dropping.last_event_id = last_id
    events = [(event.event, event.data) for event in decoder.feed(wire) if is_users(event)]
    dropping.feed(wire)
    assert decoder.last_event_id == dropping.last_event_id
    return Seen(events, decoder.last_event_id)


@final
@attrs.frozen
class Connection:
    """One response, as its client gets it."""

    stream: EventStream
    bypass: FakeBypass | None

    @property
    def wire(self) -> bytes:
        """All that has arrived, without the empty line that only tries the direct way."""
        received = self.bypass.received if self.bypass is not None else b""
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
        bypass = FakeBypass(self._writer)
        return Connection(
            await open_event_stream(nursery, behind(bypass, app), headers=headers), bypass
        )


#: The ways by name, each made anew for each test.
WAYS: Final[dict[str, Callable[[], Way]]] = {
    "sse_app": lambda: Way(sse_app),
    "stream": lambda: Way(stream_app),
    "sse_app, direct": lambda: Way(sse_app, direct=True),
    "stream, direct": lambda: Way(stream_app, direct=True),
}
