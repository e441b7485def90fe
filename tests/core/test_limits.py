"""How many may come, for how long, and when they come back."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from functools import partial
from typing import Any, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import END_ID, Broadcaster, sse_app
from trio_sse.testing import App, EventStream, open_event_stream

from ..support.streams import come_back
from ..support.ways import stream_app

RETRY = re.compile(rb"retry: (\d+)\n\n")


@pytest.fixture(params=[sse_app, stream_app], ids=["sse_app", "stream"])
def app_of(request: pytest.FixtureRequest) -> partial[App]:
    """Both ways to give a stream its options."""
    return partial(request.param)


async def is_turned_away(nursery: trio.Nursery, app: App) -> bool:
    """Tell whether a browser gets a reconnection time and the end instead of a stream."""
    headers = [("accept", "text/event-stream")]
    stream = await open_event_stream(nursery, app, headers=headers)
    if not stream.complete:
        stream.disconnect()
        await wait_all_tasks_blocked()
        return False
    assert stream.status == 200
    assert RETRY.fullmatch(stream.raw_bytes)
    return True


# Reconnection time


async def test_each_client_gets_a_reconnection_time_of_its_own_first_and_last(
    nursery: trio.Nursery, app_of: partial[App]
) -> None:
    broadcaster = Broadcaster(history_size=0, reconnection_time=(1, 5))
    streams = [await open_event_stream(nursery, app_of(broadcaster)) for _ in range(20)]
    broadcaster.close()
    times: list[int] = []
    for stream in streams:
        assert [event async for event in stream] == []
        matched = re.fullmatch(rb"retry: (\d+)\n\n?retry: (\d+)\n\n", stream.raw_bytes)
        assert matched
        times += map(int, matched.groups())
    assert 1000 <= min(times) < 2500
    assert 3500 < max(times) <= 5000
    assert len(set(times)) > 20


async def test_without_one_the_time_is_left_to_the_browser(
    nursery: trio.Nursery, app_of: partial[App]
) -> None:
    broadcaster = Broadcaster()
    stream = await open_event_stream(nursery, app_of(broadcaster))
    broadcaster.close()
    assert [event async for event in stream] == []
    assert b"retry" not in stream.raw_bytes


async def test_the_time_comes_before_all_else(nursery: trio.Nursery, app_of: partial[App]) -> None:
    broadcaster = Broadcaster(strict=False, reconnection_time=(2, 2))
    broadcaster.broadcast("tick", "a")
    stream = await come_back(nursery, app_of(broadcaster), "?")
    blocks = stream.raw_bytes.split(b"\n\n")
    assert blocks[0].startswith(b"retry: 2000\nevent: stream-reset\n")
    assert blocks[1].startswith(b"id: ")


@pytest.mark.parametrize("forced", ["cancelled", "pruned"])
async def test_the_epilogue_is_said_whoever_ends_the_stream(
    nursery: trio.Nursery, forced: str
) -> None:
    broadcaster = Broadcaster(1, strict=False, history_size=0, reconnection_time=(3, 3))
    async with trio.open_nursery() as served:
        stream = await open_event_stream(served, sse_app(broadcaster))
        if forced == "cancelled":
            served.cancel_scope.cancel()
        else:
            for data in "abc":  # One is in its reader's hands, one in its buffer.
                broadcaster.broadcast("tick", data)
    assert stream.complete
    assert stream.raw_bytes.endswith(b"retry: 3000\n\n")


# Age


async def test_a_stream_of_age_ends_cleanly_between_80_and_100_percent_of_it(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock, app_of: partial[App]
) -> None:
    broadcaster = Broadcaster(strict=False)
    ages: list[float] = []

    async def read() -> None:
        stream = await open_event_stream(nursery, app_of(broadcaster, max_age=100))
        begun = trio.current_time()
        assert [event.data async for event in stream] == ["a"]
        assert stream.complete
        ages.append(trio.current_time() - begun)

    async with trio.open_nursery() as readers:
        for _ in range(30):
            readers.start_soon(read)
        await trio.sleep(50)
        broadcaster.broadcast("tick", "a")
        assert broadcaster.client_count == 30
    assert 80 <= min(ages) < 90
    assert 90 < max(ages) <= 100
    assert broadcaster.client_count == 0
    assert broadcaster.statistics().clients_pruned == 0


async def test_a_stream_of_age_ends_though_events_never_cease(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock, app_of: partial[App]
) -> None:
    broadcaster = Broadcaster(strict=False)
    stream = await open_event_stream(nursery, app_of(broadcaster, max_age=10))
    for _ in range(200):
        await trio.sleep(0.1)
        broadcaster.broadcast("tick", "a")
    received = [event async for event in stream]
    assert stream.complete
    assert 78 <= len(received) <= 100


async def test_a_stream_of_age_gets_what_is_queued_and_its_browser_resumes(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock, app_of: partial[App]
) -> None:
    broadcaster = Broadcaster(strict=False)
    app = app_of(broadcaster, max_age=10)
    stream = await open_event_stream(nursery, app)
    stream.stall()
    sent = [str(number) for number in range(5)]
    for data in sent:
        broadcaster.broadcast("tick", data)
    await trio.sleep(20)
    stream.resume()
    events = [event async for event in stream]
    assert [event.data for event in events] == sent
    assert stream.complete
    broadcaster.broadcast("tick", "after")
    again = await come_back(nursery, app, events[-1].id)
    assert (await again.receive()).data == "after"
    again.disconnect()


async def test_heartbeats_go_on_until_the_age_is_reached(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock, app_of: partial[App]
) -> None:
    broadcaster = Broadcaster(history_size=0)
    stream = await open_event_stream(nursery, app_of(broadcaster, max_age=75))
    assert [event async for event in stream] == []
    assert stream.comments in (["heartbeat"] * 4, ["heartbeat"] * 5)  # 75 may be 75 itself.


# Limits


async def test_who_comes_when_it_is_full_is_told_to_come_back_and_nobody_is_put_out(
    nursery: trio.Nursery, app_of: partial[App]
) -> None:
    broadcaster = Broadcaster(max_clients=3)
    app = app_of(broadcaster)
    streams = [await open_event_stream(nursery, app) for _ in range(3)]
    assert await is_turned_away(nursery, app)
    refused = await open_event_stream(nursery, app, headers=[("accept", "*/*")])
    assert refused.status == 503
    assert broadcaster.client_count == 3
    streams[0].disconnect()
    await wait_all_tasks_blocked()
    assert not await is_turned_away(nursery, app)


async def test_a_key_has_its_own_limit(nursery: trio.Nursery, app_of: partial[App]) -> None:
    broadcaster = Broadcaster()
    ann, bob, anybody = (app_of(broadcaster, key=key, key_limit=2) for key in ("ann", "bob", None))
    streams = [await open_event_stream(nursery, app) for app in (ann, ann, bob, anybody, anybody)]
    streams.append(await open_event_stream(nursery, anybody))
    assert await is_turned_away(nursery, ann)
    assert broadcaster.client_count == 6
    streams[0].disconnect()
    await wait_all_tasks_blocked()
    assert not await is_turned_away(nursery, ann)


async def test_a_pruned_client_makes_room(nursery: trio.Nursery, app_of: partial[App]) -> None:
    broadcaster = Broadcaster(1, strict=False, max_clients=1)
    app = app_of(broadcaster, key="ann", key_limit=1)
    stream = await open_event_stream(nursery, app)
    stream.stall()
    while broadcaster.client_count:
        broadcaster.broadcast("tick", "x")
        await wait_all_tasks_blocked()
    assert not await is_turned_away(nursery, app)
    stream.disconnect()


@pytest.mark.parametrize(
    "options", [{"key_limit": 0}, {"key_limit": math.nan}, {"max_age": 0}, {"max_age": -1}], ids=str
)
async def test_options_of_a_stream_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    broadcaster = Broadcaster()
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        sse_app(broadcaster, **options)
    with pytest.raises(ValueError, match=f"{name} must be"):
        await broadcaster.stream(cast("Any", None), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"history_size": -1},
        {"history_size": 1.5},
        {"max_clients": 0},
        {"max_clients": "many"},
        {"reconnection_time": (5, 1)},
        {"reconnection_time": (-1, 1)},
        {"reconnection_time": (1, math.inf)},
        {"reconnection_time": (math.nan, 1)},
    ],
    ids=str,
)
def test_options_of_a_broadcaster_that_make_no_sense_are_refused(
    options: dict[str, object],
) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        Broadcaster(**options)  # type: ignore[arg-type]


# Disconnecting


async def test_a_key_is_disconnected_cleanly_and_others_stay(
    nursery: trio.Nursery, app_of: partial[App], broadcaster: Broadcaster
) -> None:
    opened: list[tuple[Hashable, EventStream]] = [
        (key, await open_event_stream(nursery, app_of(broadcaster, key=key)))
        for key in ("ann", "bob", "ann", None)
    ]
    broadcaster.broadcast("tick", "a")
    assert broadcaster.disconnect("ann") == 2
    assert broadcaster.disconnect(None) == 0
    assert broadcaster.client_count == 2
    broadcaster.broadcast("tick", "b")
    broadcaster.close()
    for key, stream in opened:
        expected = ["a"] if key == "ann" else ["a", "b"]
        assert [event.data async for event in stream] == expected
        assert stream.complete
    await wait_all_tasks_blocked()
    assert broadcaster.disconnect("ann") == 0


async def test_a_final_disconnect_lets_the_browser_stop_for_good(
    nursery: trio.Nursery, app_of: partial[App]
) -> None:
    broadcaster = Broadcaster(strict=False, reconnection_time=(1, 1))
    app = app_of(broadcaster, key="ann")
    stream = await open_event_stream(nursery, app)
    assert broadcaster.disconnect("ann", final=True) == 1
    assert [event async for event in stream] == []
    assert stream.complete
    assert stream.raw_bytes.endswith(b"id: end\nretry: 1000\nevent: stream-end\ndata: {}\n\n")
    answer = await come_back(nursery, app, "end")
    assert (answer.status, answer.raw_bytes, answer.complete) == (204, b"", True)
    assert not await is_turned_away(nursery, app)


async def test_a_subscriber_of_the_key_comes_to_its_end(broadcaster: Broadcaster) -> None:
    with broadcaster.subscribe(key="ann") as subscription:
        broadcaster.broadcast("tick", "a")
        assert broadcaster.disconnect("ann") == 1
        assert (await subscription.receive()).data == "a"
        with pytest.raises(trio.EndOfChannel):
            await subscription.receive()


def test_keys_of_a_run_that_is_over_are_forgotten(broadcaster: Broadcaster) -> None:

    async def subscribe() -> None:
        await trio.lowlevel.checkpoint()
        broadcaster.subscribe(key="ann")

    trio.run(subscribe)
    assert broadcaster.disconnect("ann") == 0


async def test_a_key_that_is_none_registers_nobody(broadcaster: Broadcaster) -> None:
    await trio.lowlevel.checkpoint()
    with pytest.raises(TypeError, match="key must be hashable"):
        broadcaster.subscribe(key=["a list"])  # type: ignore[arg-type]
    assert broadcaster.client_count == 0
    broadcaster.broadcast("x", "y")


async def test_a_final_disconnect_reaches_a_stream_that_drains(
    nursery: trio.Nursery, app_of: partial[App]
) -> None:
    broadcaster = Broadcaster(1, strict=False, reconnection_time=(1, 1))
    stream = await open_event_stream(nursery, app_of(broadcaster, key="ann"))
    stream.stall()
    while broadcaster.client_count:
        broadcaster.broadcast("tick", "x")
        await wait_all_tasks_blocked()
    assert broadcaster.disconnect("ann", final=True) == 1
    stream.resume()
    await wait_all_tasks_blocked()
    assert stream.complete
    assert stream.last_event_id == END_ID
    assert broadcaster.disconnect("ann", final=True) == 0
