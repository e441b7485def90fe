"""How many events go out in one `send`."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, ServerSentEvent, sse_app
from trio_sse.testing import open_event_stream

from ..support.asgi import Tap
from ..support.events import broadcast
from ..support.streams import stalled_amid_an_event

LIMIT: Final = 64 * 1024


async def test_what_was_queued_meanwhile_goes_out_in_one_chunk(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    app = Tap(sse_app(broadcaster))
    stream = await stalled_amid_an_event(nursery, broadcaster, app)
    broadcast(broadcaster, *range(100))
    stream.resume()
    await wait_all_tasks_blocked()
    queued = b"".join(ServerSentEvent("x", str(number)).encode() for number in range(100))
    assert app.chunks == [ServerSentEvent("x", "under way").encode(), queued]


@pytest.mark.parametrize("size", [1_000, 30_000, LIMIT - 17, LIMIT // 2 - 17])
async def test_no_chunk_of_several_events_exceeds_64_kib(size: int, nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    app = Tap(sse_app(broadcaster))
    stream = await stalled_amid_an_event(nursery, broadcaster, app)
    for _ in range(200):
        broadcaster.broadcast("x", "y" * size)
    stream.resume()
    await wait_all_tasks_blocked()
    wire = ServerSentEvent("x", "y" * size).encode()
    fitting = LIMIT // len(wire)
    assert app.chunks[1:] == [wire * fitting] * (200 // fitting) + (
        [wire * (200 % fitting)] if 200 % fitting else []
    )


@pytest.mark.parametrize(("excess", "chunks"), [(0, 1), (1, 2)])
async def test_a_chunk_is_full_at_exactly_64_kib(
    excess: int, chunks: int, nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    app = Tap(sse_app(broadcaster))
    stream = await stalled_amid_an_event(nursery, broadcaster, app)
    overhead = 2 * len(ServerSentEvent("x").encode())
    broadcaster.broadcast("x", "y" * (LIMIT - overhead - 10 + excess))
    broadcaster.broadcast("x", "y" * 10)
    stream.resume()
    await wait_all_tasks_blocked()
    assert len(app.chunks[1:]) == chunks


async def test_a_larger_event_goes_alone_and_in_its_place(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    app = Tap(sse_app(broadcaster))
    stream = await stalled_amid_an_event(nursery, broadcaster, app)
    texts = ["a", "b" * (LIMIT + 1), "c", "d", "e" * LIMIT]
    broadcast(broadcaster, *texts)
    broadcaster.close()
    stream.resume()
    assert [event.data async for event in stream] == ["under way", *texts]
    a, b, c, d, e = (ServerSentEvent("x", text).encode() for text in texts)
    assert app.chunks[1:] == [a, b, c + d, e]
    assert stream.complete


async def test_all_clients_send_the_same_bytes_object(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    apps = [Tap(sse_app(broadcaster)) for _ in range(3)]
    for app in apps:
        await open_event_stream(nursery, app)
    broadcaster.broadcast("x", "y" * 1_000)
    await wait_all_tasks_blocked()
    assert len({id(app.chunks[0]) for app in apps}) == 1
