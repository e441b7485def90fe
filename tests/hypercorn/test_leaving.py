"""Whatever a client of `trio_sse.hypercorn.serve` was about when it left, nothing of it stays.

Each of these leaves a task behind in hypercorn, some of them for ever and past any cancellation.
"""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app

from ..support.apps import AppOf
from ..support.asgi import END, HEAD, Message, Receive, Send, chunk, with_lifespan
from ..support.hardened import SMALL, hardened
from ..support.hostile import REQUEST, UPGRADE, http2_request
from ..support.remains import remains
from ..support.waiting import until

#: What a client sends before it leaves.
REQUESTS: Final = {
    "a stream": REQUEST,
    "a stream and a request behind it": REQUEST * 2,
    "a request and a stream behind it": REQUEST.replace(b"GET", b"HEAD") + REQUEST,
    "an upgrade to HTTP/2": UPGRADE % b"HEAD",
    "an upgrade to HTTP/2 that no application sees": UPGRADE % b"CONNECT",
    "an upgrade to HTTP/2 and garbage": UPGRADE % b"HEAD" + REQUEST,
    "a long body that nobody reads": REQUEST.replace(b"GET", b"POST").replace(
        b"\r\n\r\n", b"\r\ncontent-length: 1000000\r\n\r\n"
    )
    + b"x" * 200_000,
    "HTTP/2 with a shut window": http2_request(window=0),
    "HTTP/2 and garbage": http2_request(window=0) + REQUEST,
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_a_client_that_leaves_leaves_no_task_no_descriptor_and_no_client(
    app_of: AppOf, request_: bytes
) -> None:
    broadcaster = Broadcaster(strict=False, heartbeat_interval=0.1)
    async with hardened(app_of(broadcaster), keep_alive_timeout=3600, write_timeout=0.5) as served:
        await wait_all_tasks_blocked(0.01)
        before = remains(broadcaster)
        streams = [await served.connect() for _ in range(3)]
        for stream in streams:
            await stream.send_all(request_)
        await wait_all_tasks_blocked(0.01)
        broadcaster.broadcast("tick", "x")
        for stream in streams:
            await stream.aclose()
        await until(lambda: remains(broadcaster) == before)
        served.log.take()


async def test_a_shutdown_does_not_wait_for_a_last_chunk_behind_a_shut_window(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with hardened(app_of(broadcaster), write_timeout=0.2) as served:
        stream = await served.connect("h2")
        await stream.send_all(http2_request(window=0))
        await until(lambda: broadcaster.client_count == 1)
        broadcaster.broadcast("tick", "x")
        broadcaster.close()
        await until(lambda: broadcaster.statistics().streams == 0)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("body", [b"", b"x" * 200_000], ids=["no body", "a long body"])
async def test_an_app_whose_http2_client_has_left_can_end(body: bytes, tls: bool) -> None:
    """Hypercorn lets it wait for ever until its last chunk is taken."""
    begun, finished, gone = trio.Event(), trio.Event(), trio.Event()

    @with_lifespan
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        begun.set()
        await gone.wait()
        await send(chunk(body, last=True))
        finished.set()

    async with hardened(app, write_timeout=3600) as served:
        await wait_all_tasks_blocked(0.05)
        tasks = trio.lowlevel.current_statistics().tasks_living
        stream = await served.connect("h2", tls=tls)
        await stream.send_all(http2_request(window=0))
        await begun.wait()
        await stream.aclose()
        await wait_all_tasks_blocked(0.05)
        gone.set()
        await finished.wait()
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.0\r\n\r\nand more",
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n",
        b"no request\r\n\r\n",
    ],
    ids=["HTTP/1.0", "connection: close", "a bad chunk", "garbage"],
)
async def test_a_connection_that_hypercorn_has_closed_is_read_no_more(request_: bytes) -> None:
    """Twice: Trio would take the first dead reader for a second one's rival."""

    @with_lifespan
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({**HEAD, "status": 204})
        await send(END)

    async with hardened(app) as served:
        for _ in range(2):
            stream = await served.connect()
            await stream.send_all(request_)
            await stream.send_all(b"x")
            with trio.fail_after(5):
                while await stream.receive_some():
                    pass
        assert served.log.take() == []


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_what_is_unsent_when_a_server_ends_shows_as_a_cut(tls: bool) -> None:
    """A client that reads only then must not take a part for the whole."""
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        stream = await served.connect(tls=tls, receive_buffer=SMALL)
        await stream.send_all(REQUEST)
        await until(lambda: broadcaster.client_count == 1)
        for _ in range(5):
            broadcaster.broadcast("x", "y" * 2_000_000)
        await wait_all_tasks_blocked(0.01)
        below: trio.SocketStream = getattr(stream, "transport_stream", stream)
        await below.send_eof()
        await until(lambda: broadcaster.statistics().streams == 0)
        served.scope.cancel()
        await served.returned.wait()
        with pytest.raises(trio.BrokenResourceError):
            await read_to_the_end(stream)


async def read_to_the_end(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass
