"""The ways in which a client of the model gets its stream.

A response, of each kind of app, through `send` or by a bypass; or a subscription, which
is read as if it were one.
"""

from __future__ import annotations

import functools
import math
from typing import Final, Literal, cast, final
from urllib.parse import quote_from_bytes

import attrs
import quart
import trio
from quart_trio import QuartTrio

from trio_sse import Subscription, sse_app
from trio_sse._delivery.writer import Writer

from ..support.asgi import App, Message, with_plain_receive
from ..support.fake_bypass import FakeBypass, behind
from .life import END, Life, Memory, Page
from .streams import Stream

#: The ways in. With "direct" there is a way past `send`; it opens at once, late or too late, and
#: leads to a socket that takes each write whole, or parts of it, or soon, with those of others.
WAYS: Final = (
    ("sse_app",),
    ("quart",),
    ("sse_app", "direct", "at once"),
    ("quart", "direct", "at once"),
    ("sse_app", "direct", "at once", "in parts"),
    ("quart", "direct", "at once", "in parts"),
    ("sse_app", "direct", "at once", "soon"),
    ("quart", "direct", "at once", "soon"),
    ("sse_app", "direct", "late"),
    ("quart", "direct", "late"),
    ("sse_app", "direct", "too late"),
    ("quart", "direct", "too late"),
    ("sse_app", "plain receive"),
    ("subscribe",),
)


_TAKES: Final[dict[str, Literal["parts", "soon"]]] = {"in parts": "parts", "soon": "soon"}


@functools.cache
def quart_app() -> QuartTrio:
    """The app of all broadcasters: its route goes by the stream that is in the scope."""

    async def events() -> quart.Response:
        stream: Stream = cast("Message", quart.request.scope)["stream"]
        return await stream.broadcaster.stream(
            quart.request,
            topics=stream.page.topics,
            snapshot=stream.snapshot if stream.page.snapshot else None,
            key=stream,
            max_age=stream.max_age,
        )

    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=events)
    return app


@final
class HttpStream(Stream):
    """A response, and the server that carries it."""

    def __init__(
        self,
        life: Life,
        page: Page,
        memory: Memory,
        way: tuple[str, ...],
        max_age: float,
        header: bytes,
        query: bytes,
        nursery: trio.Nursery,
        writer: Writer,
    ) -> None:
        super().__init__(life, page, memory, way, max_age)
        self.refused = (header or query) == END.encode()
        self.status = 0
        if "direct" in way and "at once" not in way:
            self.decided_at = math.inf
        self._nursery = nursery
        self._fake = FakeBypass(writer, _TAKES.get(way[-1], "whole"))
        self._fake.chunks = _Noted(self)
        self._flowing = trio.Event()
        self._flowing.set()
        self._tell, self._messages = trio.open_memory_channel[Message](math.inf)
        self._tell.send_nowait({"type": "http.request", "body": b"", "more_body": False})
        nursery.start_soon(self._run, self._app(), self._scope(header, query))

    def stall(self) -> None:
        if not self.stalled:
            super().stall()
            self._flowing = trio.Event()
            self._fake.fill()

    def resume(self) -> None:
        super().resume()
        self._flowing.set()
        self._fake.room.set()

    def leave(self) -> None:
        super().leave()
        self._fake.broken = True
        self.resume()

    def notice(self) -> None:
        self._tell.send_nowait({"type": "http.disconnect"})

    def _check_end(self) -> None:
        super()._check_end()
        assert self.status == (204 if self.refused else 200)
        if self.joined is None and self.max_age == math.inf:
            assert self.refused or self.broadcaster.closed
            assert self.memory == self.claimed

    def _app(self) -> App:
        app = (
            quart_app()
            if "quart" in self.way
            else sse_app(
                self.broadcaster,
                topics=self.page.topics,
                snapshot=self.snapshot if self.page.snapshot else None,
                key=self,
                max_age=self.max_age,
            )
        )
        if "plain receive" in self.way:
            return with_plain_receive(app)
        if "direct" in self.way:
            return behind(self._fake, app, opens="at once" in self.way)
        return app

    def _scope(self, header: bytes, query: bytes) -> Message:
        headers = [(b"host", b"test"), (b"accept", b"text/event-stream")]
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/events",
            "raw_path": b"/events",
            "query_string": f"x=%ff&lastEventId={quote_from_bytes(query)}".encode(),
            "root_path": "",
            "stream": self,
            "headers": [*headers, *([(b"last-event-id", header)] if header else [])],
        }

    async def _run(self, app: App, scope: Message) -> None:
        await app(scope, self._messages.receive, self._send)
        self.done = True
        assert self.left or self.complete

    async def _open_late(self) -> None:
        await trio.sleep(0.5 if "late" in self.way else 3)
        self._fake.opened.set()

    async def _send(self, message: Message) -> None:
        counts = self.counts
        await trio.lowlevel.checkpoint()
        await self._flowing.wait()
        if self.left:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            assert not self.complete
            if self.decided_at == math.inf:
                self.decided_at = trio.current_time() + 1
                self._nursery.start_soon(self._open_late)
            self.arrive(message.get("body", b""), counts)
            self.complete = not message.get("more_body", False)


@final
class InnerStream(Stream):
    """A subscription, as a stream: its events are taken when the client looks."""

    def __init__(self, life: Life, page: Page, memory: Memory, sent: bytes) -> None:
        super().__init__(life, attrs.evolve(page, snapshot=False), memory, ("subscribe",), math.inf)
        self._subscription: Subscription = self.broadcaster.subscribe(
            last_event_id=sent.decode(errors="replace") or None, topics=page.topics, key=self
        )
        self.timed = True  # There is nothing to reconnect.
        self.joined = life.count
        if self.lost:
            self.lost = False
            self.memory = Memory("", life, life.count)

    def leave(self) -> None:
        super().leave()
        self._subscription.close()
        self.done = True

    def pull(self) -> None:
        try:
            while not self.stalled:
                self.arrive(self._subscription.receive_nowait().encode())
        except trio.WouldBlock:
            pass
        except (trio.EndOfChannel, trio.BrokenResourceError):
            self.complete = self.done = True

    def check_beaten(self) -> None:
        assert self.wire.find(b"heartbeat") < 0  # It has no time.

    def _take_reset(self) -> None:
        super()._take_reset()
        assert self.life.is_gap(self.claimed, self.joined or 0), "a false reset"
        self.lost = False
        self.memory = Memory(self.claimed.id, self.life, self.joined or 0)

    def _check_end(self) -> None:
        self.final = False  # There is nobody to keep from coming back.
        super()._check_end()


@final
class _Noted(list[bytes]):
    """The chunks that a bypass takes, put on the wire between what goes through `send`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def append(self, chunk: bytes) -> None:
        self._stream.arrive(chunk)
