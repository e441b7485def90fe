"""A subscription is a Trio receive channel: how it gives events, ends, breaks and closes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from trio.testing import (
    MockClock,
    assert_checkpoints,
    assert_no_checkpoints,
    wait_all_tasks_blocked,
)

from trio_sse import RESET_EVENT, Broadcaster, ServerSentEvent, Subscription

from ..support.events import broadcast


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(2, strict=False, history_size=0)


def taken(subscription: Subscription, count: int) -> Iterator[str | None]:
    return (subscription.receive_nowait().data for _ in range(count))


async def test_a_subscription_is_a_receive_channel(broadcaster: Broadcaster) -> None:
    async with broadcaster.subscribe() as subscription:
        assert isinstance(subscription, Subscription)
        assert isinstance(subscription, trio.abc.ReceiveChannel)


async def test_it_holds_what_is_broadcast_from_the_call_on(broadcaster: Broadcaster) -> None:
    broadcast(broadcaster, "before")
    with assert_no_checkpoints():
        subscription = broadcaster.subscribe()
        assert broadcaster.client_count == 1
    with subscription:
        broadcast(broadcaster, "after")
        assert await subscription.receive() == ServerSentEvent("x", "after")


async def test_receive_waits_for_the_next_event(
    broadcaster: Broadcaster, nursery: trio.Nursery
) -> None:
    received: list[str | None] = []

    async def read(subscription: Subscription) -> None:
        received.append((await subscription.receive()).data)

    async with broadcaster.subscribe() as subscription:
        nursery.start_soon(read, subscription)
        await wait_all_tasks_blocked()
        assert received == []
        broadcast(broadcaster, "1")
        await wait_all_tasks_blocked()
        assert received == ["1"]


async def test_receive_nowait_does_not_wait(broadcaster: Broadcaster) -> None:
    async with broadcaster.subscribe() as subscription:
        with assert_no_checkpoints(), pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()
        broadcast(broadcaster, "1")
        with assert_no_checkpoints():
            assert subscription.receive_nowait().data == "1"


async def test_receive_checkpoints_though_an_event_is_there(broadcaster: Broadcaster) -> None:
    async with broadcaster.subscribe() as subscription:
        broadcast(broadcaster, "1", "2")
        for _ in range(2):
            with assert_checkpoints():
                await subscription.receive()


async def test_iteration_ends_when_the_broadcaster_is_closed(broadcaster: Broadcaster) -> None:
    async with broadcaster.subscribe() as subscription:
        broadcast(broadcaster, "1", "2")
        broadcaster.close()
        assert [event.data async for event in subscription] == ["1", "2"]
        with pytest.raises(trio.EndOfChannel):
            await subscription.receive()
        with pytest.raises(trio.EndOfChannel):
            subscription.receive_nowait()


async def test_a_pruned_one_gets_its_backlog_and_then_breaks(broadcaster: Broadcaster) -> None:
    async with broadcaster.subscribe() as subscription:
        broadcast(broadcaster, "1", "2", "does not fit", "comes later")
        assert list(taken(subscription, 2)) == ["1", "2"]
        with pytest.raises(trio.BrokenResourceError, match="buffer was full"):
            await subscription.receive()
        with pytest.raises(trio.BrokenResourceError, match="buffer was full"):
            subscription.receive_nowait()


async def test_a_pruned_one_breaks_though_the_broadcaster_is_closed_later(
    broadcaster: Broadcaster,
) -> None:
    async with broadcaster.subscribe() as subscription:
        broadcast(broadcaster, "1", "2", "does not fit")
        broadcaster.close()
        assert list(taken(subscription, 2)) == ["1", "2"]
        with pytest.raises(trio.BrokenResourceError):
            await subscription.receive()


async def read_into(received: list[str | None], subscription: Subscription) -> None:
    async for event in subscription:
        received.append(event.data)  # noqa: PERF401 (what was received before an error counts)


async def test_iteration_breaks_when_pruned(broadcaster: Broadcaster) -> None:
    received: list[str | None] = []
    async with broadcaster.subscribe() as subscription:
        broadcast(broadcaster, "1", "2", "does not fit")
        with pytest.raises(trio.BrokenResourceError):
            await read_into(received, subscription)
    assert received == ["1", "2"]


async def test_a_closed_one_raises_and_holds_nothing(broadcaster: Broadcaster) -> None:
    subscription = broadcaster.subscribe()
    broadcast(broadcaster, "1")
    with assert_no_checkpoints():
        subscription.close()
        subscription.close()
    assert broadcaster.client_count == 0
    broadcast(broadcaster, "2")
    with pytest.raises(trio.ClosedResourceError):
        subscription.receive_nowait()
    with pytest.raises(trio.ClosedResourceError):
        await subscription.receive()


async def test_a_reader_is_woken_when_its_subscription_is_closed(
    broadcaster: Broadcaster, nursery: trio.Nursery
) -> None:
    woken = trio.Event()

    async def read(subscription: Subscription) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()
        woken.set()

    subscription = broadcaster.subscribe()
    nursery.start_soon(read, subscription)
    await wait_all_tasks_blocked()
    subscription.close()
    await wait_all_tasks_blocked()
    assert woken.is_set()


async def test_aclose_leaves_and_checkpoints(broadcaster: Broadcaster) -> None:
    subscription = broadcaster.subscribe()
    for _ in range(2):
        with assert_checkpoints():
            await subscription.aclose()
        assert broadcaster.client_count == 0


async def test_a_cancelled_aclose_has_left(broadcaster: Broadcaster) -> None:
    subscription = broadcaster.subscribe()
    with trio.CancelScope() as scope:
        scope.cancel()
        await subscription.aclose()
    assert scope.cancelled_caught
    assert broadcaster.client_count == 0


async def test_both_kinds_of_block_leave_at_their_end(broadcaster: Broadcaster) -> None:
    async with broadcaster.subscribe() as first:
        assert broadcaster.client_count == 1
    async with broadcaster.subscribe() as second:
        assert broadcaster.client_count == 1
    for subscription in (first, second):
        with pytest.raises(trio.ClosedResourceError):
            subscription.receive_nowait()


async def test_a_block_that_fails_leaves_and_hides_nothing(broadcaster: Broadcaster) -> None:
    with pytest.raises(LookupError):
        async with broadcaster.subscribe():
            raise LookupError
    assert broadcaster.client_count == 0


async def test_a_receive_that_is_timed_out_loses_nothing(
    broadcaster: Broadcaster, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The events come at the very moment at which `receive` is cancelled."""

    async def publish() -> None:
        for number in range(200):
            await trio.sleep_until(number + 1)
            broadcast(broadcaster, str(number))

    received: list[str | None] = []
    timeouts = 0
    async with broadcaster.subscribe() as subscription:
        nursery.start_soon(publish)
        while len(received) < 200:
            with trio.move_on_at(trio.current_time() // 1 + 1) as scope:
                received.append((await subscription.receive()).data)
            timeouts += scope.cancelled_caught
    assert received == [str(number) for number in range(200)]
    assert timeouts > 0


async def test_its_statistics_are_those_of_a_memory_channel(broadcaster: Broadcaster) -> None:
    async with broadcaster.subscribe() as subscription:
        broadcast(broadcaster, "1")
        statistics = subscription.statistics()
    assert (statistics.current_buffer_used, statistics.max_buffer_size) == (1, 2)


async def test_a_subscription_knows_where_it_is() -> None:
    broadcaster = Broadcaster(strict=False)
    began = broadcaster.last_event_id
    with broadcaster.subscribe() as subscription:
        assert subscription.last_event_id == began
        for data in "abc":
            broadcaster.broadcast("x", data)
        assert subscription.last_event_id == began
        first = await subscription.receive()
        assert subscription.last_event_id == first.id
        second = subscription.receive_nowait()
        assert subscription.last_event_id == second.id
    with broadcaster.subscribe(last_event_id=first.id) as again:
        assert again.last_event_id == first.id
        assert (await again.receive()).id == second.id
        assert (await again.receive()).id == broadcaster.last_event_id == again.last_event_id


async def test_one_who_cannot_be_told_what_it_missed_is_at_the_end() -> None:
    broadcaster = Broadcaster(strict=False)
    broadcaster.broadcast("x", "y")
    with broadcaster.subscribe(last_event_id="?") as subscription:
        assert subscription.last_event_id == broadcaster.last_event_id
        assert (await subscription.receive()).event == RESET_EVENT
        assert subscription.last_event_id == broadcaster.last_event_id


async def test_without_a_history_there_is_no_id() -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    with broadcaster.subscribe() as subscription:
        broadcaster.broadcast("x", "y")
        await subscription.receive()
        assert broadcaster.last_event_id is subscription.last_event_id is None
