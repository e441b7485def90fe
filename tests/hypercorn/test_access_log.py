"""The access log has one line a request, with the status, and the bytes of the body."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
import trio.testing

from trio_sse import Broadcaster, sse_app

from ..support.asgi import (
    END,
    HEAD,
    App,
    Message,
    Receive,
    Send,
    app_sending,
    chunk,
    until_disconnected,
    with_lifespan,
)
from ..support.clients import Http1Client, Http2Client
from ..support.hardened import Served, hardened
from ..support.server import ServerLog
from ..support.waiting import until

#: Method, path, version, status, bytes.
FORMAT: Final = "%(m)s %(U)s %(H)s %(s)s %(b)s"

#: The request of a WebSocket.
WEBSOCKET: Final = (
    b"GET /ws HTTP/1.1\r\nhost: t\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)

PAGE: Final = (HEAD, chunk(b"x" * 1000), chunk(b"y" * 500, last=True))


@asynccontextmanager
async def logged(app: App, **settings: Any) -> AsyncGenerator[tuple[Served, ServerLog]]:
    log = ServerLog(logging.INFO)
    settings |= {"accesslog": log.logger, "access_log_format": FORMAT}
    async with hardened(app, **settings) as served:
        yield served, log


async def until_logged(log: ServerLog, *lines: str) -> None:
    """Wait for as many lines, and see that they are those, and the only ones."""
    await until(lambda: len(log.lines) >= len(lines))
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(log.take()) == sorted(lines)


async def test_each_request_is_one_line() -> None:
    async with logged(with_lifespan(app_sending(*PAGE))) as (served, log):
        for client in await served.every_client():
            for path in ("/a", "/b"):
                await (await client.request(path=path)).rest()
                version = "1.1" if isinstance(client, Http1Client) else "2"
                await until_logged(log, f"GET {path} {version} 200 1500")


async def test_the_last_request_of_a_connection_is_one_line() -> None:
    async with logged(with_lifespan(app_sending(*PAGE))) as (served, log):
        client = Http1Client(await served.connect())
        await (await client.request(headers={"connection": "close"})).rest()
        await until_logged(log, "GET /events 1.1 200 1500")


async def test_a_length_that_is_said_is_not_counted_twice() -> None:
    head = {**HEAD, "headers": [(b"Content-Length", b"3")]}
    app = with_lifespan(app_sending(head, chunk(b"abc", last=True)))
    async with logged(app) as (served, log):
        await (await (await served.http1()).request()).rest()
        await until_logged(log, "GET /events 1.1 200 3")


async def test_the_answer_to_head_has_no_bytes() -> None:
    async with logged(with_lifespan(app_sending(*PAGE))) as (served, log):
        for client, version in ((await served.http1(), "1.1"), (await served.http2(), "2")):
            await client.request("HEAD")
            await until_logged(log, f"HEAD /events {version} 200 0")


async def test_a_client_that_leaves_is_logged_with_what_was_sent_till_then() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"x" * 1000))
        await until_disconnected(receive)

    async with logged(with_lifespan(app)) as (served, log):
        for client, version in ((await served.http1(), "1.1"), (await served.http2(), "2")):
            response = await client.request()
            while not response.body:
                await client.read_for(response)
            await response.aclose()
            await until_logged(log, f"GET /events {version} 200 1000")


async def test_a_client_that_leaves_before_any_answer_is_logged_without_one() -> None:
    asked = trio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        asked.set()
        await until_disconnected(receive)
        await send(HEAD)

    async with logged(with_lifespan(app)) as (served, log):
        stream = await served.connect()
        await stream.send_all(b"GET /events HTTP/1.1\r\nhost: t\r\n\r\n")
        await asked.wait()
        await stream.aclose()
        await until_logged(log, "GET /events 1.1 - -")
        client, asked = await served.http2(), trio.Event()
        assert isinstance(client, Http2Client)
        left = await client.ask("GET", "/events")
        await asked.wait()
        await left.aclose()
        await until_logged(log, "GET /events 2 - -")


async def test_an_application_that_crashes_has_answered_500() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("a bug")

    async with logged(with_lifespan(app)) as (served, log):
        for client, version in ((await served.http1(), "1.1"), (await served.http2(), "2")):
            assert (await client.request()).status == 500
            await until_logged(log, f"GET /events {version} 500 -")
            (trace,) = served.log.take()
            assert "a bug" in trace


async def test_a_request_for_another_server_is_one_line() -> None:
    app = with_lifespan(app_sending(HEAD, END))
    async with logged(app, server_names=["elsewhere"]) as (served, log):
        assert (await (await served.http1()).request()).status == 404
        await until_logged(log, "GET /events 1.1 404 -")


async def test_a_stream_is_logged_with_all_its_bytes_also_those_past_the_server() -> None:
    broadcaster = Broadcaster(strict=False)
    async with logged(sse_app(broadcaster, key="a user")) as (served, log):
        for client, version in ((await served.http1(), "1.1"), (await served.http2(), "2")):
            response = await client.request()
            await until(lambda: broadcaster.client_count == 1)
            for number in range(3):
                broadcaster.broadcast("tick", str(number))
                assert (await response.receive()).data == str(number)
            broadcaster.disconnect("a user")
            await response.rest()
            await until_logged(log, f"GET /events {version} 200 {len(response.body)}")


async def test_a_websocket_is_one_line() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    async with logged(with_lifespan(app)) as (served, log):
        stream = await served.connect()
        await stream.send_all(WEBSOCKET)
        assert b" 101 " in await stream.receive_some(1000)
        await until_logged(log, "GET /ws 1.1 101 -")


async def test_only_what_was_sent_is_logged() -> None:
    """What hypercorn refuses, or nobody is there for, is not; what is odd has a line, too."""
    odd: dict[str, tuple[tuple[Message, ...], str]] = {
        "/twice": ((HEAD, chunk(b"abc"), {**HEAD, "status": 201}), "200 3"),
        "/nothing": (({**HEAD, "status": 304}, chunk(b"abc", last=True)), "304 0"),
        "/early": ((HEAD, chunk(b"abc", last=True), chunk(b"more")), "200 3"),
        "/str": (({**HEAD, "headers": [("x", "y")]}, END), "500 -"),
        "/value": (({**HEAD, "headers": [(b"x", b"a\nb")]}, END), "500 -"),
    }

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for message in odd[scope["path"]][0]:
            await send(message)

    async with logged(with_lifespan(app)) as (served, log):
        for path, (_, line) in odd.items():
            stream = await served.connect()
            await stream.send_all(f"GET {path} HTTP/1.1\r\nhost: t\r\n\r\n".encode())
            await until_logged(log, f"GET {path} 1.1 {line}")
            served.log.take()


async def test_a_query_that_is_no_text_is_logged() -> None:
    async with logged(with_lifespan(app_sending(HEAD, END))) as (served, log):
        client = await served.http2()
        assert (await client.request(path=b"/q?\xff".decode("latin-1"))).status == 200
        await until_logged(log, "GET /q 2 200 0")


async def test_a_client_that_has_left_gets_nothing_of_what_is_sent_to_it() -> None:
    """Nor is that logged: an application may go on."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"x" * 10))
        await until_disconnected(receive)
        for _ in range(5):
            await send(chunk(b"x" * 10))

    async with logged(with_lifespan(app)) as (served, log):
        for client, version in ((await served.http1(), "1.1"), (await served.http2(), "2")):
            response = await client.request()
            while not response.body:
                await client.read_for(response)
            await response.aclose()
            await until_logged(log, f"GET /events {version} 200 10")


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_websocket_that_is_not_accepted_is_one_line(crashes: bool) -> None:
    """Whoever ends it first: the application, by a crash, or the client."""
    asked = trio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        asked.set()
        if crashes:
            raise LookupError("a bug")
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with logged(with_lifespan(app)) as (served, log):
        stream = await served.connect()
        await stream.send_all(WEBSOCKET)
        await asked.wait()
        await stream.aclose()
        await until_logged(log, f"GET /ws 1.1 {'500' if crashes else '-'} -")
        served.log.take()
