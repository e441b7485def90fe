"""Middleware that rewrites the body, under `serve`: no client reads a mix of its bytes and ours."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Final, final

import attrs
import h11
import pytest
import trio
from starlette.middleware.gzip import GZipMiddleware
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster

from ..support.apps import AppOf
from ..support.asgi import App, Message, Receive, Send, chunk
from ..support.hardened import Served, hardened
from ..support.waiting import until

#: What a middleware makes of the body of a message, told whether more is to come.
Rewrite = Callable[[bytes, bool], bytes]
Middleware = Callable[[App], App]
Decode = Callable[[bytes], bytes]

HEADERS: Final = [("host", "t"), ("accept", "text/event-stream"), ("accept-encoding", "gzip")]
BEFORE, DURING, AFTER = (
    b"event: tick\ndata: %b\n\n" % word for word in (b"before", b"during", b"after")
)
#: A body as the application writes it, with the empty line that shows whether it is rewritten.
WRITTEN: Final = b"\n" + BEFORE + DURING + AFTER


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(strict=False, heartbeat_interval=None, history_size=0)


# Middleware


def rewriting(app: App, make: Callable[[], Rewrite]) -> App:
    """Put an app behind a middleware that makes a function for each response."""

    async def rewritten(scope: Message, receive: Receive, send: Send) -> None:
        rewrite = make()

        async def rewrite_and_send(message: Message) -> None:
            if message["type"] == "http.response.body":
                body = rewrite(message.get("body", b""), message.get("more_body", False))
                message = {**message, "body": body}
            await send(message)

        await app(scope, receive, rewrite_and_send if scope["type"] == "http" else send)

    return rewritten


def deflating() -> Rewrite:
    compressor = zlib.compressobj()

    def deflate(body: bytes, more: bool) -> bytes:
        flush = zlib.Z_SYNC_FLUSH if more else zlib.Z_FINISH
        return compressor.compress(body) + compressor.flush(flush)

    return deflate


def prefix(body: bytes) -> bytes:
    return b"".join(b"> " + line for line in body.splitlines(keepends=True))


def holding_back() -> Rewrite:
    held = b""

    def hold_back(body: bytes, more: bool) -> bytes:
        nonlocal held
        released, held = (held, body) if more else (held + body, b"")
        return released

    return hold_back


def upper_casing() -> Rewrite:
    return lambda body, _: body.upper()


def upper_casing_later() -> Rewrite:
    started = False

    def upper_case_later(body: bytes, _: bool) -> bytes:
        nonlocal started
        body, started = (body.upper() if started else body), True
        return body

    return upper_case_later


def without_bypass(app: App) -> App:
    async def hidden(scope: Message, receive: Receive, send: Send) -> None:
        scope.get("extensions", {}).pop("trio_sse.direct", None)
        await app(scope, receive, send)

    return hidden


def gzip(app: App) -> App:
    return GZipMiddleware(app, minimum_size=1, exclude_content_types=())


def inflated() -> Decode:
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress  # zlib's header or gzip's.


#: Each with what a client does to read it, and what it reads then.
REWRITERS: Final[dict[str, tuple[Middleware, Callable[[], Decode], bytes]]] = {
    "deflate": (partial(rewriting, make=deflating), inflated, WRITTEN),
    "Starlette's gzip": (gzip, inflated, WRITTEN),
    "a prefix to each line": (
        partial(rewriting, make=lambda: lambda body, _: prefix(body)),
        lambda: bytes,
        prefix(WRITTEN),
    ),
    "one message held back": (partial(rewriting, make=holding_back), lambda: bytes, WRITTEN),
}

#: They leave an empty line as it is. Each with what a client reads if they are not passed by.
UNSEEN: Final = {
    "upper-casing": (upper_casing, [BEFORE.upper(), DURING.upper()]),
    "upper-casing what comes later": (upper_casing_later, [BEFORE, DURING.upper()]),
}


@final
@attrs.define
class Body:
    """The body of the response to one request, as the client decodes it."""

    stream: trio.SocketStream
    decode: Decode
    data: bytes = b""
    _h11: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.CLIENT))

    async def request(self) -> None:
        request = h11.Request(method="GET", target="/events", headers=HEADERS)
        data = (self._h11.send(request) or b"") + (self._h11.send(h11.EndOfMessage()) or b"")
        await self.stream.send_all(data)

    async def read(self, until: bytes | None = None) -> bytes:
        """Read to the clean end, or until it ends so."""
        while until is None or not self.data.endswith(until):
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(await self.stream.receive_some())
            elif isinstance(event, h11.Data):
                self.data += self.decode(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
        return self.data


async def open_body(served: Served, decode: Decode = bytes, *, tls: bool = False) -> Body:
    body = Body(await served.connect(tls=tls), decode)
    await body.request()
    return body


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("kind", REWRITERS)
async def test_a_body_that_is_rewritten_from_its_start_is_so_to_its_end(
    jumping_clock: MockClock, app_of: AppOf, broadcaster: Broadcaster, kind: str, tls: bool
) -> None:
    middleware, decoder, expected = REWRITERS[kind]
    async with hardened(middleware(app_of(broadcaster))) as served:
        body = await open_body(served, decoder(), tls=tls)
        await until(lambda: broadcaster.client_count == 1)
        await wait_all_tasks_blocked(0.01)  # Else the event would be the proof.
        broadcaster.broadcast("tick", "before")
        await wait_all_tasks_blocked(0.01)
        jumping_clock.jump(1)  # Nobody waits longer for the bypass.
        broadcaster.broadcast("tick", "during")
        await wait_all_tasks_blocked(0.01)
        assert broadcaster.statistics().clients_direct == 0
        broadcaster.broadcast("tick", "after")
        broadcaster.close()
        assert await body.read() == expected


async def serve_all_directly(
    broadcaster: Broadcaster, served: Served, *, tls: bool = False
) -> bytes:
    body = await open_body(served, tls=tls)
    await until(lambda: broadcaster.statistics().clients_direct == 1)
    broadcaster.broadcast("tick", "before")
    broadcaster.broadcast("tick", "during")
    assert (await body.read(DURING)).startswith(b"\n" + BEFORE)
    broadcaster.broadcast("tick", "after")
    broadcaster.close()
    return await body.read()


async def test_gzip_that_leaves_event_streams_alone_leaves_them_the_direct_way(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with hardened(GZipMiddleware(app_of(broadcaster), minimum_size=1)) as served:
        assert await serve_all_directly(broadcaster, served) == WRITTEN


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("kind", UNSEEN)
async def test_a_middleware_that_leaves_an_empty_line_as_it_is_is_passed_by_altogether(
    app_of: AppOf, broadcaster: Broadcaster, kind: str, tls: bool
) -> None:
    """The proof is an empty line: who rewrites only other bytes, or later ones, is not noticed.

    The client reads what the application wrote, all of it.
    """
    async with hardened(rewriting(app_of(broadcaster), UNSEEN[kind][0])) as served:
        assert await serve_all_directly(broadcaster, served, tls=tls) == WRITTEN


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("kind", UNSEEN)
async def test_a_middleware_that_takes_the_bypass_away_rewrites_all(
    app_of: AppOf, broadcaster: Broadcaster, kind: str, tls: bool
) -> None:
    make, expected = UNSEEN[kind]
    async with hardened(rewriting(without_bypass(app_of(broadcaster)), make)) as served:
        body = await open_body(served, tls=tls)
        await until(lambda: broadcaster.client_count == 1)
        await wait_all_tasks_blocked(0.01)
        for word, event in zip(("before", "during"), expected, strict=True):
            broadcaster.broadcast("tick", word)
            await body.read(event)
        assert broadcaster.statistics().clients_direct == 0
        broadcaster.close()
        assert await body.read() == b"".join(expected)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_a_middleware_that_writes_amid_the_direct_bytes_cuts_the_stream(
    app_of: AppOf, broadcaster: Broadcaster, tls: bool
) -> None:
    sends: list[Send] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        sends.append(send)
        await inner(scope, receive, send)

    inner = app_of(broadcaster)
    async with hardened(app) as served:
        body = await open_body(served, tls=tls)
        await until(lambda: broadcaster.statistics().clients_direct == 1)
        broadcaster.broadcast("tick", "before")
        await body.read(BEFORE)
        await sends[-1](chunk(b": mine\n\n"))
        broadcaster.broadcast("tick", "during")
        with pytest.raises((h11.RemoteProtocolError, trio.BrokenResourceError)):
            await body.read()
        assert body.data == b"\n" + BEFORE + b": mine\n\n"
        await until(lambda: broadcaster.statistics().streams == 0)


async def test_the_id_that_a_stream_begins_with_shows_a_middleware_that_upper_cases(
    jumping_clock: MockClock, app_of: AppOf
) -> None:
    broadcaster = Broadcaster(strict=False, heartbeat_interval=None)
    async with hardened(rewriting(app_of(broadcaster), UNSEEN["upper-casing"][0])) as served:
        body = await open_body(served)
        await until(lambda: broadcaster.client_count == 1)
        await wait_all_tasks_blocked(0.01)
        jumping_clock.jump(1)
        broadcaster.broadcast("tick", "x")
        await body.read(b"DATA: X\n\n")
        assert broadcaster.statistics().clients_direct == 0
