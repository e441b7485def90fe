"""Streams of one HTTP/2 connection that are written to directly: their frames go out together."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse._delivery.socket_writer import SocketWriter
from trio_sse.hypercorn._frames import Frames

from ..support.clients import Response
from ..support.events import take_data
from ..support.hardened import hardened
from .test_http2_direct import streams_of

#: Events of so many bytes, more of them than the buffers of two sockets hold.
EVENT, MANY = "y" * 3_000, 6_000


async def test_an_event_for_several_streams_is_one_write(
    tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcaster = Broadcaster(strict=False)
    writes: list[bytes] = []
    put = SocketWriter.put

    def noted(own: SocketWriter, data: bytes) -> int:
        writes.append(data)
        return put(own, data)

    async with hardened(sse_app(broadcaster)) as served:
        _, streams = await streams_of(served, broadcaster, 4, tls=tls)
        await wait_all_tasks_blocked()
        with monkeypatch.context() as patched:
            patched.setattr(SocketWriter, "put", noted)
            broadcaster.broadcast("x", "for all")
            await wait_all_tasks_blocked()
        assert len(writes) == 1
        for stream in streams:
            assert await take_data(stream, 1) == ["for all"]


async def test_a_full_socket_holds_up_all_streams_and_loses_nothing(tls: bool) -> None:
    """No stream waits for the next event to notice that the socket has room again."""
    broadcaster = Broadcaster(MANY, strict=False, history_size=0)
    async with hardened(sse_app(broadcaster)) as served:
        client, streams = await streams_of(
            served, broadcaster, 3, tls=tls, window=2**27, stream_window=2**25
        )
        for n in range(MANY):
            broadcaster.broadcast("x", f"{n} {EVENT}")
            await wait_all_tasks_blocked()  # So that it is a turn of the connection that fails.
        expected = [f"{n} {EVENT}" for n in range(MANY)]
        received: dict[Response, list[str | None]] = {stream: [] for stream in streams}

        async def read(stream: Response) -> None:
            received[stream] += await take_data(stream, MANY)

        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(read, stream)
        assert [*received.values()] == [expected] * 3
        await client.stream.aclose()


async def test_what_goes_wrong_in_the_turn_of_a_connection_ends_its_streams_only(
    monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    broadcaster = Broadcaster(strict=False)
    send_held = Frames.send_held
    broken: list[Frames] = []

    def send_or_fail(own: Frames) -> None:
        if own in broken:
            raise ZeroDivisionError
        send_held(own)

    make_frame = Frames.make_frame

    def note(own: Frames, stream_id: int, data: bytes) -> bytes:
        if b"breaks" in data and stream_id == 3:
            broken.append(own)
        return make_frame(own, stream_id, data)

    monkeypatch.setattr(Frames, "make_frame", note)
    monkeypatch.setattr(Frames, "send_held", send_or_fail)
    async with hardened(sse_app(broadcaster)) as served:
        _, ill = await streams_of(served, broadcaster, 2, tls=tls)
        _, (well,) = await streams_of(served, broadcaster, 1, tls=tls, others=2)
        broadcaster.broadcast("x", "breaks")
        for stream in ill:
            with pytest.raises(trio.BrokenResourceError):
                await stream.rest()
        assert await take_data(well, 1) == ["breaks"]
        assert len(served.log.take()) == 2
