"""`wait_all_taken`: how a publisher keeps pace with its clients."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_sse import Broadcaster, Subscription, sse_app
from trio_sse.testing import open_event_stream

from ..support.events import broadcast

Release = Callable[[Broadcaster, Subscription], object]

#: What may happen to a client with a full buffer of two, so that it holds nobody up any more.
RELEASES: Final[dict[str, Release]] = {
    "it takes all": lambda _, client: drain(client),
    "it is pruned": lambda broadcaster, _: broadcaster.broadcast("x", "does not fit"),
    "it leaves": lambda _, client: client.close(),
    "all is closed": lambda broadcaster, _: broadcaster.close(),
}


def drain(client: Subscription) -> None:
    with suppress(trio.WouldBlock, trio.EndOfChannel, trio.BrokenResourceError):
        while True:
            client.receive_nowait()


async def start_waiting(nursery: trio.Nursery, broadcaster: Broadcaster) -> trio.Event:
    """Start a publisher that waits until all is taken; return what it sets then."""
    done = trio.Event()

    async def wait() -> None:
        await broadcaster.wait_all_taken()
        done.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    return done


async def test_without_clients_all_is_taken() -> None:
    with assert_checkpoints():
        await Broadcaster().wait_all_taken()


async def test_with_empty_buffers_all_is_taken(broadcaster: Broadcaster) -> None:
    async with broadcaster.subscribe() as client:
        broadcaster.broadcast("x", "1")
        client.receive_nowait()
        with assert_checkpoints():
            await broadcaster.wait_all_taken()


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
async def test_a_publisher_waits_for_a_client_until(
    release: Release, nursery: trio.Nursery
) -> None:
    broadcaster = Broadcaster(2, strict=False)
    async with broadcaster.subscribe() as client:
        broadcast(broadcaster, "1", "2")
        done = await start_waiting(nursery, broadcaster)
        client.receive_nowait()
        broadcaster.broadcast("x", "3")
        await wait_all_tasks_blocked()
        assert not done.is_set()
        release(broadcaster, client)
        await wait_all_tasks_blocked()
        assert done.is_set()


@pytest.mark.parametrize("position", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
async def test_while_a_publisher_waits_for_one_client_another_releases_it_too_when(
    release: Release, position: int, nursery: trio.Nursery
) -> None:
    broadcaster = Broadcaster(2, strict=False)
    with broadcaster.subscribe() as first, broadcaster.subscribe() as second:
        released, reader = (first, second) if position == 0 else (second, first)
        broadcast(broadcaster, "1", "2")
        reader.receive_nowait()
        done = await start_waiting(nursery, broadcaster)
        release(broadcaster, released)
        drain(reader)
        await wait_all_tasks_blocked()
        assert done.is_set()


async def test_what_others_broadcast_meanwhile_does_not_hold_a_publisher_up(
    nursery: trio.Nursery,
) -> None:
    broadcaster = Broadcaster(2, strict=False)
    async with broadcaster.subscribe() as client:
        broadcaster.broadcast("x", "before")
        done = await start_waiting(nursery, broadcaster)
        broadcaster.broadcast("x", "after")
        client.receive_nowait()
        await wait_all_tasks_blocked()
        assert done.is_set()


async def test_a_client_that_comes_meanwhile_does_not_hold_a_publisher_up(
    nursery: trio.Nursery,
) -> None:
    broadcaster = Broadcaster(2, strict=False)
    async with broadcaster.subscribe() as client:
        broadcaster.broadcast("x", "before")
        done = await start_waiting(nursery, broadcaster)
        async with broadcaster.subscribe():
            broadcaster.broadcast("x", "after")
            drain(client)
            await wait_all_tasks_blocked()
            assert done.is_set()


async def test_several_publishers_may_wait_at_once(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False)
    async with broadcaster.subscribe() as client:
        broadcaster.broadcast("x", "1")
        done = [await start_waiting(nursery, broadcaster) for _ in range(3)]
        drain(client)
        await wait_all_tasks_blocked()
        assert all(event.is_set() for event in done)


async def test_a_publisher_that_waits_can_be_cancelled(autojump_clock: MockClock) -> None:
    broadcaster = Broadcaster(strict=False)
    async with broadcaster.subscribe() as client:
        broadcaster.broadcast("x", "1")
        with trio.move_on_after(3) as scope:
            await broadcaster.wait_all_taken()
        assert scope.cancelled_caught
        assert client.receive_nowait().data == "1"


async def test_batches_of_the_buffers_size_lose_no_client_that_reads(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(4, strict=False)
    stream = await open_event_stream(nursery, sse_app(broadcaster))
    for number in range(100):
        broadcaster.broadcast("x", number)
        if number % 4 == 3:
            await broadcaster.wait_all_taken()
    assert [(await stream.receive()).data for _ in range(100)] == [str(n) for n in range(100)]
    assert broadcaster.statistics().clients_pruned == 0


async def test_who_gives_up_waiting_leaves_nothing_behind(broadcaster: Broadcaster) -> None:
    def count_events() -> int:
        gc.collect()
        return sum(type(one) is trio.Event for one in gc.get_objects())

    with broadcaster.subscribe():
        broadcaster.broadcast("x", "y")
        before = count_events()
        for _ in range(100):
            with trio.move_on_after(0):
                await broadcaster.wait_all_taken()
        assert count_events() < before + 50
