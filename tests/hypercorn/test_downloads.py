"""Downloads and uploads of any application: little is held, and nothing is left of who leaves."""

from __future__ import annotations

import base64
import os
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ..support.asgi import Message, Receive, Send
from ..support.hardened import Served, hardened
from ..support.remains import living
from ..support.waiting import until

HEAD: Final[Message] = {"type": "http.response.start", "status": 200, "headers": []}

MEGABYTE: Final = 1024 * 1024


async def serve_nothing(scope: Message, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_what_a_client_that_has_left_would_have_got_is_not_kept(tls: bool) -> None:
    """The application sends on, as it need not listen."""
    done = trio.Event()

    async def download(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_nothing(scope, receive, send)
            return
        await send(HEAD)
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * MEGABYTE, "more_body": True})
        done.set()

    async with hardened(download) as served:
        stream = await served.connect(tls=tls)
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        await stream.receive_some(1000)
        tracemalloc.start()
        await stream.aclose()
        await done.wait()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10 * MEGABYTE


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Send back what comes, by HTTP or by WebSocket, and read on only then."""
    if scope["type"] == "lifespan":
        await serve_nothing(scope, receive, send)
    elif scope["type"] == "http":
        await send(HEAD)
        while (message := await receive())["type"] == "http.request":
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def upload(stream: trio.SocketStream) -> None:
    await stream.send_all(b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await stream.send_all(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")


async def talk(stream: trio.SocketStream) -> None:
    key = base64.b64encode(os.urandom(16))
    await stream.send_all(
        b"GET / HTTP/1.1\r\nhost: t\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: " + key + b"\r\n\r\n"
    )
    await stream.receive_some(1000)
    while True:  # A binary frame and a ping, masked with zeros.
        await stream.send_all(b"\x82\xfe\x40\x00" + bytes(4) + b"x" * 0x4000)
        await stream.send_all(b"\x89\x80" + bytes(4))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("flood", [upload, talk])
async def test_who_floods_reads_nothing_and_leaves_leaves_nothing(
    flood: Callable[[trio.SocketStream], Awaitable[None]], tls: bool
) -> None:
    async with hardened(echo) as served:
        await wait_all_tasks_blocked(0.05)
        before = living()
        for _ in range(5):
            await flood_and_leave(served, flood, tls)
        await until(lambda: living() == before)


async def flood_and_leave(
    served: Served, flood: Callable[[trio.SocketStream], Awaitable[None]], tls: bool
) -> None:
    stream = await served.connect(tls=tls)
    with trio.move_on_after(0.2):
        await flood(stream)
    await trio.aclose_forcefully(stream)
