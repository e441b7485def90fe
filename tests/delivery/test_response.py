"""From a broadcast to the bytes of a response, by each way to serve it."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster, ServerSentEvent
from trio_sse.testing import EventStream, open_event_stream

from ..support.apps import AppOf
from ..support.asgi import STREAM_HEADERS, Tap
from ..support.events import broadcast


async def rest(stream: EventStream) -> list[str]:
    """Return the data of all events up to the stream's clean end."""
    return [event.data async for event in stream]


async def test_the_head_comes_at_once(app_of: AppOf, nursery: trio.Nursery) -> None:
    stream = await open_event_stream(nursery, app_of(Broadcaster(history_size=0)))
    assert stream.status == 200
    assert stream.headers == STREAM_HEADERS
    assert stream.raw_bytes == b""
    assert not stream.complete


async def test_events_arrive_as_they_are_broadcast(app_of: AppOf, nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(history_size=0)
    broadcaster.register_event("price")
    stream = await open_event_stream(nursery, app_of(broadcaster))
    broadcaster.broadcast("price", {"bid": 42})
    event = await stream.receive()
    assert (event.event, event.data) == ("price", '{"bid":42}')
    assert stream.raw_bytes == ServerSentEvent("price", '{"bid":42}').encode()


async def test_every_stream_gets_every_event_once_and_in_order(
    app_of: AppOf, nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    app = app_of(broadcaster)
    streams = [await open_event_stream(nursery, app) for _ in range(5)]
    for number in range(100):
        broadcast(broadcaster, number)
        if number % 7 == 0:
            await trio.lowlevel.checkpoint()
    broadcaster.close()
    for stream in streams:
        assert await rest(stream) == [str(number) for number in range(100)]
        assert stream.complete


async def test_closing_sends_what_is_queued_and_ends_the_stream_cleanly(
    app_of: AppOf, nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    app = Tap(app_of(broadcaster))
    stream = await open_event_stream(nursery, app)
    broadcast(broadcaster, "1", "2")
    broadcaster.close()
    assert await rest(stream) == ["1", "2"]
    assert stream.complete
    await app.finished.wait()
    assert broadcaster.statistics().streams == 0


async def test_a_client_that_leaves_is_noticed_at_once(
    app_of: AppOf, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(history_size=0)
    app = Tap(app_of(broadcaster))
    stream = await open_event_stream(nursery, app)
    assert broadcaster.client_count == 1
    stream.disconnect()
    await app.finished.wait()
    assert broadcaster.client_count == broadcaster.statistics().streams == 0
    assert trio.current_time() == 0


async def test_a_stalled_client_that_leaves_is_noticed_at_once(
    app_of: AppOf, nursery: trio.Nursery, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    app = Tap(app_of(broadcaster))
    stream = await open_event_stream(nursery, app)
    stream.stall()
    broadcast(broadcaster, "1")
    await wait_all_tasks_blocked()
    stream.disconnect()
    await app.finished.wait()
    assert broadcaster.client_count == broadcaster.statistics().streams == 0
    assert trio.current_time() == 0


async def test_a_cancelled_server_leaves_no_client_behind(app_of: AppOf) -> None:
    broadcaster = Broadcaster(history_size=0)
    async with trio.open_nursery() as nursery:
        await open_event_stream(nursery, app_of(broadcaster))
        nursery.cancel_scope.cancel()
    assert broadcaster.client_count == broadcaster.statistics().streams == 0


async def test_a_pruned_client_gets_its_backlog_without_a_hole_and_a_clean_end(
    app_of: AppOf, nursery: trio.Nursery
) -> None:
    broadcaster = Broadcaster(5, strict=False, history_size=0)
    app = Tap(app_of(broadcaster))
    slow, quick = (
        await open_event_stream(nursery, app),
        await open_event_stream(nursery, app_of(broadcaster)),
    )
    slow.stall()
    for number in range(20):
        broadcast(broadcaster, number)
        await wait_all_tasks_blocked()
    assert (broadcaster.client_count, broadcaster.statistics().streams) == (1, 2)
    slow.resume()
    assert await rest(slow) == [str(number) for number in range(6)]  # One sent, five queued.
    assert slow.complete
    await app.finished.wait()
    assert broadcaster.statistics().streams == 1
    broadcaster.close()
    assert await rest(quick) == [str(number) for number in range(20)]
