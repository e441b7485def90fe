"""How `sse_app` ends its responses, where it alone decides."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse._delivery import active_streams
from trio_sse._delivery.active_streams import ActiveStreams
from trio_sse.testing import open_event_stream

from ..support.apps import AppOf
from ..support.asgi import (
    Message,
    Receive,
    Send,
    Tap,
    with_failing_send,
    with_plain_receive,
    with_stuck_send,
)
from ..support.events import broadcast
from ..support.fake_bypass import direct
from ..support.streams import stalled_amid_an_event

# The client


async def test_nothing_is_sent_once_the_app_knows_that_the_client_has_left() -> None:
    """The event and the client's leaving come in the same moment; Trio chooses who acts first."""
    too_late: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        left = False

        async def watched_receive() -> Message:
            nonlocal left
            message = await receive()
            left = message["type"] == "http.disconnect"
            return message

        async def watched_send(message: Message) -> None:
            if left:
                too_late.append(message)
            await send(message)

        await sse_app(broadcaster)(scope, watched_receive, watched_send)

    for _ in range(50):
        broadcaster = Broadcaster(strict=False, history_size=0)
        async with trio.open_nursery() as nursery:
            stream = await open_event_stream(nursery, app)
            broadcaster.broadcast("x", "1")
            stream.disconnect()
    assert too_late == []


async def test_a_client_that_leaves_gets_no_last_chunk(nursery: trio.Nursery) -> None:
    app = Tap(sse_app(Broadcaster(history_size=0)))
    stream = await open_event_stream(nursery, app)
    stream.disconnect()
    await app.finished.wait()
    assert [message["type"] for message in app.sent] == ["http.response.start"]


async def test_what_a_client_sends_is_drained(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    sent: list[Message] = []
    to_app, receive = trio.open_memory_channel[Message](0)

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope: Message = {"type": "http", "method": "GET", "headers": []}
    nursery.start_soon(sse_app(broadcaster), scope, receive.receive, send)
    with trio.fail_after(1):
        for _ in range(1_000):
            await to_app.send({"type": "http.request", "body": b"x" * 1_000, "more_body": True})
    assert broadcaster.client_count == 1
    await to_app.send({"type": "http.disconnect"})
    await wait_all_tasks_blocked()
    assert broadcaster.client_count == 0
    assert len(sent) == 1


# Errors of `send`


@pytest.mark.parametrize("after", [0, 1, 2], ids=["head", "first event", "second event"])
async def test_an_oserror_from_send_is_a_client_that_has_left(after: int) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    app = Tap(with_failing_send(sse_app(broadcaster), ConnectionResetError(), after=after))
    async with trio.open_nursery() as nursery:
        if after:
            await open_event_stream(nursery, app)
            for _ in range(3):
                broadcaster.broadcast("x", "1")
                await wait_all_tasks_blocked()
        else:
            with pytest.raises(trio.BrokenResourceError, match="without a response"):
                await open_event_stream(nursery, app)
    assert app.finished.is_set()
    assert len(app.sent) == after
    assert broadcaster.client_count == broadcaster.statistics().streams == 0


async def test_an_oserror_from_the_last_chunk_is_a_client_that_has_left(
    nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    app = Tap(with_failing_send(sse_app(broadcaster), BrokenPipeError(), after=1))
    await open_event_stream(nursery, app)
    broadcaster.close()
    await app.finished.wait()
    assert broadcaster.statistics().streams == 0


async def test_an_error_after_the_head_is_no_clean_end(broadcaster: Broadcaster) -> None:
    app = Tap(with_failing_send(sse_app(broadcaster), LookupError("oops"), after=2))
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await open_event_stream(nursery, app)
            for _ in range(3):
                broadcaster.broadcast("x", "1")
                await wait_all_tasks_blocked()
    assert not app.ended
    assert broadcaster.client_count == broadcaster.statistics().streams == 0


async def test_an_error_of_receive_is_no_clean_end() -> None:
    fail = trio.Event()

    async def app(scope: Message, _: Receive, send: Send) -> None:
        await sse_app(Broadcaster(history_size=0))(scope, receive, send)

    async def receive() -> Message:
        await fail.wait()
        raise LookupError("oops")

    tap = Tap(app)
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await open_event_stream(nursery, tap)
            fail.set()
    assert not tap.ended


# Cancellation


async def test_a_cancelled_idle_stream_ends_cleanly(
    asgi_app_of: AppOf, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, asgi_app_of(Broadcaster(history_size=0)))
        nursery.cancel_scope.cancel()
    assert stream.complete
    assert trio.current_time() == 0


async def test_a_cancelled_stream_behind_any_receive_ends_cleanly() -> None:
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(
            nursery, with_plain_receive(sse_app(Broadcaster(history_size=0)))
        )
        nursery.cancel_scope.cancel()
    assert stream.complete


async def test_a_stream_cancelled_amid_an_event_is_cut(
    asgi_app_of: AppOf, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    async with trio.open_nursery() as nursery:
        app = Tap(asgi_app_of(broadcaster))
        stream = await stalled_amid_an_event(nursery, broadcaster, app)
        nursery.cancel_scope.cancel()
    assert not stream.complete
    assert app.sent[-1].get("more_body")
    assert trio.current_time() == 0
    with pytest.raises(trio.BrokenResourceError, match="cut off"):
        await stream.receive()


async def test_an_epilogue_that_blocks_is_given_up_after_half_a_second(
    asgi_app_of: AppOf, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, asgi_app_of(Broadcaster(history_size=0)))
        stream.stall()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 0.5
    assert not stream.complete


async def test_a_last_chunk_that_blocks_waits_for_the_client(
    asgi_app_of: AppOf, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(history_size=0)
    stream = await open_event_stream(nursery, asgi_app_of(broadcaster))
    stream.stall()
    broadcaster.close()
    await trio.sleep(1_000)
    assert broadcaster.statistics().streams == 1
    stream.resume()
    await wait_all_tasks_blocked()
    assert stream.complete
    assert broadcaster.statistics().streams == 0


@pytest.mark.parametrize("what", ["event", "last chunk"])
async def test_a_client_that_leaves_frees_a_send_that_never_returns(
    what: str, nursery: trio.Nursery, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    app = Tap(with_stuck_send(sse_app(broadcaster)))
    stream = await open_event_stream(nursery, app)
    if what == "event":
        broadcaster.broadcast("x", "1")
    else:
        broadcaster.close()
    await wait_all_tasks_blocked()
    stream.disconnect()
    await app.finished.wait()
    assert trio.current_time() == (0 if what == "event" else 0.5)
    assert len(app.sent) == 1


async def test_a_pruned_client_has_the_write_timeout_for_what_is_queued(
    app_of: AppOf, autojump_clock: MockClock
) -> None:
    """And no more, though it may take a byte now and then."""
    broadcaster = Broadcaster(4, strict=False, history_size=0)
    app, streams = app_of(broadcaster), ActiveStreams(write_timeout=5)

    async def carried(scope: Message, receive: Receive, send: Send) -> None:
        scope["extensions"][active_streams.EXTENSION] = streams
        await app(scope, receive, send)

    async with direct(carried) as (held, _):
        held.fill()
        broadcast(broadcaster, *range(9))
        assert broadcaster.statistics().clients_pruned == 1
        await trio.sleep(4.9)
        assert broadcaster.statistics().streams == 1
        await trio.sleep(0.2)
        assert broadcaster.statistics().streams == 0
