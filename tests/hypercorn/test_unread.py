"""What an application does not read, or cannot have meant, holds up nobody and leaves nothing."""

from __future__ import annotations

import math
import tracemalloc
from typing import Final

import pytest
import trio
from h2.errors import ErrorCodes
from hypercorn.events import Closed, RawData
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn._http2 import HTTP2

from ..support.asgi import END, HEAD, App, Message, Receive, Send, chunk, with_lifespan
from ..support.clients import Http2Client, Response
from ..support.hardened import Served, hardened
from ..support.hostile import http2_request
from ..support.remains import living
from ..support.tcp import read_until
from ..support.waiting import until

#: More pieces of a body than hypercorn has room for before an application reads.
PIECES: Final = 14

#: A POST whose body is in as many chunks.
UPLOAD: Final = (
    b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * PIECES
)


async def refuse(scope: Message, receive: Receive, send: Send) -> None:
    """Answer once all has come, and read nothing."""
    await trio.testing.wait_all_tasks_blocked(0.02)
    await send({**HEAD, "status": 403, "headers": [(b"content-length", b"2")]})
    await send(chunk(b"no", last=True))


async def reset_code(client: Http2Client, response: Response) -> int:
    while response.reset is None:
        assert not response.complete
        await client.read_for(response)
    return response.reset


async def http2(served: Served) -> Http2Client:
    client = await served.http2()
    assert isinstance(client, Http2Client)
    return client


async def test_a_body_that_nobody_reads_does_not_hold_up_the_answer_to_it() -> None:
    async with hardened(with_lifespan(refuse)) as served:
        await wait_all_tasks_blocked(0.01)
        before = living()
        stream = await served.connect()
        await stream.send_all(UPLOAD)
        await read_until(stream, b"\r\n\r\nno")
        await stream.aclose()
        await until(lambda: living() <= before)
    assert served.returned.is_set()


async def test_a_body_of_a_stream_that_was_refused_is_dropped() -> None:
    """Though both have come at once; those that go on do."""
    go_on = trio.Event()

    async def slow(scope: Message, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await send(HEAD)
        await send(END)

    async with hardened(with_lifespan(slow), keep_alive_max_requests=1) as served:
        client = await http2(served)
        others = [await client.ask("GET", "/") for _ in range(2)]
        await wait_all_tasks_blocked(0.01)
        late = await client.ask("POST", "/", has_body=True, body=b"x" * 100)
        assert await reset_code(client, late) == ErrorCodes.REFUSED_STREAM
        go_on.set()
        for other in others:
            assert await other.rest() == []
            assert other.status == 200


async def test_who_uploads_bit_by_bit_and_leaves_holds_up_nobody() -> None:
    """Though the application reads none of it, and ends much later."""
    go_on = trio.Event()

    async def late(scope: Message, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await send(HEAD)
        await send(END)

    async with hardened(with_lifespan(late)) as served:
        await wait_all_tasks_blocked(0.01)
        before = living()
        client = await http2(served)
        upload = await client.ask("POST", "/", has_body=True)
        for _ in range(PIECES):
            await client.upload(upload, b"x")
            await wait_all_tasks_blocked(0.01)
        await client.stream.aclose()
        await wait_all_tasks_blocked(0.01)
        go_on.set()
        await until(lambda: living() <= before)


async def test_a_stream_that_is_left_as_its_window_opens_harms_no_other() -> None:
    """Both come at once, with a request between them."""

    async def download(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"x" * 100_000, last=True))

    async with hardened(with_lifespan(download)) as served:
        client = await http2(served)
        left = await client.ask("GET", "/")
        left.paused = True
        while len(left.body) < 65_535:
            await client.read_for(left)
        other = await client.exchange(left)
        while not other.complete:
            await client.read_for(other)
        assert len(other.body) == 100_000


async def test_frames_that_say_nothing_take_no_room() -> None:
    """Nor do those of one byte take more than theirs."""

    async def read_nothing(scope: Message, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with hardened(with_lifespan(read_nothing)) as served:
        client = await http2(served)
        upload = await client.ask("POST", "/", has_body=True)
        await wait_all_tasks_blocked(0.01)
        frames = (b"\x00\x00\x00\x00\x00" + upload.stream_id.to_bytes(4, "big")) * 20_000
        frames += (b"\x00\x00\x01\x00\x00" + upload.stream_id.to_bytes(4, "big") + b"x") * 10_000
        tracemalloc.start()
        try:
            await client.stream.send_all(frames)
            await wait_all_tasks_blocked(0.1)
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert now < 1_000_000


async def test_a_shutdown_waits_for_no_client_that_does_not_read() -> None:
    """Not for its last bytes either, of which it takes none, whatever the write timeout is."""

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"x" * 1000, last=True))

    async with hardened(with_lifespan(answer), write_timeout=math.inf) as served:
        stream = await served.connect()
        await stream.send_all(http2_request(window=0))
        await wait_all_tasks_blocked(0.05)
        served.shutdown.set()
        await served.returned.wait()


async def test_a_crash_of_who_reads_lets_go_whoever_waits_to_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the write timeout is: nobody would hear of the client that it wants more."""
    handle = HTTP2.handle

    async def handle_or_crash(self: HTTP2, event: RawData | Closed) -> None:
        if isinstance(event, RawData) and b"poison" in event.data:
            raise ZeroDivisionError("injected")
        await handle(self, event)

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"x" * 1000, last=True))

    monkeypatch.setattr(HTTP2, "handle", handle_or_crash)
    async with hardened(with_lifespan(answer), write_timeout=math.inf) as served:
        await wait_all_tasks_blocked(0.01)
        before = living()
        stream = await served.connect()
        await stream.send_all(http2_request(window=0))
        await wait_all_tasks_blocked(0.05)
        await stream.send_all(b"poison")
        await until(lambda: len(served.log.lines) == 1)
        await stream.aclose()
        await until(lambda: living() <= before)
        (line,) = served.log.take()
        assert "injected" in line


async def test_an_answer_of_the_server_itself_ends_its_stream() -> None:
    """As that to a request for another host: the connection is idle after it, and can end."""
    app = with_lifespan(refuse)
    async with hardened(app, server_names=["elsewhere"], keep_alive_max_requests=1) as served:
        client = await http2(served)
        for _ in range(2):
            response = await client.request()
            assert response.status == 404
        while await client.stream.receive_some():
            pass
        stream = await served.connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        await read_until(stream, b"404")
        while await stream.receive_some():
            pass


async def amid_its_head(scope: Message, receive: Receive, send: Send) -> None:
    with trio.CancelScope() as cancelled:
        cancelled.cancel()
        await send(HEAD)


def with_header(name: bytes, value: bytes) -> App:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({**HEAD, "headers": [(b"x-one", b"1"), (name, value)]})
        await send(END)

    return app


async def bad_trailers(scope: Message, receive: Receive, send: Send) -> None:
    await send({**HEAD, "trailers": True})
    await send(chunk(b"body", last=True))
    await send({"type": "http.response.trailers", "headers": [(b"te", b"gzip")]})


@pytest.mark.parametrize(
    ("app", "told"),
    [
        (amid_its_head, ""),
        (with_header(b"te", b"gzip"), "TE"),
        (with_header(b"x-two", b"a\r\nb: c"), "x-two"),
        (bad_trailers, "TE"),
    ],
    ids=["cancelled amid its head", "a header", "a line break", "trailers"],
)
async def test_a_head_that_cannot_be_sent_ends_its_stream_and_the_next_are_understood(
    app: App, told: str
) -> None:
    """The table of headers that both sides keep is the connection's."""
    broadcaster = Broadcaster(strict=False)
    stream_app = sse_app(broadcaster)

    async def site(scope: Message, receive: Receive, send: Send) -> None:
        await (stream_app if scope.get("path") != "/bad" else app)(scope, receive, send)

    async with hardened(site) as served:
        client = await http2(served)
        bad = await client.ask("GET", "/bad", headers={"te": "trailers"})
        assert await reset_code(client, bad) == ErrorCodes.INTERNAL_ERROR
        log = served.log.take()
        assert len(log) == bool(told)
        assert told in "".join(log)
        for _ in range(2):
            stream = await client.request()
            assert stream.headers["content-type"] == "text/event-stream"
