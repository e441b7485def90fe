"""The direct way, past ASGI's `send`, by a bypass that the test holds open, on virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster
from trio_sse._delivery.writer import Writer
from trio_sse.testing import open_event_stream

from ..support.apps import AppOf
from ..support.events import broadcast, wire
from ..support.fake_bypass import FakeBypass, behind, direct
from ..support.streams import come_back


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(4, strict=False, history_size=0)


async def test_events_go_through_the_bypass_once_it_is_open(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster)) as (held, stream):
        assert broadcaster.statistics().clients_direct == 1
        broadcast(broadcaster, "1", "2")
        await wait_all_tasks_blocked()
        assert held.chunks == [b"event: x\ndata: 1\n\nevent: x\ndata: 2\n\n"]
        assert stream.raw_bytes == b"\n"
    assert broadcaster.statistics().streams == 0


async def test_what_was_broadcast_before_the_bypass_opened_goes_through_it(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster), opens=False) as (held, _):
        broadcaster.broadcast("x", "early")
        held.opened.set()
        await wait_all_tasks_blocked()
        assert held.received == b"event: x\ndata: early\n\n"


async def test_a_bypass_that_stays_shut_leaves_the_portable_way(
    app_of: AppOf, broadcaster: Broadcaster, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    held = FakeBypass(Writer())
    stream = await open_event_stream(nursery, behind(held, app_of(broadcaster), opens=False))
    broadcaster.broadcast("x", "1")
    assert (await stream.receive()).data == "1"
    assert trio.current_time() == 1
    held.opened.set()  # Too late: it was decided once.
    broadcaster.broadcast("x", "2")
    assert (await stream.receive()).data == "2"
    assert held.chunks == []
    stream.disconnect()


async def test_a_client_that_leaves_before_the_bypass_opens_is_forgotten(
    app_of: AppOf, broadcaster: Broadcaster, nursery: trio.Nursery
) -> None:
    held = FakeBypass(Writer())
    stream = await open_event_stream(nursery, behind(held, app_of(broadcaster), opens=False))
    await wait_all_tasks_blocked()
    stream.disconnect()
    held.opened.set()
    await wait_all_tasks_blocked()
    assert broadcaster.statistics().clients_direct == broadcaster.statistics().streams == 0


async def test_other_bytes_on_the_connection_are_the_end_of_the_stream(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    """No event is mixed with them: what comes after them is not sent."""
    async with direct(app_of(broadcaster)) as (held, _):
        broadcast(broadcaster, "1")
        await wait_all_tasks_blocked()
        broadcast(broadcaster, "2")
        held.bypass.observe(b"of somebody else's")
        await wait_all_tasks_blocked()
        assert held.received == b"event: x\ndata: 1\n\n"
        assert held.aborted


async def test_silence_gives_one_heartbeat_for_each_interval(
    app_of: AppOf, autojump_clock: MockClock
) -> None:
    async with direct(app_of(Broadcaster(heartbeat_interval=15, history_size=0))) as (held, _):
        await trio.sleep(46 - trio.current_time())
        assert held.chunks == [b": heartbeat\n\n"] * 3


async def test_silence_counts_from_the_last_write(app_of: AppOf, autojump_clock: MockClock) -> None:
    broadcaster = Broadcaster(strict=False, heartbeat_interval=15, history_size=0)
    async with direct(app_of(broadcaster)) as (held, _):
        await trio.sleep_until(10)
        broadcaster.broadcast("x", "1")
        await trio.sleep_until(24)
        assert held.chunks == [b"event: x\ndata: 1\n\n"]
        await trio.sleep_until(26)
        assert held.chunks[1:] == [b": heartbeat\n\n"]


async def test_a_full_socket_gets_no_heartbeat_and_the_rest_once_there_is_room(
    app_of: AppOf, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(4, strict=False, heartbeat_interval=15, history_size=0)
    async with direct(app_of(broadcaster)) as (held, _):
        held.fill()
        broadcaster.broadcast("x", "1")
        await wait_all_tasks_blocked()
        broadcaster.broadcast("x", "2")
        await trio.sleep(100)
        assert held.chunks == [b"event: x\ndata: 1\n\n"]
        held.room.set()
        await wait_all_tasks_blocked()
        assert held.chunks == [b"event: x\ndata: 1\n\n", b"event: x\ndata: 2\n\n"]


async def test_a_burst_longer_than_the_buffer_is_moved_on_instead_of_pruning(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster)) as (held, _):
        broadcast(broadcaster, *range(50))
        await wait_all_tasks_blocked()
        assert held.received == wire(50)
        assert broadcaster.statistics().clients_pruned == 0


async def test_a_socket_that_has_room_again_amid_a_burst_saves_its_client(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster)) as (held, _):
        held.fill()
        broadcast(broadcaster, *range(8))
        held.room.set()
        broadcast(broadcaster, *range(8, 12))
        await wait_all_tasks_blocked()
        assert held.received == wire(12)
        assert broadcaster.statistics().clients_pruned == 0


async def test_a_full_socket_behind_a_full_buffer_is_pruned_drained_and_ended_cleanly(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster)) as (held, stream):
        held.fill()
        broadcast(broadcaster, *range(9))
        assert (broadcaster.client_count, broadcaster.statistics().clients_pruned) == (0, 1)
        await wait_all_tasks_blocked()
        held.room.set()
        await wait_all_tasks_blocked()
        assert held.received == wire(8)
        assert stream.complete


async def test_no_write_of_several_events_exceeds_64_kib(app_of: AppOf) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    async with direct(app_of(broadcaster)) as (held, _):
        for n in range(5):
            broadcaster.broadcast("x", str(n) * 30_000)
        await wait_all_tasks_blocked()
        assert [chunk.count(b"event") for chunk in held.chunks] == [2, 2, 1]
        assert all(len(chunk) <= 64 * 1024 for chunk in held.chunks)


async def test_closing_ends_the_stream_after_what_is_queued(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster)) as (held, stream):
        broadcaster.broadcast("x", "last")
        broadcaster.close()
        await wait_all_tasks_blocked()
        assert (held.received, stream.complete) == (b"event: x\ndata: last\n\n", True)


async def test_pacing_sees_what_the_writer_takes(app_of: AppOf, broadcaster: Broadcaster) -> None:
    async with direct(app_of(broadcaster)) as (held, _):
        broadcaster.broadcast("x", "1")
        await broadcaster.wait_all_taken()
        assert held.received == b"event: x\ndata: 1\n\n"


@pytest.mark.parametrize("full", [False, True], ids=["amid a write", "amid a flush"])
async def test_a_connection_that_breaks_ends_the_stream_and_is_aborted(
    full: bool, app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster)) as (held, _):
        if full:
            held.fill()
            broadcaster.broadcast("x", "1")
            await wait_all_tasks_blocked()
        held.broken = True
        held.room.set()
        broadcaster.broadcast("x", "2")
        await wait_all_tasks_blocked()
        assert held.aborted
        assert broadcaster.statistics().streams == 0


async def test_a_broken_connection_does_not_relieve_a_full_buffer(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster)) as (held, _):
        held.broken = True
        broadcast(broadcaster, *range(6))
        await wait_all_tasks_blocked()
        assert held.aborted
        assert broadcaster.client_count == 0


async def test_a_forced_end_with_a_full_socket_leaves_no_client(
    app_of: AppOf, broadcaster: Broadcaster, autojump_clock: MockClock
) -> None:
    async with direct(app_of(broadcaster)) as (held, _):
        held.fill()
        broadcaster.broadcast("x", "1")
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await broadcaster.aclose()
        await trio.sleep(1)
        assert broadcaster.statistics().streams == 0


async def test_a_burst_to_a_connection_that_has_just_broken_harms_nobody_else(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster)) as (held, _):
        with broadcaster.subscribe() as other:
            held.broken = True
            broadcast(broadcaster, *range(4))
            for n in range(4, 12):
                other.receive_nowait()
                broadcaster.broadcast("x", str(n))
            assert broadcaster.client_count == 1
            assert other.statistics().current_buffer_used == 4
        await wait_all_tasks_blocked()
        assert broadcaster.statistics().streams == 0


async def test_a_client_pruned_before_the_bypass_opened_comes_to_its_end(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with direct(app_of(broadcaster), opens=False) as (held, stream):
        broadcast(broadcaster, *range(8))
        assert broadcaster.client_count == 0
        held.opened.set()
        await wait_all_tasks_blocked()
        assert stream.complete
        assert broadcaster.statistics().streams == 0
    assert held.received == wire(4)


async def test_a_socket_that_fills_with_a_long_past_does_not_relieve_a_full_buffer(
    app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = iter([True])

    def flush_nowait() -> None:
        if not next(rooms, False):
            raise trio.WouldBlock

    broadcaster = Broadcaster(2, strict=False, history_size=10_000)
    with broadcaster.subscribe() as subscription:
        broadcaster.broadcast("x", "first")
        first = subscription.receive_nowait().id
    for n in range(3000):
        broadcaster.broadcast("x", f"{n} {'x' * 100}")
    held = FakeBypass(Writer())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held.writer.run)
        app = behind(held, app_of(broadcaster))
        held.fill()
        stream = await come_back(nursery, app, str(first))
        monkeypatch.setattr(held, "flush_nowait", flush_nowait)
        broadcast(broadcaster, *range(8))
        assert broadcaster.statistics().clients_pruned == 1
        monkeypatch.undo()
        held.room.set()
        await wait_all_tasks_blocked()
        assert stream.complete
        nursery.cancel_scope.cancel()
    assert held.received.endswith(b"data: 1\n\n")


async def test_a_way_that_is_revoked_before_its_first_turn_has_a_clean_end(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    writer = Writer()
    held = FakeBypass(writer)
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, behind(held, app_of(broadcaster)))
        await wait_all_tasks_blocked()
        held.bypass.revoke()
        nursery.start_soon(writer.run)
        await wait_all_tasks_blocked()
        broadcaster.close()
        assert [event async for event in stream] == []
        assert not held.aborted
        nursery.cancel_scope.cancel()


async def test_what_turns_out_not_to_fit_after_the_round_is_flushed_by_the_stream(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    writer = Writer()
    held = FakeBypass(writer, "soon")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await open_event_stream(nursery, behind(held, app_of(broadcaster)))
        await wait_all_tasks_blocked()
        held.fill()
        broadcast(broadcaster, 0, 1)
        await wait_all_tasks_blocked()
        broadcast(broadcaster, 2)
        await wait_all_tasks_blocked()
        assert held.chunks == []
        held.room.set()
        await wait_all_tasks_blocked()
        assert held.received == wire(3)
        nursery.cancel_scope.cancel()
