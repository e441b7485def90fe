"""Clients of the direct way that keep up share a queue: nobody may notice, on virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse._delivery.writer import Writer
from trio_sse.testing import open_event_stream

from ..support.events import broadcast, wire
from ..support.fake_bypass import FakeBypass, behind, direct


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(8, strict=False, history_size=0)


async def open_bypasses(
    count: int, broadcaster: Broadcaster, nursery: trio.Nursery
) -> list[FakeBypass]:
    """Let clients come, all by one writer."""
    writer = Writer()
    nursery.start_soon(writer.run)
    bypasses = [FakeBypass(writer) for _ in range(count)]
    for bypass in bypasses:
        await open_event_stream(nursery, behind(bypass, sse_app(broadcaster)))
    await wait_all_tasks_blocked()
    return bypasses


async def test_those_who_keep_up_are_written_the_same_bytes(
    broadcaster: Broadcaster, nursery: trio.Nursery
) -> None:
    bypasses = await open_bypasses(140, broadcaster, nursery)
    broadcast(broadcaster, *range(3))
    await wait_all_tasks_blocked()
    assert [bypass.received for bypass in bypasses] == [wire(3)] * 140
    assert len({id(bypass.chunks[0]) for bypass in bypasses}) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("short_turns")
async def test_one_who_catches_up_amid_a_round_gets_each_event_once(
    broadcaster: Broadcaster, nursery: trio.Nursery
) -> None:
    """Twenty times, since Trio lets the tasks run in any order."""
    bypasses = await open_bypasses(4, broadcaster, nursery)
    for n in range(0, 80, 4):
        bypasses[-1].fill()
        broadcaster.broadcast("x", n)
        await wait_all_tasks_blocked()
        bypasses[-1].room.set()
        broadcaster.broadcast("x", n + 1)
        await trio.lowlevel.checkpoint()
        broadcaster.broadcast("x", n + 2)
        await trio.lowlevel.checkpoint()
        broadcaster.broadcast("x", n + 3)
        if n % 8:
            await broadcaster.wait_all_taken()
        await wait_all_tasks_blocked()
    assert [bypass.received for bypass in bypasses] == [wire(80)] * 4
    nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("short_turns")
async def test_those_who_leave_amid_a_round_disturb_nobody(
    broadcaster: Broadcaster, nursery: trio.Nursery
) -> None:
    bypasses = await open_bypasses(6, broadcaster, nursery)
    for n in range(4):
        broadcaster.broadcast("x", n)
        await trio.lowlevel.checkpoint()
        bypasses[n].broken = True
    await wait_all_tasks_blocked()
    broadcaster.broadcast("x", 4)
    await wait_all_tasks_blocked()
    assert broadcaster.client_count == 2
    assert [bypass.received for bypass in bypasses[4:]] == [wire(5)] * 2
    assert all(wire(5).startswith(bypass.received) for bypass in bypasses)
    nursery.cancel_scope.cancel()


async def test_silence_is_counted_from_the_last_write_to_all(
    broadcaster: Broadcaster, autojump_clock: MockClock
) -> None:
    """Also by a client that has left the shared queue without being written to since."""
    async with direct(sse_app(broadcaster)) as (held, _):
        await trio.sleep_until(10)
        broadcaster.broadcast("x", 0)
        await trio.sleep_until(12)
        await broadcaster.wait_all_taken()
        await trio.sleep_until(24.999)
        assert held.received == wire(1)
        await trio.sleep_until(25.001)
        assert held.received == wire(1) + b": heartbeat\n\n"
