"""Where a broadcaster may be called from: outside of Trio, from threads, in run after run."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

import pytest
import trio

from trio_sse import Broadcaster, Subscription, sse_app
from trio_sse.testing import open_event_stream

FIX = r"trio\.from_thread\.run_sync\(broadcaster\.broadcast, event, data\)"


def in_thread(function: Callable[[], object]) -> None:
    """Run a function in a plain thread; what it raises is raised here."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            function()
        except Exception as error:
            errors.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


async def subscribe_to(broadcaster: Broadcaster) -> Subscription:
    await trio.lowlevel.checkpoint()
    return broadcaster.subscribe()


def test_without_clients_no_trio_is_needed() -> None:
    broadcaster = Broadcaster()
    broadcaster.register_event("x")
    broadcaster.broadcast("x", {"a": 1})
    assert broadcaster.client_count == 0
    assert broadcaster.statistics().events_broadcast == 1
    broadcaster.close()
    assert broadcaster.closed


def test_a_client_needs_trio() -> None:
    broadcaster = Broadcaster()
    with pytest.raises(RuntimeError):
        broadcaster.subscribe()
    assert broadcaster.client_count == 0


def test_without_clients_any_thread_may_broadcast(broadcaster: Broadcaster) -> None:
    in_thread(lambda: broadcaster.broadcast("x", "1"))
    assert broadcaster.statistics().events_broadcast == 1


async def test_with_clients_another_thread_is_told_how_to_broadcast() -> None:
    broadcaster = Broadcaster(strict=False)
    async with broadcaster.subscribe() as subscription:
        with pytest.raises(RuntimeError, match=FIX):
            await trio.to_thread.run_sync(broadcaster.broadcast, "x", "1")
        with pytest.raises(RuntimeError, match=FIX):
            in_thread(broadcaster.close)
        with pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()
        assert not broadcaster.closed
    assert broadcaster.statistics().events_broadcast == 0


async def test_a_thread_broadcasts_through_trio(broadcaster: Broadcaster) -> None:

    def publish() -> None:
        trio.from_thread.run_sync(broadcaster.broadcast, "x", "1")

    async with broadcaster.subscribe() as subscription, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, publish)
        assert (await subscription.receive()).data == "1"


async def test_another_run_is_refused_while_there_are_clients(broadcaster: Broadcaster) -> None:

    async def broadcast() -> None:
        await trio.lowlevel.checkpoint()
        broadcaster.broadcast("x", "1")

    async def subscribe() -> None:
        await trio.lowlevel.checkpoint()
        broadcaster.subscribe()

    async with broadcaster.subscribe() as subscription:
        for function in (broadcast, subscribe):
            with pytest.raises(RuntimeError, match=r"another trio\.run"):
                await trio.to_thread.run_sync(trio.run, function)
        assert broadcaster.client_count == 1
        with pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()


def test_another_run_may_have_the_broadcaster_once_that_of_its_clients_is_over() -> None:
    broadcaster = Broadcaster(strict=False)

    async def subscribe_and_broadcast() -> str | None:
        async with broadcaster.subscribe() as subscription:
            broadcaster.broadcast("x", "there")
            return (await subscription.receive()).data

    async def main() -> None:
        async with broadcaster.subscribe():
            pass
        with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run_sync"):
            await trio.to_thread.run_sync(trio.run, subscribe_and_broadcast)
        async with broadcaster.subscribe() as subscription:
            broadcaster.broadcast("x", "here")
            assert subscription.receive_nowait().data == "here"

    trio.run(main)
    assert trio.run(subscribe_and_broadcast) == "there"


def test_one_broadcaster_serves_run_after_run() -> None:
    broadcaster = Broadcaster(1, strict=False)
    kept: list[Subscription] = []

    async def serve(number: int) -> None:
        kept.append(broadcaster.subscribe())  # Never closed, never read.
        async with trio.open_nursery() as nursery:
            stream = await open_event_stream(nursery, sse_app(broadcaster))
            assert broadcaster.client_count == 2
            broadcaster.broadcast("x", number)
            assert (await stream.receive()).data == str(number)
            stream.disconnect()

    for number in range(3):
        trio.run(serve, number)
    assert broadcaster.statistics().clients_pruned == 0


def test_clients_of_a_run_that_is_over_are_forgotten(broadcaster: Broadcaster) -> None:

    left_over = trio.run(subscribe_to, broadcaster)
    broadcaster.broadcast("x", "to nobody")
    assert broadcaster.client_count == 0
    left_over.close()
    assert broadcaster.client_count == 0


def test_after_a_run_the_broadcaster_can_be_closed_outside_of_trio() -> None:
    broadcaster = Broadcaster(strict=False)

    left_over = trio.run(subscribe_to, broadcaster)
    broadcaster.close()
    assert broadcaster.closed
    left_over.close()


def test_clients_of_a_run_that_is_over_count_nowhere() -> None:
    broadcaster = Broadcaster(strict=False, max_clients=1)
    left: list[Subscription] = []

    async def forget_to_close() -> None:
        await trio.lowlevel.checkpoint()
        left.append(broadcaster.subscribe(key="ann"))
        broadcaster.broadcast("x", "1")

    async def go_on() -> None:
        with trio.fail_after(5):
            await broadcaster.wait_all_taken()
        assert broadcaster.disconnect("ann") == 0
        async with trio.open_nursery() as nursery:
            stream = await open_event_stream(nursery, sse_app(broadcaster))
            assert not stream.complete
            assert broadcaster.statistics().streams == 1
            stream.disconnect()

    trio.run(forget_to_close)
    assert broadcaster.client_count == broadcaster.statistics().clients == 0
    trio.run(go_on)
    trio.run(forget_to_close)
    trio.run(broadcaster.aclose)


async def test_a_thread_is_refused_too_once_the_last_client_has_left() -> None:
    """Or else it would depend on who is there whether a mistake is told."""
    broadcaster = Broadcaster(strict=False)
    async with broadcaster.subscribe():
        pass
    with pytest.raises(RuntimeError, match=FIX):
        await trio.to_thread.run_sync(broadcaster.broadcast, "x", "1")
    with pytest.raises(RuntimeError, match=FIX):
        await trio.to_thread.run_sync(trio.run, broadcaster.wait_all_taken)
    assert broadcaster.client_count == 0
