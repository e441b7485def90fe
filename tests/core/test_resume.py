"""A client that comes back: what it missed, or word that this cannot be known."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import RESET_EVENT, Broadcaster, ServerSentEvent, sse_app
from trio_sse._core.history import LocalHistory
from trio_sse.testing import EventStream, ReceivedEvent, open_event_stream

from ..support.apps import AppOf
from ..support.events import broadcast, told
from ..support.streams import check_reset, come_back, position
from ..support.thorough import THOROUGH
from ..support.ways import see

ID = re.compile(r"[0-9a-f]{12}-\d+")


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(strict=False, history_size=4)


async def ids_of(broadcaster: Broadcaster, *data: str) -> list[str]:
    """Broadcast, and return the ids that the events got."""
    with broadcaster.subscribe() as subscription:
        broadcast(broadcaster, *data)
        events = [await subscription.receive() for _ in data]
    return [str(event.id) for event in events]


async def read_all(stream: EventStream, broadcaster: Broadcaster) -> list[ReceivedEvent]:
    broadcaster.close()
    return [event async for event in stream]


async def test_every_event_has_an_id_of_the_epoch_and_its_number(broadcaster: Broadcaster) -> None:
    ids = await ids_of(broadcaster, "a", "b", "c")
    assert all(map(ID.fullmatch, ids))
    assert [each.partition("-")[2] for each in ids] == ["1", "2", "3"]
    assert len({each.partition("-")[0] for each in ids}) == 1


async def test_what_cannot_be_sent_takes_no_id(broadcaster: Broadcaster) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        broadcaster.broadcast("x", "\ud800")
    (only,) = await ids_of(broadcaster, "a")
    assert only.endswith("-1")


async def test_each_broadcaster_has_an_epoch_of_its_own() -> None:
    ids = [await ids_of(Broadcaster(strict=False), "x") for _ in range(50)]
    assert len({each for (each,) in ids}) == 50


def test_each_process_has_an_epoch_of_its_own_even_after_a_fork() -> None:
    program = (
        "import os, trio, trio_sse\n"
        "broadcaster = trio_sse.Broadcaster(strict=False)\n"
        "async def main():\n"
        "    with broadcaster.subscribe() as subscription:\n"
        "        broadcaster.broadcast('x', 'x')\n"
        "        os.write(1, f'{(await subscription.receive()).id}\\n'.encode())\n"
        "child = os.fork()\n"
        "trio.run(main)\n"
        "child and os.waitpid(child, 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    first, second = run.stdout.split()
    assert first != second


async def test_a_first_connect_is_told_where_the_stream_is_and_gets_nothing_old(
    nursery: trio.Nursery, app_of: AppOf, broadcaster: Broadcaster
) -> None:
    *_, last = await ids_of(broadcaster, "a", "b")
    stream = await open_event_stream(nursery, app_of(broadcaster))
    assert stream.raw_bytes == position(last)
    broadcast(broadcaster, "c")
    assert told(await read_all(stream, broadcaster)) == [("x", "c")]


async def test_a_client_that_comes_before_the_first_event_can_come_back(
    nursery: trio.Nursery, app_of: AppOf, broadcaster: Broadcaster
) -> None:
    stream = await open_event_stream(nursery, app_of(broadcaster))
    where = see(stream.raw_bytes).id
    stream.disconnect()
    broadcast(broadcaster, "a", "b")
    again = await come_back(nursery, app_of(broadcaster), where)
    assert told(await read_all(again, broadcaster)) == [("x", "a"), ("x", "b")]


@pytest.mark.parametrize("seen", range(1, 6))
async def test_who_comes_back_gets_exactly_what_it_missed_then_what_comes(
    nursery: trio.Nursery, app_of: AppOf, broadcaster: Broadcaster, seen: int
) -> None:
    ids = await ids_of(broadcaster, "1", "2", "3", "4", "5")
    stream = await come_back(nursery, app_of(broadcaster), ids[seen - 1])
    broadcast(broadcaster, "6")
    events = await read_all(stream, broadcaster)
    assert told(events) == [("x", str(number)) for number in range(seen + 1, 7)]
    assert [event.id for event in events[:-1]] == ids[seen:]
    # No block more, such as one with the id: the last one seen has it.
    assert stream.raw_bytes.count(b"\n\n") == 6 - seen


async def test_a_replay_may_be_longer_than_the_buffer(nursery: trio.Nursery, app_of: AppOf) -> None:
    broadcaster = Broadcaster(2, strict=False, history_size=10_000)
    first, *_ = await ids_of(broadcaster, "first")
    expected = [f"{number} {'x' * 100}" for number in range(1500)]
    broadcast(broadcaster, *expected)
    stream = await come_back(nursery, app_of(broadcaster), first)
    broadcast(broadcaster, "live")
    events = await read_all(stream, broadcaster)
    assert [event.data for event in events] == [*expected, "live"]
    assert broadcaster.statistics().clients_pruned == 0


@pytest.mark.parametrize(
    ("last_event_id", "reason"),
    [
        ("{old}", "too old"),
        ("{epoch}-99", "still to come"),
        ("0123456789ab-1", "another server"),
        ("{epoch}-01", "malformed"),
        ("{epoch}-", "malformed"),
        ("{epoch}-1 ", "malformed"),
        ("{epoch}--1", "malformed"),
        ("{epoch}-١", "malformed"),  # noqa: RUF001 (an Arabic digit)
        ("{epoch}-" + "9" * 30, "malformed"),
        ("x" * 100_000, "malformed"),
        ("grün", "malformed"),
        ("\ud800", "malformed"),
    ],
    ids=lambda text: text[:20].encode("ascii", "replace").decode(),
)
async def test_an_id_that_does_not_tell_what_was_missed_is_answered_with_a_reset(
    nursery: trio.Nursery, app_of: AppOf, broadcaster: Broadcaster, last_event_id: str, reason: str
) -> None:
    old, *_, last = await ids_of(broadcaster, *"abcdef")
    epoch = last.partition("-")[0]
    sent = last_event_id.format(old=old, epoch=epoch).encode("utf-8", "surrogatepass")
    stream = await come_back(nursery, app_of(broadcaster), sent.decode("latin-1"))
    (event,) = await read_all(stream, broadcaster)
    check_reset(stream, event, reason, last)


async def test_the_id_may_come_in_the_query_for_those_who_cannot_set_headers(
    nursery: trio.Nursery, app_of: AppOf, broadcaster: Broadcaster
) -> None:
    ids = await ids_of(broadcaster, "a", "b", "c")
    path = f"/events?x=%ff&lastEventId={ids[0]}&lastEventId={ids[2]}"
    stream = await open_event_stream(nursery, app_of(broadcaster), path)
    other = await come_back(nursery, app_of(broadcaster), ids[1], path)
    assert told(await read_all(stream, broadcaster)) == [("x", "b"), ("x", "c")]
    assert told(await read_all(other, broadcaster)) == [("x", "c")]


@pytest.mark.parametrize("path", ["/events?lastEventId=", "/events?lasteventid=x", "/events?%ff%f"])
async def test_a_query_without_an_id_is_a_first_connect(
    nursery: trio.Nursery, app_of: AppOf, broadcaster: Broadcaster, path: str
) -> None:
    stream = await open_event_stream(nursery, app_of(broadcaster), path)
    assert await read_all(stream, broadcaster) == []
    assert stream.raw_bytes.startswith(b"id: ")


async def test_without_history_there_are_no_ids_and_the_header_is_ignored(
    nursery: trio.Nursery, app_of: AppOf
) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    stream = await come_back(nursery, app_of(broadcaster), "0123456789ab-1")
    broadcast(broadcaster, "a")
    assert told(await read_all(stream, broadcaster)) == [("x", "a")]
    assert b"id:" not in stream.raw_bytes


async def test_a_subscriber_comes_back_in_the_same_way(broadcaster: Broadcaster) -> None:
    ids = await ids_of(broadcaster, "a", "b", "c")
    with broadcaster.subscribe(last_event_id=ids[0]) as subscription:
        broadcast(broadcaster, "d")
        assert [subscription.receive_nowait().data for _ in range(2)] == ["b", "c"]
        assert (await subscription.receive()).data == "d"
        with pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()
    with broadcaster.subscribe(last_event_id="?") as subscription:
        event = await subscription.receive()
        assert (event.event, event.id) == (RESET_EVENT, None)


async def test_a_subscriber_that_has_left_gets_nothing_of_what_it_missed(
    broadcaster: Broadcaster,
) -> None:
    ids = await ids_of(broadcaster, "a", "b")
    subscription = broadcaster.subscribe(last_event_id=ids[0])
    subscription.close()
    with pytest.raises(trio.ClosedResourceError):
        await subscription.receive()


async def test_two_readers_of_one_subscription_share_what_it_missed(
    nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    ids = await ids_of(broadcaster, "a", "b")
    received: list[str | None] = []

    async def receive() -> None:
        received.append((await subscription.receive()).data)

    with broadcaster.subscribe(last_event_id=ids[0]) as subscription:
        nursery.start_soon(receive)
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        assert received == ["b"]
        broadcast(broadcaster, "c")
        await wait_all_tasks_blocked()
        assert received == ["b", "c"]


async def test_waiting_until_all_is_taken_waits_for_a_replay_too(
    autojump_clock: trio.abc.Clock, broadcaster: Broadcaster
) -> None:
    ids = await ids_of(broadcaster, "a", "b", "c")
    with broadcaster.subscribe(last_event_id=ids[0]) as subscription:
        with trio.move_on_after(1) as scope:
            await broadcaster.wait_all_taken()
        assert scope.cancelled_caught
        assert [subscription.receive_nowait().data for _ in range(2)] == ["b", "c"]
        await broadcaster.wait_all_taken()


async def test_a_pruned_client_that_comes_back_gets_exactly_what_it_missed(
    nursery: trio.Nursery, app_of: AppOf
) -> None:
    broadcaster = Broadcaster(2, strict=False)
    stream = await open_event_stream(nursery, app_of(broadcaster))
    stream.stall()
    sent = [str(number) for number in range(20)]
    broadcast(broadcaster, *sent)
    await wait_all_tasks_blocked()
    broadcast(broadcaster, *sent)
    assert broadcaster.statistics().clients_pruned == 1
    stream.resume()
    seen = [event async for event in stream]
    again = await come_back(nursery, app_of(broadcaster), seen[-1].id)
    events = [*seen, *await read_all(again, broadcaster)]
    assert [event.data for event in events] == sent * 2


async def test_many_who_come_back_get_what_they_missed_while_history_moves_on(
    nursery: trio.Nursery,
) -> None:
    broadcaster = Broadcaster(strict=False, history_size=200)
    app = sse_app(broadcaster)
    ids = await ids_of(broadcaster, "0")
    for number in range(1, 700 if THOROUGH else 300):
        ids += await ids_of(broadcaster, str(number))
        if number % 37 == 0:
            for missed in range(1, min(number, 200), 31):
                stream = await come_back(nursery, app, ids[number - missed])
                data = [(await stream.receive()).data for _ in range(missed)]
                assert data == [str(n) for n in range(number - missed + 1, number + 1)]
                stream.disconnect()


def test_what_is_kept_for_those_who_come_back_is_bounded() -> None:
    history = LocalHistory(128)
    tracemalloc.start()
    try:
        for number in range(1000):
            history.append(ServerSentEvent("tick", f"{number} {'x' * 10_000}"), None)
            if number % 50 == 0:
                history.wire_from(max(0, number - 100), frozenset())
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2.5 * 128 * 20_000  # Each event is text and bytes, and once more in a block.
