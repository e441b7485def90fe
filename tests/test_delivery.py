"""From a broadcast to the bytes of a response, through each door."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster, ServerSentEvent, sse_app
from trio_sse.testing import EventStream

from .conftest import Door, Tap, join, with_plain_receive

HEARTBEAT = b": heartbeat\n\n"


def broadcast(broadcaster: Broadcaster, *data: object) -> None:
    for each in data:
        broadcaster.broadcast("x", each)


async def rest(stream: EventStream) -> list[str]:
    """Return the data of all events up to the stream's clean end."""
    return [event.data async for event in stream]


class Steps(trio.abc.Instrument):
    """How often any task has run."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


# Both doors: events


async def test_the_head_comes_at_once(door: Door, nursery: trio.Nursery) -> None:
    stream = await join(nursery, door(Broadcaster()))
    assert stream.status == 200
    assert stream.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
    }
    assert stream.raw_bytes == b""
    assert not stream.complete


async def test_events_arrive_as_they_are_broadcast(door: Door, nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster()
    broadcaster.register_event("price")
    stream = await join(nursery, door(broadcaster))
    broadcaster.broadcast("price", {"bid": 42})
    event = await stream.receive()
    assert (event.event, event.data) == ("price", '{"bid":42}')
    assert stream.raw_bytes == ServerSentEvent("price", '{"bid":42}').encode()


async def test_every_stream_gets_every_event_once_and_in_order(
    door: Door, nursery: trio.Nursery
) -> None:
    broadcaster = Broadcaster(strict=False)
    app = door(broadcaster)
    streams = [await join(nursery, app) for _ in range(5)]
    for number in range(100):
        broadcast(broadcaster, number)
        if number % 7 == 0:
            await trio.lowlevel.checkpoint()
    broadcaster.close()
    for stream in streams:
        assert await rest(stream) == [str(number) for number in range(100)]
        assert stream.complete


async def test_closing_sends_what_is_queued_and_ends_the_stream_cleanly(
    door: Door, nursery: trio.Nursery
) -> None:
    broadcaster = Broadcaster(strict=False)
    app = Tap(door(broadcaster))
    stream = await join(nursery, app)
    broadcast(broadcaster, "1", "2")
    broadcaster.close()
    assert await rest(stream) == ["1", "2"]
    assert stream.complete
    await app.finished.wait()
    assert broadcaster.statistics().streams == 0


async def test_a_client_that_leaves_is_noticed_at_once(
    door: Door, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster()
    app = Tap(door(broadcaster))
    stream = await join(nursery, app)
    assert broadcaster.client_count == 1
    stream.disconnect()
    await app.finished.wait()
    assert broadcaster.client_count == broadcaster.statistics().streams == 0
    assert trio.current_time() == 0


async def test_a_stalled_client_that_leaves_is_noticed_at_once(
    door: Door, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False)
    app = Tap(door(broadcaster))
    stream = await join(nursery, app)
    stream.stall()
    broadcast(broadcaster, "1")
    await wait_all_tasks_blocked()
    stream.disconnect()
    await app.finished.wait()
    assert broadcaster.client_count == broadcaster.statistics().streams == 0
    assert trio.current_time() == 0


async def test_a_cancelled_server_leaves_no_client_behind(door: Door) -> None:
    broadcaster = Broadcaster()
    async with trio.open_nursery() as nursery:
        await join(nursery, door(broadcaster))
        nursery.cancel_scope.cancel()
    assert broadcaster.client_count == broadcaster.statistics().streams == 0


# Both doors: pruning


async def test_a_pruned_client_gets_its_backlog_without_a_hole_and_a_clean_end(
    door: Door, nursery: trio.Nursery
) -> None:
    broadcaster = Broadcaster(5, strict=False)
    app = Tap(door(broadcaster))
    slow, quick = await join(nursery, app), await join(nursery, door(broadcaster))
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


# Both doors: heartbeats


async def test_after_15_seconds_of_silence_there_is_exactly_one_heartbeat(
    door: Door, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream = await join(nursery, door(Broadcaster()))
    await trio.sleep_until(14.999)
    assert stream.raw_bytes == b""
    await trio.sleep_until(15)
    await wait_all_tasks_blocked()
    assert stream.raw_bytes == HEARTBEAT
    await trio.sleep_until(29.999)
    assert stream.raw_bytes == HEARTBEAT


async def test_silence_that_goes_on_gives_a_heartbeat_each_interval(
    door: Door, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream = await join(nursery, door(Broadcaster(heartbeat_interval=0.25)))
    await trio.sleep(3600.1)
    assert stream.raw_bytes == HEARTBEAT * 4 * 3600


async def test_silence_is_counted_from_the_last_event(
    door: Door, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False)
    stream = await join(nursery, door(broadcaster))
    for moment in (4, 10, 11):
        await trio.sleep_until(moment)
        broadcast(broadcaster, moment)
    await trio.sleep_until(25.999)
    assert stream.comments == []
    await trio.sleep_until(26.001)
    assert stream.comments == ["heartbeat"]


async def test_there_are_no_heartbeats_amid_traffic(
    door: Door, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False)
    stream = await join(nursery, door(broadcaster))
    for number in range(100):
        await trio.sleep(14.9)
        broadcast(broadcaster, number)
    assert stream.comments == []


@pytest.mark.parametrize("never", [None, math.inf])
async def test_without_an_interval_there_are_no_heartbeats(
    never: float | None, door: Door, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False, heartbeat_interval=never)
    stream = await join(nursery, door(broadcaster))
    await trio.sleep(1e6)
    broadcast(broadcaster, "still there")
    assert (await stream.receive()).data == "still there"
    assert stream.comments == []


async def test_an_event_at_the_very_deadline_is_neither_lost_nor_doubled(
    door: Door, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False, heartbeat_interval=1)
    stream = await join(nursery, door(broadcaster))
    for number in range(200):
        await trio.sleep_until(number + 1)
        broadcast(broadcaster, number)
    broadcaster.close()
    assert await rest(stream) == [str(number) for number in range(200)]
    assert 0 < len(stream.comments) < 200  # It was a race, and each side has won some.


async def test_a_stalled_client_gets_no_heap_of_heartbeats_and_costs_nothing(
    door: Door, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False)
    stream = await join(nursery, door(broadcaster))
    stream.stall()
    broadcast(broadcaster, "1")
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    await trio.sleep(3600)
    trio.lowlevel.remove_instrument(steps)
    assert steps.count <= 2 * 3600 / 15
    stream.resume()
    await wait_all_tasks_blocked()
    assert stream.comments == []
    await trio.sleep(15.001)
    assert 1 <= len(stream.comments) <= 2


async def test_heartbeats_come_whatever_kind_of_object_receive_is(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False)
    app = Tap(with_plain_receive(sse_app(broadcaster)))
    stream = await join(nursery, app)
    await trio.sleep_until(15.001)
    assert stream.raw_bytes == HEARTBEAT
    broadcast(broadcaster, "1")
    assert (await stream.receive()).data == "1"
    stream.disconnect()
    await app.finished.wait()
    assert broadcaster.client_count == 0
