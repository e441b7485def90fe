"""`close`, `aclose`, `async with`: how a broadcaster ends, and what ends with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse._core.hub import hub_of
from trio_sse._core.options import StreamOptions
from trio_sse._core.relay import Replayed
from trio_sse._delivery.active_streams import ActiveStream, ActiveStreams
from trio_sse.testing import open_event_stream

from ..support.apps import AppOf
from ..support.streams import stalled_amid_an_event


def test_a_closed_broadcaster_admits_nobody(broadcaster: Broadcaster) -> None:
    broadcaster.close()
    broadcaster.close()
    assert broadcaster.closed
    with pytest.raises(trio.ClosedResourceError, match="this broadcaster was closed"):
        broadcaster.broadcast("x", "1")
    with pytest.raises(trio.ClosedResourceError, match="this broadcaster was closed"):
        broadcaster.subscribe()


async def test_closing_ends_subscriptions_after_what_was_queued(broadcaster: Broadcaster) -> None:
    subscription = broadcaster.subscribe()
    broadcaster.broadcast("x", "last")
    broadcaster.close()
    assert broadcaster.client_count == 0
    assert [event.data async for event in subscription] == ["last"]


async def test_aclose_checkpoints_and_may_be_repeated() -> None:
    broadcaster = Broadcaster()
    for _ in range(2):
        with assert_checkpoints():
            await broadcaster.aclose()
    assert broadcaster.closed


async def test_leaving_the_block_closes_the_broadcaster(nursery: trio.Nursery) -> None:
    async with Broadcaster(strict=False) as broadcaster:
        stream = await open_event_stream(nursery, sse_app(broadcaster))
        broadcaster.broadcast("x", "last")
    assert broadcaster.closed
    assert [event.data async for event in stream] == ["last"]
    assert stream.complete


async def test_aclose_waits_for_the_last_response(app_of: AppOf, autojump_clock: MockClock) -> None:
    broadcaster = Broadcaster(2, strict=False)
    async with trio.open_nursery() as nursery:
        streams = [await open_event_stream(nursery, app_of(broadcaster)) for _ in range(3)]
        for seconds, stream in enumerate(streams):
            stream.stall()
            nursery.start_soon(resume_after, seconds, stream.resume)
        broadcaster.broadcast("x", "last")
        await broadcaster.aclose()
        assert trio.current_time() == 2
    assert all(stream.complete for stream in streams)


async def resume_after(seconds: float, resume: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    resume()


async def test_aclose_waits_for_the_responses_of_pruned_clients_too(
    autojump_clock: MockClock,
) -> None:
    broadcaster = Broadcaster(1, strict=False)
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, sse_app(broadcaster))
        stream.stall()
        for number in range(3):
            broadcaster.broadcast("x", number)
            await wait_all_tasks_blocked()
        assert broadcaster.client_count == 0
        nursery.start_soon(resume_after, 7, stream.resume)
        await broadcaster.aclose()
        assert trio.current_time() == 7


async def test_aclose_does_not_wait_for_subscriptions_of_the_program() -> None:
    broadcaster = Broadcaster(strict=False)
    async with broadcaster.subscribe() as subscription:
        broadcaster.broadcast("x", "unread")
        await broadcaster.aclose()
        assert subscription.receive_nowait().data == "unread"


async def test_a_cancelled_aclose_ends_idle_streams_cleanly_and_cuts_stalled_ones(
    asgi_app_of: AppOf, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    async with trio.open_nursery() as nursery:
        stalled = await stalled_amid_an_event(nursery, broadcaster, asgi_app_of(broadcaster))
        idle = await open_event_stream(nursery, asgi_app_of(broadcaster))
        await wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await broadcaster.aclose()
    assert trio.current_time() == 0
    assert idle.complete
    assert not stalled.complete
    stalled.resume()
    with pytest.raises(trio.BrokenResourceError):
        await stalled.receive()


async def test_a_cancelled_aclose_waits_half_a_second_for_an_epilogue_that_blocks(
    asgi_app_of: AppOf, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, asgi_app_of(broadcaster))
        stream.stall()
        with trio.move_on_after(3):
            await broadcaster.aclose()
        assert trio.current_time() == 3
    assert trio.current_time() == 3.5
    assert not stream.complete


async def test_a_cancelled_aclose_still_cancels() -> None:
    broadcaster = Broadcaster()
    with trio.CancelScope() as scope:
        scope.cancel()
        await broadcaster.aclose()
    assert scope.cancelled_caught
    assert broadcaster.closed


async def test_a_cancelled_aclose_does_not_mind_a_response_that_has_not_begun() -> None:
    broadcaster = Broadcaster(1, strict=False)
    opened = hub_of(broadcaster).open(StreamOptions(), Replayed(None))
    with ActiveStream(opened, ActiveStreams()):
        while not opened.client.pruned:
            broadcaster.broadcast("x", "y")
        with trio.move_on_after(0) as scope:
            await broadcaster.aclose()
    assert scope.cancelled_caught
