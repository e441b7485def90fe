"""Streams over HTTP/2 that are written past hypercorn: at once, or in order."""

from __future__ import annotations

from typing import Any, cast

import hypercorn
import pytest
import trio
from h2.errors import ErrorCodes
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse._delivery.socket_writer import SocketWriter
from trio_sse.hypercorn._frames import Frames
from trio_sse.hypercorn._outgoing import Outgoing
from trio_sse.hypercorn._stream_writer import StreamWriter

from ..support.asgi import Message, Receive, Send, chunk
from ..support.clients import Http2Client, Response
from ..support.events import broadcast, take_data
from ..support.hardened import SMALL, Served, hardened
from ..support.hostile import WIDE, http2_request
from ..support.stingy_socket import StingySocket
from ..support.waiting import until


async def streams_of(
    served: Served,
    broadcaster: Broadcaster,
    count: int,
    *,
    tls: bool,
    others: int = 0,
    **window: int,
) -> tuple[Http2Client, list[Response]]:
    """Open so many streams on one connection; return when they go the direct way."""
    client = await served.http2(tls=tls, **window)
    assert isinstance(client, Http2Client)
    streams = [await client.request() for _ in range(count)]
    await until(lambda: broadcaster.statistics().clients_direct == others + count)
    return client, streams


async def test_events_come_in_order_on_each_stream_of_a_connection(tls: bool) -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        _, streams = await streams_of(served, broadcaster, 3, tls=tls)
        for n in range(100):
            broadcaster.broadcast("x", n)
            if n % 9 == 0:
                await trio.lowlevel.checkpoint()
        for stream in streams:
            assert await take_data(stream, 100) == [str(n) for n in range(100)]


async def test_what_a_window_has_no_room_for_waits_and_harms_no_other_stream(tls: bool) -> None:
    """Events are larger than frames may be, and than windows are."""
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        client, (paused, other) = await streams_of(served, broadcaster, 2, tls=tls)
        paused.paused = True
        expected: list[str] = []
        for size in (10, 20_000, 100, 90_000, 5, 30_000):
            expected.append(f"{size} {'y' * size}")
            broadcaster.broadcast("x", expected[-1])
            await wait_all_tasks_blocked()
        assert await take_data(other, 6) == expected
        await client.resume(paused)
        assert await take_data(paused, 6) == expected


async def test_a_burst_at_a_shut_window_prunes_and_what_was_queued_still_comes(tls: bool) -> None:
    broadcaster = Broadcaster(4, strict=False, history_size=0)
    async with hardened(sse_app(broadcaster)) as served:
        client, (paused,) = await streams_of(served, broadcaster, 1, tls=tls)
        paused.paused = True
        broadcaster.broadcast("x", "y" * 100_000)
        await wait_all_tasks_blocked(0.01)
        broadcast(broadcaster, *range(10))
        assert broadcaster.statistics().clients_pruned == 1
        await client.resume(paused)
        events = [event.data for event in await paused.rest()]
        assert events == ["y" * 100_000, *map(str, range(4))]


async def test_a_burst_beyond_the_buffer_goes_out_as_the_window_allows(tls: bool) -> None:
    broadcaster = Broadcaster(4, strict=False, history_size=0)
    async with hardened(sse_app(broadcaster)) as served:
        _, (stream,) = await streams_of(served, broadcaster, 1, tls=tls)
        broadcast(broadcaster, "y" * 17_000, *range(50))  # The first is larger than a frame.
        assert broadcaster.statistics().clients_pruned == 0
        assert await take_data(stream, 51) == ["y" * 17_000, *map(str, range(50))]


async def test_a_client_that_leaves_a_stream_leaves_the_others_as_they_are(tls: bool) -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        _, (left, other) = await streams_of(served, broadcaster, 2, tls=tls)
        for n in range(30):
            broadcaster.broadcast("x", n)
            if n == 10:
                await left.aclose()
            await trio.lowlevel.checkpoint()
        assert await take_data(other, 30) == [str(n) for n in range(30)]
        await until(lambda: broadcaster.statistics().streams == 1)


async def test_who_takes_nothing_for_the_write_timeout_loses_its_stream_only(tls: bool) -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster), write_timeout=0.3) as served:
        client, (paused, other) = await streams_of(served, broadcaster, 2, tls=tls)
        paused.paused = True
        broadcaster.broadcast("x", "y" * 100_000)
        while paused.reset is None:
            await client.read_for(paused)
        assert paused.reset == ErrorCodes.CANCEL
        broadcaster.broadcast("x", "after it")
        assert await take_data(other, 2) == ["y" * 100_000, "after it"]


async def test_a_middleware_that_writes_amid_the_direct_bytes_cuts_that_stream_only(
    tls: bool,
) -> None:
    broadcaster = Broadcaster(strict=False)
    inner = sse_app(broadcaster)
    sends: list[Send] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        sends.append(send)
        await inner(scope, receive, send)

    async with hardened(app) as served:
        client, (mixed, other) = await streams_of(served, broadcaster, 2, tls=tls)
        broadcaster.broadcast("x", "before")
        await wait_all_tasks_blocked(0.01)
        await sends[-2](chunk(b": mine\n\n"))
        broadcaster.broadcast("x", "after")
        while mixed.reset is None:
            await client.read_for(mixed)
        assert mixed.reset == ErrorCodes.INTERNAL_ERROR
        assert mixed.body.endswith(b"data: before\n\n: mine\n\n")
        assert await take_data(other, 2) == ["before", "after"]


async def test_a_burst_at_a_full_socket_prunes_though_all_windows_are_open(tls: bool) -> None:
    broadcaster = Broadcaster(4, strict=False, history_size=0)
    async with hardened(sse_app(broadcaster)) as served:
        stream = await served.connect("h2", tls=tls, receive_buffer=SMALL)
        await stream.send_all(http2_request(window=WIDE))
        await until(lambda: broadcaster.statistics().clients_direct == 1)
        for _ in range(6_000):  # Several are less than a frame.
            broadcaster.broadcast("x", "y" * 3_000)
        assert broadcaster.statistics().clients_pruned == 1


async def test_nothing_can_be_put_on_a_stream_that_has_ended() -> None:
    nothing, sock = cast("Any", None), StingySocket.pair()
    socket_writer = SocketWriter(sock, trio.Lock(), 30)
    out = Outgoing(10, 30, nothing)
    frames = Frames(hypercorn.Config(), out, nothing, socket_writer)
    writer = StreamWriter(1, frames, out, socket_writer, nothing, nothing)
    with pytest.raises(trio.BrokenResourceError, match="ended"):
        writer.put(b"an event")
    with pytest.raises(trio.BrokenResourceError, match="ended"):
        await writer.flush()
    sock.close_both()
