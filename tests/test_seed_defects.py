"""The defects of the broadcaster that this package grew from (reference: D1 to D20), each gone."""

from __future__ import annotations

import logging
import time
from importlib.resources import files
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster, ServerSentEvent, sse_app
from trio_sse.testing import open_event_stream

from .support.asgi import Tap


async def test_d01_a_pruned_client_is_not_left_a_zombie(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(2, strict=False)
    app = Tap(sse_app(broadcaster))
    stream = await open_event_stream(nursery, app)
    stream.stall()
    for number in range(5):
        broadcaster.broadcast("x", number)
        await wait_all_tasks_blocked()
    stream.resume()
    assert [event.data async for event in stream] == ["0", "1", "2"]
    await app.finished.wait()
    assert trio.current_time() == 0
    assert stream.comments == []


def test_d02_an_event_name_cannot_forge_fields() -> None:
    forged = "ok\ndata: forged\n\nevent: admin"
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Broadcaster().register_event(forged)
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Broadcaster(strict=False).broadcast(forged, "x")


async def test_d03_a_bare_cr_in_the_data_cannot_forge_an_event(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False)
    stream = await open_event_stream(nursery, sse_app(broadcaster))
    broadcaster.broadcast("chat", "hi\r\revent: admin\rdata: pwned\r\r")
    broadcaster.close()
    events = [(event.event, event.data) async for event in stream]
    assert events == [("chat", "hi\n\nevent: admin\ndata: pwned\n\n")]


@pytest.mark.parametrize("data", [None, ["a"], 7, True, 1.5, {"a": 1}], ids=repr)
async def test_d04_data_of_any_ordinary_type_is_sent(data: object, nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False)
    stream = await open_event_stream(nursery, sse_app(broadcaster))
    broadcaster.broadcast("x", data)
    assert (await stream.receive()).json() == data


async def test_d05_a_mass_disconnect_is_no_slower_than_the_mass_connect() -> None:
    """Latest first is what a list of clients takes worst."""
    broadcaster = Broadcaster()
    await trio.lowlevel.checkpoint()
    start = time.process_time()
    clients = [broadcaster.subscribe() for _ in range(8_000)]
    connected = time.process_time()
    for client in reversed(clients):
        client.close()
    disconnected = time.process_time()
    assert broadcaster.client_count == 0
    assert disconnected - connected < 5 * (connected - start)  # With a list: fifteen times.


async def test_d06_a_cancelled_stream_does_not_swallow_the_cancellation() -> None:
    broadcaster = Broadcaster()

    async def receive() -> dict[str, Any]:
        return await trio.sleep_forever()

    async def send(_: object) -> None:
        await trio.lowlevel.checkpoint()

    with trio.move_on_after(0) as scope:
        await sse_app(broadcaster)({"type": "http", "method": "GET", "headers": []}, receive, send)
    assert scope.cancelled_caught
    assert broadcaster.client_count == 0


@pytest.mark.parametrize(
    "options", [{"buffer_size": 0}, {"buffer_size": -1}, {"heartbeat_interval": 0}], ids=repr
)
def test_d08_options_that_switch_a_protection_off_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Broadcaster(**options)


async def test_d09_a_thread_is_told_instead_of_delivering_late(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False)
    stream = await open_event_stream(nursery, sse_app(broadcaster))

    def publish() -> None:
        with pytest.raises(RuntimeError, match="from_thread"):
            broadcaster.broadcast("x", "late")
        trio.from_thread.run_sync(broadcaster.broadcast, "x", "at once")

    await trio.to_thread.run_sync(publish)
    assert (await stream.receive()).data == "at once"


async def test_d10_a_lone_surrogate_fails_in_the_publisher_and_harms_no_client(
    nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    streams = [await open_event_stream(nursery, sse_app(broadcaster)) for _ in range(3)]
    with pytest.raises(ValueError, match="lone surrogate"):
        broadcaster.broadcast("x", "poison \ud800")
    broadcaster.broadcast("x", "fine")
    assert [(await stream.receive()).data for stream in streams] == ["fine"] * 3


async def test_d11_one_call_ends_every_stream(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster()
    apps = [Tap(sse_app(broadcaster)) for _ in range(3)]
    streams = [await open_event_stream(nursery, app) for app in apps]
    with trio.fail_after(1):
        await broadcaster.aclose()
    assert all(stream.complete for stream in streams)


async def test_d12_the_headers_keep_proxies_from_buffering(nursery: trio.Nursery) -> None:
    headers = (await open_event_stream(nursery, sse_app(Broadcaster()))).headers
    assert headers["x-accel-buffering"] == "no"
    assert "no-transform" in headers["cache-control"]
    assert "connection" not in headers


async def test_d15_the_publisher_can_know_that_a_client_was_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broadcaster = Broadcaster(1, strict=False)
    async with broadcaster.subscribe():
        with caplog.at_level(logging.INFO, "trio_sse"):
            broadcaster.broadcast("x", "1")
            assert (broadcaster.statistics().clients_pruned, caplog.messages) == (0, [])
            broadcaster.broadcast("x", "2")
    assert broadcaster.statistics().clients_pruned == 1
    assert len(caplog.messages) == 1


async def test_d16_an_event_is_held_and_encoded_once_for_all_clients() -> None:
    broadcaster = Broadcaster(strict=False)
    async with broadcaster.subscribe() as first, broadcaster.subscribe() as second:
        broadcaster.broadcast("x", "y" * 1_000)
        event = first.receive_nowait()
        assert second.receive_nowait() is event
        assert event.encode() is event.encode()


async def test_d19_it_runs_on_trio_and_ships_its_types(nursery: trio.Nursery) -> None:
    assert files("trio_sse").joinpath("py.typed").is_file()
    broadcaster = Broadcaster(strict=False, history_size=0)
    stream = await open_event_stream(nursery, sse_app(broadcaster))
    broadcaster.broadcast("x", "1")
    await stream.receive()
    assert stream.raw_bytes == ServerSentEvent("x", "1").encode()
