"""What `trio_sse.hypercorn.serve` works around: each test fails when hypercorn repairs its fault.

(That the crash of one connection ends all is in test_serve.py.) Most serve one connection by
hypercorn's class alone, over a socket pair: what one side writes is on the other side at once, so
that hours may pass on a virtual clock.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, final

import attrs
import hypercorn
import pytest
import trio
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

# hypercorn's annotations of it leave type arguments out.
from hypercorn.utils import wrap_app  # pyright: ignore[reportUnknownVariableType]
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app

from ..support.asgi import (
    END,
    HEAD,
    App,
    Flood,
    Message,
    Receive,
    Send,
    app_sending,
    chunk,
    until_disconnected,
    with_lifespan,
)
from ..support.clients import Client, Http2Client
from ..support.hostile import REQUEST, UPGRADE, http2_request
from ..support.server import Server, serving
from ..support.waiting import until

Respond = Callable[[Receive, Send], Awaitable[None]]

HOUR: Final = 3600.0


def answering(respond: Respond) -> App:
    """Return an app that answers each request so."""

    @with_lifespan
    async def app(_: Message, receive: Receive, send: Send) -> None:
        await respond(receive, send)

    return app


async def send_at_once_or_not_at_all(send: Send, message: Message) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await send(message)


@final
@attrs.define
class Connection:
    """The client's end of a connection, and what the server has of it."""

    client: trio.SocketStream
    context: WorkerContext = attrs.field(factory=lambda: WorkerContext(None))
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    over: trio.Event = attrs.field(factory=trio.Event)


@asynccontextmanager
async def connected(app: App, **settings: object) -> AsyncGenerator[Connection]:
    """Serve one connection by hypercorn's class; in the end the client leaves."""
    config = hypercorn.Config()
    config.errorlog = None
    for name, value in settings.items():
        setattr(config, name, value)
    ours, theirs = map(trio.socket.from_stdlib_socket, socket.socketpair())
    connection = Connection(trio.SocketStream(ours))
    stream: Any = trio.SocketStream(theirs)  # hypercorn's annotation knows TLS only.
    served = wrap_app(app, config.wsgi_max_body_size, "asgi"), config, connection.context

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with connection.scope:
            await TCPServer(*served, ConnectionState({}), stream)
        await trio.aclose_forcefully(stream)
        connection.over.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        async with connection.client:
            yield connection


# Writes: `Connection` gives them a deadline, and leaves what is cancelled to others.


async def test_stock_hypercorn_still_waits_without_end_for_a_client_that_takes_no_byte(
    autojump_clock: MockClock,
) -> None:
    async with connected(flood := Flood()) as connection:
        await connection.client.send_all(REQUEST)
        await trio.sleep(HOUR)
        assert flood.sent[0] < 10_000_000
        assert not connection.over.is_set()


async def test_stock_hypercorn_still_cannot_be_cancelled_nor_shut_down_while_a_client_takes_no_byte(
    autojump_clock: MockClock,
) -> None:
    async with connected(Flood()) as connection:
        await connection.client.send_all(REQUEST)
        await wait_all_tasks_blocked()
        connection.scope.cancel()
        await trio.sleep(1)
        assert not connection.over.is_set()


# HTTP/2: `BoundedSend`, and `_SETTLE`.


async def test_stock_hypercorn_still_buffers_all_for_an_http2_window_that_is_shut_and_then_waits(
    autojump_clock: MockClock,
) -> None:
    async with connected(flood := Flood()) as connection:
        await connection.client.send_all(http2_request(window=0))
        await trio.sleep(HOUR)
        assert flood.sent == [10_000_000]
        assert not connection.over.is_set()


async def test_stock_hypercorn_still_never_ends_an_http2_response_whose_client_left_before_it(
    autojump_clock: MockClock,
) -> None:
    async def respond(_: Receive, send: Send) -> None:
        await connection.client.aclose()
        await wait_all_tasks_blocked()
        await send(HEAD)
        await send(END)

    async with connected(answering(respond)) as connection:
        await connection.client.send_all(http2_request())
        await trio.sleep(HOUR)
        assert not connection.over.is_set()
        connection.scope.cancel()


async def test_stock_hypercorn_still_waits_for_ever_for_the_end_of_its_own_answer_to_an_upgrade(
    autojump_clock: MockClock,
) -> None:
    async with connected(Flood()) as connection:
        await connection.client.send_all(UPGRADE % b"CONNECT")
        await wait_all_tasks_blocked()
        await connection.client.aclose()
        await trio.sleep(HOUR)
        assert not connection.over.is_set()
        connection.scope.cancel()


async def test_stock_hypercorn_still_loses_the_end_of_an_http2_stream_amid_a_shutdown(
    autojump_clock: MockClock,
) -> None:
    async def respond(_: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"all"))
        await connection.context.terminated.wait()
        await send(END)

    async with connected(answering(respond)) as connection:
        client = Http2Client(connection.client)
        responses = [await client.request(), await client.request()]
        await wait_all_tasks_blocked()
        await connection.context.terminated.set()
        for response in responses:
            while not response.complete and not response.cut:
                await client.read_for(response)
        assert sorted(response.complete for response in responses) == [False, True]


# A shutdown: `_Server._shut_down` ends the streams, and waits.


@pytest.mark.parametrize("connect", [Server.http1, Server.http2])
async def test_stock_hypercorn_still_cuts_a_stream_at_its_shutdown_without_a_word_to_the_app(
    connect: Callable[[Server], Awaitable[Client]],
) -> None:
    told: list[str] = []

    async def respond(receive: Receive, send: Send) -> None:
        await send(HEAD)
        while True:
            told.append((await receive())["type"])

    async with serving(answering(respond)) as server:
        response = await (await connect(server)).request()
        await until(lambda: told == ["http.request"])
        server.shutdown.set()
        with pytest.raises(trio.BrokenResourceError):
            await response.receive()
        assert told == ["http.request"]


# Cancelled sends: `Connection.put` comes before any checkpoint.


async def test_stock_hypercorn_still_loses_what_is_cancelled_and_answers_on_amid_an_open_body(
    autojump_clock: MockClock,
) -> None:
    async def respond(_: Receive, send: Send) -> None:
        await send(HEAD)
        await send_at_once_or_not_at_all(send, chunk(b"lost"))
        await send(chunk(b"next"))
        await send_at_once_or_not_at_all(send, END)

    async with connected(answering(respond)) as connection:
        await connection.client.send_all(REQUEST + REQUEST)
        await wait_all_tasks_blocked()
        answers = await connection.client.receive_some()
        assert b"\r\n\r\n4\r\nnext\r\nHTTP/1.1 200 " in answers
        assert b"lost" not in answers


# Connections whose client has left or wants no more: `_read_data`, `protocol_send`, `_shield_end`.


async def test_stock_hypercorn_still_keeps_the_connection_of_a_client_that_left_between_requests(
    autojump_clock: MockClock,
) -> None:
    app = with_lifespan(app_sending(HEAD, END))
    async with connected(app, keep_alive_timeout=HOUR) as connection:
        await connection.client.send_all(REQUEST)
        await wait_all_tasks_blocked()
        await connection.client.aclose()
        await trio.sleep(HOUR - 1)
        assert not connection.over.is_set()


async def test_stock_hypercorn_still_keeps_a_reset_connection_after_a_last_chunk_to_it(
    autojump_clock: MockClock,
) -> None:
    async def respond(receive: Receive, send: Send) -> None:
        await send(HEAD)
        await until_disconnected(receive)
        await send(END)

    async with connected(answering(respond), keep_alive_timeout=HOUR) as connection:
        await connection.client.send_all(REQUEST)
        await wait_all_tasks_blocked()
        await connection.client.aclose()  # It has not read the head: so this is a reset.
        await trio.sleep(HOUR - 1)
        assert not connection.over.is_set()


@pytest.mark.parametrize(
    "request_",
    [REQUEST, REQUEST.replace(b"\r\n", b"\r\nconnection: close\r\n", 1), b"GET / HTTP/1.0\r\n\r\n"],
    ids=["kept alive", "to be closed", "HTTP/1.0"],
)
async def test_stock_hypercorn_still_never_closes_after_a_last_chunk_that_its_app_cancels_when_told(
    autojump_clock: MockClock, request_: bytes
) -> None:
    """It tells the app that the client has left, while it is still in the app's last `send`."""
    async with connected(Flood(0), keep_alive_timeout=5) as connection:
        await connection.client.send_all(request_)
        await trio.sleep(HOUR)
        assert not connection.over.is_set()


# Settings: `_open_listeners`, `_harden`, and the warning of `serve`.


async def test_stock_hypercorn_still_lets_100_wait_for_accept_and_never_gives_up_on_a_lost_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int, int]] = []
    listen = socket.socket.listen

    def listen_and_note(sock: socket.socket, backlog: int) -> None:
        keeps_alive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        timeout = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        seen.append((backlog, keeps_alive, timeout))
        listen(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", listen_and_note)
    async with serving(sse_app(Broadcaster())):
        assert seen == [(100, 0, 0)]


async def test_stock_hypercorn_still_counts_a_read_timeout_while_the_client_awaits_a_stream(
    autojump_clock: MockClock,
) -> None:
    app = sse_app(Broadcaster(heartbeat_interval=15))
    async with connected(app, read_timeout=50) as connection:
        await connection.client.send_all(REQUEST)
        await connection.over.wait()
        assert trio.current_time() == 50
        assert (await connection.client.receive_some()).count(b": heartbeat") == 3
