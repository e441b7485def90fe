"""How streams that are written to directly begin and end, amid events: each by itself."""

from __future__ import annotations

from typing import Any, Final

import h2.config
import h2.connection
import pytest
import trio
from h2.errors import ErrorCodes
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse._delivery.bypass import EXTENSION

from ..support.asgi import HEAD, Message, Receive, Send, chunk, until_disconnected, with_lifespan
from ..support.clients import Http2Client, Response
from ..support.events import data_of, numbers, take_data
from ..support.hardened import hardened
from ..support.hostile import UPGRADE
from ..support.waiting import until
from ..support.ways import see
from .test_http2_direct import streams_of
from .test_http2_windows import miser

#: A client's GOAWAY (RFC 9113, 6.8).
GOAWAY: Final = b"\x00\x00\x08\x07" + bytes(13)


async def broadcast_on(broadcaster: Broadcaster, first: int, last: int) -> None:
    for number in range(first, last + 1):
        broadcaster.broadcast("x", number)
        await trio.lowlevel.checkpoint()


async def test_a_client_that_goes_away_amid_events_ends_its_own_streams_only(tls: bool) -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        leaving, gone = await streams_of(served, broadcaster, 2, tls=tls)
        other = await (await served.http2(tls=tls)).request()
        await until(lambda: broadcaster.statistics().clients_direct == 3)
        await broadcast_on(broadcaster, 0, 19)
        await leaving.stream.send_all(GOAWAY)
        await broadcast_on(broadcaster, 20, 59)
        await until(lambda: broadcaster.client_count == 1)
        assert await take_data(other, 60) == numbers(0, 59)
        for stream in gone:
            while not stream.cut:
                await leaving.read_for(stream)
            received = see(bytes(stream.body)).data
            assert received == numbers(0, len(received) - 1)


async def test_streams_go_on_amid_events_at_the_last_request_of_their_connection(
    tls: bool,
) -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster), keep_alive_max_requests=2) as served:
        client, streams = await streams_of(served, broadcaster, 2, tls=tls)
        await broadcast_on(broadcaster, 0, 19)
        last = await client.ask("GET", "/events")
        await broadcast_on(broadcaster, 20, 39)
        await until(lambda: broadcaster.statistics().clients_direct == 3)
        await broadcast_on(broadcaster, 40, 59)
        broadcaster.close()
        for stream in streams:
            assert data_of(await stream.rest()) == numbers(0, 59)
        assert client.sent_away
        of_last = data_of(await last.rest())
        assert of_last == numbers(60 - len(of_last), 59)


async def test_at_a_shutdown_amid_events_each_stream_ends_cleanly_behind_its_last(
    tls: bool,
) -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster), graceful_timeout=20) as served:
        _, streams = await streams_of(served, broadcaster, 3, tls=tls)
        await broadcast_on(broadcaster, 0, 19)
        served.shutdown.set()
        await broadcast_on(broadcaster, 20, 59)
        for stream in streams:
            events = data_of(await stream.rest())
            assert events == numbers(0, len(events) - 1)
            assert len(events) >= 20
            assert stream.complete


async def test_an_upgraded_connection_has_its_first_stream_written_directly() -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        client = await Upgraded.make(await served.connect())
        await until(lambda: broadcaster.statistics().clients_direct == 1)
        second = await client.request()
        await until(lambda: broadcaster.statistics().clients_direct == 2)
        await broadcast_on(broadcaster, 0, 19)
        for stream in (client.first, second):
            assert await take_data(stream, 20) == numbers(0, 19)


class Upgraded(Http2Client):
    """A client whose first request was one of HTTP/1.1."""

    first: Response

    @classmethod
    async def make(cls, stream: trio.SocketStream) -> Upgraded:
        client = cls(stream)
        client._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client._h2.initiate_upgrade_connection()
        client.first = client._responses[1] = Response(client, 1)
        await stream.send_all(UPGRADE % b"GET" + client._h2.data_to_send())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive_some(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        return client


@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_what_is_no_get_has_no_way_past_the_server(method: str) -> None:
    offered: list[bool] = []

    @with_lifespan
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        offered.append(EXTENSION in scope["extensions"])
        await send({**HEAD, "status": 204})
        await send(chunk(b"", last=True))

    async with hardened(app) as served:
        client = await served.http2()
        for each in (method, "GET"):
            response = await client.request(each)
            assert await response.rest() == []
    assert offered == [False, True]


async def test_a_204_beside_a_stream_ends_and_the_stream_goes_on(tls: bool) -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        client, (stream,) = await streams_of(served, broadcaster, 1, tls=tls)
        refused = await client.ask("GET", "/events", headers={"last-event-id": "end"})
        await broadcast_on(broadcaster, 0, 9)
        assert await refused.rest() == []
        assert (refused.status, refused.body) == (204, bytearray())
        assert await take_data(stream, 10) == numbers(0, 9)


async def test_nothing_goes_past_the_server_once_the_body_has_ended_or_the_client_has_left(
    tls: bool,
) -> None:
    """Though the application is there still, and its bypass in its hands."""
    may_end = trio.Event()
    tried: list[str] = []

    @with_lifespan
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        bypass: Any = scope["extensions"][EXTENSION]
        await send(HEAD)
        bypass.await_echo(b"first")
        await send(chunk(b"first"))
        await bypass.flush()
        bypass.send_nowait(b" direct")
        if scope["path"] == "/ends":
            await send(chunk(b" last", last=True))
        else:
            await until_disconnected(receive)
        with pytest.raises(trio.ClosedResourceError):
            bypass.send_nowait(b" too late")
        tried.append(scope["path"])
        await may_end.wait()

    async with hardened(app) as served:
        client = await served.http2(tls=tls)
        ended = await client.request(path="/ends")
        assert await ended.rest() == []
        assert ended.body == b"first direct last"
        leaving = await client.request(path="/leaves")
        while not leaving.body.endswith(b"direct"):
            await client.read_for(leaving)
        await leaving.aclose()
        await until(lambda: len(tried) == 2)
        may_end.set()


async def test_nothing_goes_past_the_server_behind_an_end_that_waits_for_a_window() -> None:
    @with_lifespan
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        bypass: Any = scope["extensions"][EXTENSION]
        await send(HEAD)
        bypass.await_echo(b"first")
        await send(chunk(b"first"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, chunk(b"", last=True))
            await wait_all_tasks_blocked(0.01)
            with pytest.raises(trio.ClosedResourceError):
                bypass.send_nowait(b" too late")
            tried.set()

    tried = trio.Event()
    async with hardened(app) as served:
        client = await miser(served, tls=False, stream_window=3)
        stream = await client.request()
        stream.paused = True
        await tried.wait()
        await client.grant(100, stream)
        assert await stream.rest() == []
        assert stream.body == b"first"


async def test_streams_of_http1_and_http2_are_each_coded_in_their_own_way(tls: bool) -> None:
    """Though they get the same events of the same broadcaster."""
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        clients = [await served.http1(tls=tls), await served.http2(tls=tls)]
        streams = [await client.request() for client in clients]
        await until(lambda: broadcaster.statistics().clients_direct == 2)
        await broadcast_on(broadcaster, 0, 19)
        for stream in streams:
            assert await take_data(stream, 20) == numbers(0, 19)
            assert b"\r" not in stream.body  # Of a chunk's head, which would be an unknown field.


async def test_an_application_that_fails_amid_events_resets_its_stream_only(tls: bool) -> None:
    broadcaster = Broadcaster(strict=False)
    inner, fails = sse_app(broadcaster), trio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope.get("path") != "/fails":
            await inner(scope, receive, send)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner, scope, receive, send)
            await fails.wait()
            nursery.cancel_scope.cancel()
            raise ZeroDivisionError

    async with hardened(app) as served:
        client, (stream,) = await streams_of(served, broadcaster, 1, tls=tls)
        failing = await client.request(path="/fails")
        await until(lambda: broadcaster.statistics().clients_direct == 2)
        await broadcast_on(broadcaster, 0, 9)
        fails.set()
        await broadcast_on(broadcaster, 10, 29)
        while failing.reset is None and not failing.complete:
            await client.read_for(failing)
        assert failing.reset in (None, ErrorCodes.INTERNAL_ERROR)
        assert await take_data(stream, 30) == numbers(0, 29)
        served.log.take()
