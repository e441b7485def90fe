"""Heartbeats: when a stream says that it lives, by each way to serve it, on virtual time."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse.testing import open_event_stream

from ..support.apps import AppOf
from ..support.asgi import Tap, with_plain_receive

HEARTBEAT = b": heartbeat\n\n"


class Steps(trio.abc.Instrument):
    """How often any task has run."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_after_15_seconds_of_silence_there_is_exactly_one_heartbeat(
    app_of: AppOf, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream = await open_event_stream(nursery, app_of(Broadcaster(history_size=0)))
    await trio.sleep_until(14.999)
    assert stream.raw_bytes == b""
    await trio.sleep_until(15)
    await wait_all_tasks_blocked()
    assert stream.raw_bytes == HEARTBEAT
    await trio.sleep_until(29.999)
    assert stream.raw_bytes == HEARTBEAT


async def test_silence_that_goes_on_gives_a_heartbeat_each_interval(
    app_of: AppOf, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream = await open_event_stream(
        nursery, app_of(Broadcaster(heartbeat_interval=0.25, history_size=0))
    )
    await trio.sleep(60.1)
    assert stream.raw_bytes == HEARTBEAT * 4 * 60


async def test_silence_is_counted_from_the_last_event(
    app_of: AppOf, nursery: trio.Nursery, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    stream = await open_event_stream(nursery, app_of(broadcaster))
    for moment in (4, 10, 11):
        await trio.sleep_until(moment)
        broadcaster.broadcast("x", moment)
    await trio.sleep_until(25.999)
    assert stream.comments == []
    await trio.sleep_until(26.001)
    assert stream.comments == ["heartbeat"]


async def test_there_are_no_heartbeats_amid_traffic(
    app_of: AppOf, nursery: trio.Nursery, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    stream = await open_event_stream(nursery, app_of(broadcaster))
    for number in range(100):
        await trio.sleep(14.9)
        broadcaster.broadcast("x", number)
    assert stream.comments == []


@pytest.mark.parametrize("never", [None, math.inf])
async def test_without_an_interval_there_are_no_heartbeats(
    never: float | None, app_of: AppOf, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False, heartbeat_interval=never, history_size=0)
    stream = await open_event_stream(nursery, app_of(broadcaster))
    await trio.sleep(86_000)
    broadcaster.broadcast("x", "still there")
    assert (await stream.receive()).data == "still there"
    assert stream.comments == []


async def test_an_event_at_the_very_deadline_is_neither_lost_nor_doubled(
    app_of: AppOf, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False, heartbeat_interval=1, history_size=0)
    stream = await open_event_stream(nursery, app_of(broadcaster))
    for number in range(0, 201, 3):
        broadcaster.broadcast("x", number)
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        mock_clock.jump(1)
        broadcaster.broadcast("x", number + 1)
        await wait_all_tasks_blocked()
        mock_clock.jump(1)
        await trio.lowlevel.checkpoint()  # In any order with what the deadline has woken.
        broadcaster.broadcast("x", number + 2)
        await wait_all_tasks_blocked()
    broadcaster.close()
    assert [event.data async for event in stream] == [str(number) for number in range(201)]
    assert 0 < len(stream.comments) < 201  # It was a race, and each side has won some.


async def test_a_stalled_client_gets_no_heap_of_heartbeats_and_costs_nothing(
    app_of: AppOf, nursery: trio.Nursery, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    stream = await open_event_stream(nursery, app_of(broadcaster))
    stream.stall()
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    await trio.sleep(3600)
    trio.lowlevel.remove_instrument(steps)
    assert steps.count <= 2 * 3600 / 15
    stream.resume()
    await wait_all_tasks_blocked()
    assert stream.comments == ["heartbeat"]


async def test_heartbeats_come_whatever_kind_of_object_receive_is(
    nursery: trio.Nursery, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    app = Tap(with_plain_receive(sse_app(broadcaster)))
    stream = await open_event_stream(nursery, app)
    await trio.sleep_until(15.001)
    assert stream.raw_bytes == HEARTBEAT
    broadcaster.broadcast("x", "1")
    assert (await stream.receive()).data == "1"
    stream.disconnect()
    await app.finished.wait()
    assert broadcaster.client_count == 0


async def test_a_heartbeat_takes_no_events_place_in_the_buffer(
    app_of: AppOf, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    broadcaster = Broadcaster(1, strict=False, heartbeat_interval=1, history_size=0)
    stream = await open_event_stream(nursery, app_of(broadcaster))
    for number in range(20):
        mock_clock.jump(1)
        broadcaster.broadcast("x", number)  # To the writer, which waits for it.
        broadcaster.broadcast("x", number)  # Fills the buffer, before the heartbeat's time is seen.
        await wait_all_tasks_blocked()
    broadcaster.close()
    assert [event.data async for event in stream] == [str(n // 2) for n in range(40)]
    assert broadcaster.statistics().clients_pruned == 0
